"""`python -m tests.benchmarks NAME [options]`."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import sys

NAMES = ("sample", "score", "select", "train", "reference", "quickstart", "select-scale", "pipeline", "scale")


def main() -> None:
    """Run one benchmark and print its JSON line."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    commands = parser.add_subparsers(dest="name", required=True)
    modules = {name: importlib.import_module(f"tests.benchmarks.{name.replace('-', '_')}") for name in NAMES}
    for name, module in modules.items():
        module.add_arguments(commands.add_parser(name, help=module.__doc__.strip().splitlines()[0]))
    arguments = parser.parse_args()
    if getattr(arguments, "device", "cuda") == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # for both sides; read when torch first looks for GPUs
    with contextlib.redirect_stdout(sys.stderr):  # where a library reports on itself
        found = modules[arguments.name].run(arguments)
    print(json.dumps({"benchmark": arguments.name, **found}))


if __name__ == "__main__":
    main()
