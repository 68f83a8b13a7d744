#!/usr/bin/env bash
# Sets up and passes the tests. Further arguments go to pytest, for instance: bash tests/run.sh -k losses
set -euo pipefail
cd "$(dirname "$0")/.."
bash cluster/install.sh cpu
.venv/bin/ruff check rayflow jobs tests
.venv/bin/ruff format --check rayflow jobs tests
# Threads that wait for each other leave their core to the other queue, and do not spin on it.
export OMP_WAIT_POLICY=PASSIVE
# Two queues (tests/conftest.py says which); a -n of your own takes its place.
exec .venv/bin/python -m pytest -p no:cacheprovider -n 2 --no-loadscope-reorder "$@"
