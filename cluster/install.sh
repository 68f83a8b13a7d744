#!/usr/bin/env bash
# Sets up rayflow in a virtual environment: cluster/install.sh cpu|gpu [FOLDER, default .venv]
# Does nothing if the environment already holds what the project's requirements ask for, which are taken at the
# versions that the tests run on (cluster/constraints.txt).
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
[ "$flavour" != cpu ] || "$python" -c 'import ctypes; ctypes.CDLL("libnuma.so.1")' 2>/dev/null || {
  echo "libnuma is needed (Debian: apt-get install libnuma1): vLLM's CPU build loads it." >&2
  exit 1
}

stamp="$venv/.rayflow-$flavour"
other="$([ "$flavour" = gpu ] && echo cpu || echo gpu)"
# pip would keep the other build's PyTorch, whose version is the same, and lay one vLLM over the other.
[ ! -e "$venv/.rayflow-$other" ] || {
  echo "$venv holds the $other build. Install beside it: bash cluster/install.sh $flavour .venv-$flavour" >&2
  exit 1
}
wanted="$(cat pyproject.toml cluster/constraints.txt cluster/cpu/requirements.txt | cksum)"
if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
  exit 0
fi
echo "Setting up $venv ($flavour); about two minutes and 4 GB the first time." >&2
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
pip=("$venv/bin/python" -m pip)
# PyTorch's CPU build is on its own index; PyPI's is for CUDA. An index of your own in pip's settings is left alone.
case "$flavour $("${pip[@]}" config list)" in
  gpu* | *index-url* | *find-links*) ;;
  *) export PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu ;;
esac
case "$flavour" in
  cpu) "${pip[@]}" install --quiet -c cluster/constraints.txt -r cluster/cpu/requirements.txt ;;
  gpu) "${pip[@]}" install --quiet -c cluster/constraints.txt -e '.[gpu,demo,test]' ;;
  *) echo "Unknown flavour '$flavour': cpu or gpu" >&2; exit 1 ;;
esac
echo "$wanted" > "$stamp"
