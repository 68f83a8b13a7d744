"""Measures a policy, an evaluation's or a run's: python jobs/evaluate.py CONFIG [options of `rayflow evaluate`]."""

import sys

# This folder's files would stand in for modules of the same names, such as the standard library's `select`.
sys.path[:] = [entry for entry in sys.path if entry != __file__.rpartition("/")[0]]

from rayflow.cli.app import main  # noqa: E402

if __name__ == "__main__":
    main(["evaluate", *sys.argv[1:]])
