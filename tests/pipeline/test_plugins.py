"""Which modules are a person's own, and what they import, whatever they are written in."""

from __future__ import annotations

import site
from pathlib import Path

import pytest

from rayflow.errors import ConfigError
from rayflow.pipeline.plugins import find_plugins


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_a_module_may_name_its_own_encoding(folder: Path) -> None:
    (folder / "plug_latin.py").write_bytes(
        "# -*- coding: latin-1 -*-\nimport plug_other\n# ä\n".encode("latin-1")
    )
    (folder / "plug_other.py").write_text("WORD = 'x'\n")
    found = find_plugins({"kind": "plug_latin:Reward"})
    assert set(found.sources) == {"plug_latin", "plug_other"}


def test_a_module_that_is_no_text_is_named(folder: Path) -> None:
    (folder / "plug_torn.py").write_bytes(b"WORD = '\xe4'  # without a word on its encoding\n")
    with pytest.raises(ConfigError, match=r"plug_torn\.py.* is not Python"):
        find_plugins({"kind": "plug_torn:Reward"})


def test_a_compiled_module_is_sent_as_it_is(folder: Path) -> None:
    import importlib.machinery

    name = f"plug_fast{importlib.machinery.EXTENSION_SUFFIXES[0]}"
    (folder / name).write_bytes(b"\x7fELF\x00")
    assert find_plugins({"kind": "plug_fast:Reward"}).sources == {"plug_fast": folder / name}


def test_packages_of_the_users_site_are_installed_ones(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site, "getusersitepackages", lambda: str(folder))
    (folder / "plug_installed.py").write_text("import sys\n")
    found = find_plugins({"kind": "plug_installed:Reward"})
    assert not found.sources and found.installed == {"plug_installed"}
