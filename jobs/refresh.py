"""The nightly refresh as a cluster runs it: python jobs/refresh.py CONFIG [options of `rayflow refresh`]."""

import sys

# This folder's files would stand in for modules of the same names, such as the standard library's `select`.
sys.path[:] = [entry for entry in sys.path if entry != __file__.rpartition("/")[0]]

from rayflow.cli.app import main  # noqa: E402

if __name__ == "__main__":
    main(["refresh", *sys.argv[1:]])
