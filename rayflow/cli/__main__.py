"""`python -m rayflow.cli`."""

from rayflow.cli.app import main

main()
