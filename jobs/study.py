"""Run or resume a study: python jobs/study.py jobs/configs/study/sentiment.yaml [--set a.b=value]."""

from __future__ import annotations

import sys

from rayflow.cli.app import main

if __name__ == "__main__":
    sys.argv[1:1] = ["study", "run"]
    main()
