from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import pytest

from rayflow.core import model_folder
from rayflow.core.model_folder import (
    check_model_folder,
    damaged_files,
    is_hub_id,
    model_digest,
    resolve_model,
)
from rayflow.errors import ModelError
from rayflow.training.checkpoints import write_checksums


@pytest.fixture(autouse=True)
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    cache = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.delenv("HF_HOME", raising=False)
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    return cache


def safetensors(values: bytes = b"\x00" * 8) -> bytes:
    header = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, len(values)]}}).encode()
    return struct.pack("<Q", len(header)) + header + values


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "model"
    path.mkdir()
    (path / "config.json").write_text("{}")
    (path / "tokenizer.json").write_text("{}")
    (path / "model.safetensors").write_bytes(safetensors())
    return path


def test_a_whole_folder_passes(folder: Path) -> None:
    check_model_folder(str(folder))


def test_a_real_model_passes(tiny_model: str) -> None:
    check_model_folder(tiny_model)
    assert len(model_digest(tiny_model)) == 64


@pytest.mark.parametrize("model", ["HuggingFaceTB/SmolLM2-135M-Instruct", "gpt2"])
def test_hub_ids_pass_unseen(model: str) -> None:
    check_model_folder(model)
    assert is_hub_id(model)
    assert model_digest(model) == model


@pytest.mark.parametrize(
    "model", ["./org/name", "~/no-such-model", "/no/such/model", "a/b/c", "s3://b/m", ""]
)
def test_what_looks_like_a_path_must_exist(model: str) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        check_model_folder(model)


def test_a_file_is_not_a_folder(folder: Path) -> None:
    with pytest.raises(ModelError, match="is a file"):
        check_model_folder(str(folder / "config.json"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("config.json", "no config.json"),
        ("tokenizer.json", "no tokenizer"),
        ("model.safetensors", "no safetensors weights"),
    ],
)
def test_a_missing_file_is_named(folder: Path, name: str, message: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ModelError, match=message):
        check_model_folder(str(folder))


def test_pickled_weights_are_refused_with_the_conversion(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"only pytorch_model.bin.*save_pretrained"):
        check_model_folder(str(folder))


@pytest.mark.parametrize("content", [b"", b"version https://git-lfs.github.com/spec/v1", safetensors()[:-1]])
def test_damaged_weights_are_found_before_any_engine_starts(folder: Path, content: bytes) -> None:
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match="damaged or cut short"):
        check_model_folder(str(folder))


def test_a_missing_shard_is_named(folder: Path) -> None:
    index = {"weight_map": {"w": "model.safetensors", "v": "model-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match="lacks model-2.safetensors"):
        check_model_folder(str(folder))


def test_home_and_variables_are_expanded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder.parent))
    monkeypatch.setenv("MODELS", str(folder.parent))
    assert resolve_model("~/model") == resolve_model("$MODELS/model") == str(folder)
    check_model_folder("$MODELS/model")
    assert resolve_model("org/name") == "org/name"


def test_a_folders_path_is_absolute_wherever_a_worker_works(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative one would name a model of the hub where the worker's folder is another."""
    monkeypatch.chdir(folder.parent)
    assert resolve_model("model") == resolve_model("./model") == str(folder)


def test_a_flipped_bit_is_found_where_the_file_is_read_again(folder: Path) -> None:
    write_checksums(folder)
    check_model_folder(str(folder))
    weights = folder / "model.safetensors"
    stat, content = weights.stat(), bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # as a disk leaves it
    assert damaged_files(folder) == []
    assert damaged_files(folder, remembered=False) == ["model.safetensors"]


def test_digest_is_content_not_place(folder: Path) -> None:
    before = model_digest(str(folder))
    (folder / "README.md").write_text("notes do not count")
    moved = folder.rename(folder.parent / "moved")
    assert model_digest(str(moved)) == before


@pytest.mark.parametrize(
    "name", ["config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"]
)
def test_digest_notices_a_change_of(folder: Path, name: str) -> None:
    before = model_digest(str(folder))
    (folder / name).write_bytes(b"other")
    assert model_digest(str(folder)) != before


def test_digest_reads_an_unchanged_file_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = model_digest(str(folder))
    monkeypatch.setattr(model_folder.hashlib, "file_digest", None)  # a second read would fail
    assert model_digest(str(folder)) == before


def test_a_damaged_or_unwritable_cache_costs_only_time(
    folder: Path, private_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = model_digest(str(folder))
    cache = private_cache / "rayflow" / "digests.json"
    assert [p.name for p in cache.parent.iterdir()] == ["digests.json"]  # no temporary file is left
    cache.write_text("{cut")
    assert model_digest(str(folder)) == before
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "config.json"))
    assert model_digest(str(folder)) == before


def test_digest_of_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        model_digest(str(tmp_path / "none"))
