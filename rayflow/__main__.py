"""`python -m rayflow`: the command line, where its script is not on the path."""

from rayflow.cli.app import main

main()
