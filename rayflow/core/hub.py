"""Models on the Hugging Face hub: "org/name", or "org/name@revision" for a branch, a tag or a commit.

An id without a revision is what `main` is when somebody loads it. What has to stay the same for weeks names a commit.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from rayflow.errors import ModelError

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?(@[\w./-]+)?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_OTHER_WEIGHTS = ["*.bin", "*.pt", "*.pth", "*.gguf", "*.h5", "*.msgpack", "*.onnx", "*.ot"]
"""The same weights once more, in forms that nothing here reads."""


def hub_identity(model: str) -> str:
    """ "id@commit"; the id where neither the hub nor the local cache tells the commit.

    The hub is asked first, where it can be reached: what is loaded next is what it has now.
    """
    name, revision = _parts(model)
    if _COMMIT.fullmatch(revision):
        return model
    config = fetch_config(model)
    # The hub's client names a folder by the commit.
    return model if config is None else f"{name}@{config.parent.name}"


@cache
def fetch_config(model: str) -> Path | None:
    """Where the config.json of a hub id lies, downloaded if it has to be; None where the hub cannot be reached.

    Raises:
        ModelError: the hub has no such model, revision or config.json, or does not show it to us.
    """
    try:
        from huggingface_hub import errors, hf_hub_download
    except ImportError:  # whoever loads the model will say so
        return None
    name, revision = _parts(model)
    try:
        with _without_retries():
            return Path(hf_hub_download(name, "config.json", revision=revision))
    except errors.LocalEntryNotFoundError:  # no network; the workers may have one, or the files
        return None
    except errors.GatedRepoError:
        raise ModelError(
            f"'{model}' is shown on the hub to those who have asked for it: ask there, and set HF_TOKEN."
        ) from None
    except errors.RepositoryNotFoundError:
        raise ModelError(
            f"There is no folder '{model}' here, and the hub has no such model, or shows it to others only: give a "
            "folder with config.json, tokenizer and *.safetensors, a hub id of the form org/name, or set HF_TOKEN."
        ) from None
    except errors.RevisionNotFoundError:
        raise ModelError(f"'{name}' has no revision '{revision}' on the hub.") from None
    except errors.EntryNotFoundError:
        raise ModelError(
            f"'{model}' has no config.json on the hub, so it is not a transformers model."
        ) from None
    except (OSError, ValueError):
        return None


@contextlib.contextmanager
def _without_retries() -> Iterator[None]:
    """Let the hub's client try again without a line for each time: whoever asked tells what came of it."""
    logger = logging.getLogger("huggingface_hub")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def local_copy(model: str) -> str:
    """What loaders take for a hub id: the id, or, since not all of them know revisions, the revision's own folder.

    Raises:
        ModelError: it is not here and cannot be downloaded.
    """
    name, revision = _parts(model)
    if "@" not in model:
        return model
    from huggingface_hub import snapshot_download

    options: dict[str, Any] = {"revision": revision, "ignore_patterns": _OTHER_WEIGHTS}
    try:
        return snapshot_download(name, **options)
    except (OSError, ValueError) as error:
        raise ModelError(f"'{model}' cannot be downloaded from the hub: {error}") from error


def _parts(model: str) -> tuple[str, str]:
    name, _, revision = model.partition("@")
    return name, revision or "main"
