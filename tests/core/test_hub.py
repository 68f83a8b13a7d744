"""Models on the hub: which commit an id means, where a named revision lies, what the hub's refusals say."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest
from huggingface_hub import errors
from requests import Request, Response

from rayflow.core import hub
from rayflow.core.model_folder import check_model_folder, is_hub_id, load_tokenizer, loadable, model_digest
from rayflow.errors import ModelError

COMMIT, OTHER = "0123abcd" * 5, "4567ef01" * 5


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub's client, and nothing remembered of what was asked."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    hub.fetch_config.cache_clear()
    return tmp_path


def known(cache: Path, name: str, revision: str, commit: str) -> None:
    """Write down, as the hub's client does, which commit a revision is, and what the configuration was then."""
    folder = cache / f"models--{name.replace('/', '--')}"
    for path, text in (
        (folder / "refs" / revision, commit),
        (folder / "snapshots" / commit / "config.json", "{}"),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_an_id_may_name_a_revision() -> None:
    assert is_hub_id("org/name@v1.0") and is_hub_id(f"org/name@{COMMIT}") and is_hub_id("gpt2")
    assert not is_hub_id("/models/org@name")


def test_the_identity_is_the_commit_of_the_revision(cache: Path) -> None:
    known(cache, "org/name", "main", COMMIT)
    known(cache, "org/name", "v1", OTHER)
    assert model_digest("org/name") == f"org/name@{COMMIT}"
    assert model_digest("org/name@v1") == f"org/name@{OTHER}"
    assert model_digest(f"org/name@{COMMIT}") == model_digest("org/name")
    assert model_digest("org/unreachable") == "org/unreachable"  # the tests are offline


def test_the_hub_is_asked_before_the_cache_is_believed(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers load what the hub has, not what was there when this machine last looked."""
    asked: list[tuple[str, str, str]] = []

    def download(model: str, name: str, revision: str) -> str:
        asked.append((model, name, revision))
        return str(cache / "snapshots" / OTHER / name)

    known(cache, "org/name", "main", COMMIT)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    assert [model_digest("org/name") for _ in range(2)] == [f"org/name@{OTHER}"] * 2
    assert asked == [("org/name", "config.json", "main")]


def test_loaders_get_the_folder_of_the_revision(cache: Path, tiny_model: str) -> None:
    known(cache, "org/name", "v1", COMMIT)
    folder = cache / "models--org--name" / "snapshots" / COMMIT
    shutil.copytree(tiny_model, folder, dirs_exist_ok=True)
    assert loadable("org/name@v1") == loadable(f"org/name@{COMMIT}") == str(folder)
    assert loadable("org/name") == "org/name"  # whoever takes it asks for main
    assert len(load_tokenizer("org/name@v1")) == len(load_tokenizer(tiny_model))
    with pytest.raises(ModelError, match="'org/name@v2' cannot be downloaded"):
        loadable("org/name@v2")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            errors.RepositoryNotFoundError,
            "There is no folder 'org/name@v1' here, and the hub has no such model",
        ),
        (errors.GatedRepoError, "to those who have asked for it"),
        (errors.RevisionNotFoundError, "'org/name' has no revision 'v1'"),
        (errors.RemoteEntryNotFoundError, "has no config.json on the hub"),
    ],
)
def test_what_the_hub_refuses_is_a_sentence_before_anything_starts(
    error: type[Exception], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        response = Response()
        response.request = Request("GET", "https://hub/").prepare()
        raise error("no", response=response)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", refuse)
    with pytest.raises(ModelError, match=said):
        check_model_folder("org/name@v1")


def test_without_a_network_the_workers_decide() -> None:
    check_model_folder("org/somewhere")
    assert hub.fetch_config("org/somewhere") is None


def test_a_hub_that_cannot_be_reached_is_told_once_and_not_at_each_try(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def retrying(*_: object, **__: object) -> None:
        logging.getLogger("huggingface_hub.utils._http").warning("Retrying in 1s [Retry 1/5].")
        raise errors.LocalEntryNotFoundError("no network")

    hub.fetch_config.cache_clear()
    monkeypatch.setattr("huggingface_hub.hf_hub_download", retrying)
    assert hub.fetch_config("org/unreachable") is None and not caplog.records
