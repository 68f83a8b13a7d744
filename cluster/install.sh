#!/usr/bin/env bash
# Sets up rayflow in a virtual environment: cluster/install.sh cpu|gpu [FOLDER, default .venv]
# Does nothing if the environment already holds what the project's requirements ask for.
set -euo pipefail
cd "$(dirname "$0")/.."
flavour="${1:-cpu}"
venv="${2:-.venv}"
python="${PYTHON:-python3}"

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "rayflow needs Python 3.11 or newer; $("$python" --version) is too old. Set PYTHON=/path/to/python3.11" >&2
  exit 1
}
command -v c++ >/dev/null || command -v g++ >/dev/null || {
  echo "A C++ compiler is needed (Debian: apt-get install g++): DeepSpeed builds its CPU collectives." >&2
  exit 1
}

stamp="$venv/.rayflow-$flavour"
wanted="$(cat pyproject.toml cluster/cpu/requirements.txt | cksum)"
if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
  exit 0
fi
echo "Setting up $venv ($flavour); about two minutes and 4 GB the first time." >&2
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
case "$flavour" in
  cpu) "$venv/bin/python" -m pip install --quiet -r cluster/cpu/requirements.txt ;;
  gpu) "$venv/bin/python" -m pip install --quiet -e '.[gpu,demo,test]' ;;
  *) echo "Unknown flavour '$flavour': cpu or gpu" >&2; exit 1 ;;
esac
echo "$wanted" > "$stamp"
