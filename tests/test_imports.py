"""The shape of the package, read from its imports: who may know whom, and what stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "rayflow"
FAMILIES = {
    *("engines", "rewards", "selection", "pairing", "losses"),
    *("training", "evaluation", "report", "sources", "tracking", "doctor", "judges"),
}
# Who may read whose interface; everything else between families goes through the pipeline.
INTERFACES = {
    ("training", "rayflow.losses.base"),
    ("pairing", "rayflow.rewards.base"),
    ("evaluation", "rayflow.rewards.base"),
    ("judges", "rayflow.engines.base"),
}
ONLY_IN = {
    "ray": ["dist/"],
    "vllm": ["engines/vllm.py", "rewards/vllm_scorer.py"],
    "deepspeed": ["training/deepspeed.py", "training/deepspeed_library.py", "training/universal.py"],
    "mlflow": ["tracking/mlflow.py"],
    "tensorboardX": ["tracking/tensorboard.py"],
    "deltalake": ["refresh/table.py"],
    "datasketch": ["refresh/dedup.py"],
}
# What is built on the pipeline, beside each other.
SERVICES = {"cluster", "refresh", "schedule", "study"}
UPPER = {"config", "pipeline", "dist", "cli", *SERVICES}
# Lower rooms never know the higher ones.
FORBIDDEN = {
    "errors": {"core", *FAMILIES, *UPPER},
    "core": {*FAMILIES, *UPPER},
    **dict.fromkeys(FAMILIES, UPPER),
    "config": UPPER - {"config"},
    # commands.py chooses the runner, so the pipeline may name `dist`, lazily (the last test).
    "pipeline": {"cli", *SERVICES},
    "dist": {"cli", *SERVICES},
    "refresh": {"dist", "cli"},
    "study": {"dist", "cli"},
    # It starts a command, and knows of it nothing but its name and its configuration.
    "schedule": {"pipeline", "dist", "cli", *FAMILIES},
    # Manifests are text: they know what a cluster is made from, not what runs on it.
    "cluster": {"pipeline", "dist", "config", "cli", *FAMILIES},
}
HEAVY = ("ray", "torch", "vllm", "deepspeed", "transformers", "deltalake", "datasketch")


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imports(tree: ast.AST) -> Iterator[str]:
    """Full names of all modules imported anywhere in the tree, functions and TYPE_CHECKING blocks included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            yield from (a.value for a in node.args if isinstance(a, ast.Constant))


def of_type_checking(tree: ast.AST) -> set[str]:
    """Names imported for annotations only, which cost nothing and couple nothing at run time."""
    blocks = [n for n in ast.walk(tree) if isinstance(n, ast.If) and "TYPE_CHECKING" in ast.unparse(n.test)]
    return {name for block in blocks for name in imports(block)}


SOURCES = {path.relative_to(ROOT).as_posix(): parsed(path) for path in sorted(ROOT.rglob("*.py"))}


def room(name: str) -> str:
    """The room of a source file, or of a module name."""
    return name.split("/")[0].removesuffix(".py")


def inner(tree: ast.AST) -> set[str]:
    return {name for name in imports(tree) if name.startswith("rayflow.")}


def test_there_is_something_to_look_at():
    assert len(SOURCES) > 30
    assert "rayflow.core.options" in inner(SOURCES["selection/base.py"])


@pytest.mark.parametrize("package", ONLY_IN)
def test_a_heavy_framework_is_imported_in_its_one_place(package):
    users = [path for path, tree in SOURCES.items() if any(n.split(".")[0] == package for n in imports(tree))]
    assert users, "nothing imports it: its line in ONLY_IN is of no use, or misspelt"
    assert [path for path in users if not any(path.startswith(place) for place in ONLY_IN[package])] == []


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_families_do_not_import_each_other(family):
    others = FAMILIES - {family}
    wrong = [
        (path, name)
        for path, tree in SOURCES.items()
        if room(path) == family
        for name in inner(tree) - of_type_checking(tree)
        if name.split(".")[1] in others
        and not any(who == family and name.startswith(base) for who, base in INTERFACES)
        # `from rayflow.losses import base` names the package first, which alone is no dependence
        and name.count(".") > 1
    ]
    assert wrong == []


@pytest.mark.parametrize("lower", sorted(FORBIDDEN))
def test_imports_go_one_way(lower):
    wrong = [
        (path, name)
        for path, tree in SOURCES.items()
        if room(path) == lower
        for name in inner(tree) - of_type_checking(tree)
        if name.split(".")[1] in FORBIDDEN[lower]
    ]
    assert wrong == []


def modules(*rooms: str) -> list[str]:
    names = [path.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for path in SOURCES]
    names = [name for name in names if not name.endswith("__main__")]  # it runs the program
    return [f"rayflow.{name}" for name in names if name.split(".")[0] in rooms]


@pytest.mark.parametrize(
    "rooms",
    [
        ("errors", "core", "config"),
        ("selection", "pairing", "rewards", "sources", "judges"),
        ("pipeline", *sorted(SERVICES - {"schedule"}), "cli"),
        ("schedule",),
    ],
    ids="-".join,
)
def test_what_answers_on_the_command_line_loads_nothing_heavy(rooms):
    """In a fresh interpreter: this one has long since loaded torch."""
    code = (
        f"import importlib, sys\nfor name in {modules(*rooms)!r}: importlib.import_module(name)\n"
        f"print(','.join(name for name in {HEAVY!r} if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""
