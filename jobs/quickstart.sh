#!/usr/bin/env bash
# Sets everything up and runs the demonstration job, whole. Run again: set-up and finished stages are skipped.
# Further arguments go to `rayflow run`, for instance: bash jobs/quickstart.sh --set name=second --set seed=2
set -euo pipefail
cd "$(dirname "$0")/.."
bash cluster/install.sh cpu
model="$(.venv/bin/python jobs/demo_model.py)"
exec .venv/bin/rayflow run jobs/configs/quickstart.yaml --set "model=$model" "$@"
