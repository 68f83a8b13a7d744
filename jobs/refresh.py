"""The nightly refresh as a cluster runs it: `python jobs/refresh.py CONFIG [--date D] [--set a.b=value]`.

The same command as `rayflow refresh`, and the same exit codes: 0 done, 3 held back by the gate, 75 busy.
"""

import sys

from rayflow.cli.app import main

if __name__ == "__main__":
    sys.argv.insert(1, "refresh")
    main()
