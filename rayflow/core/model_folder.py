"""What a model string means: a local folder (checked before anything heavy starts) or a hub id.

A folder's identity is its content, so that a stage's fingerprint survives a move and notices a changed
weight. Nothing here imports torch: the command line asks these questions before any cluster starts.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import sys
from pathlib import Path
from typing import Any

from rayflow.core.digests import FileDigests
from rayflow.core.hub import HUB_ID, fetch_config, hub_identity, local_copy
from rayflow.errors import ModelError

# A fast tokenizer is one file; the others are the vocabularies that slow tokenizers read.
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt", "tekken.json")
_CONTENT = (
    *("config.json", "generation_config.json", "*.safetensors", "*.safetensors.index.json"),
    *_TOKENIZERS,
    *("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "merges.txt"),
    *("chat_template.jinja", "chat_template.json", "additional_chat_templates/*.jinja"),
)
CHECKSUMS = "checksums.json"
"""SHA-256 of every file of a model that was trained here, beside them: a flipped bit would load silently."""
_MAX_HEADER = 100 << 20  # the safetensors format's own limit


def resolve_model(model: str) -> str:
    """The model string with `~` and environment variables expanded; a hub id stays as it is.

    A folder's path is absolute: a worker may work elsewhere, where a relative one would be taken for a hub id.
    """
    path = os.path.expanduser(os.path.expandvars(model))
    return os.path.abspath(path) if os.path.isdir(path) else path


def is_hub_id(model: str) -> bool:
    """Whether `model` is a hub id ("org/name" or "name", with or without "@revision"): no such folder exists here."""
    path = resolve_model(model)
    return not os.path.exists(path) and HUB_ID.fullmatch(path) is not None


def loadable(model: str) -> str:
    """What transformers and vLLM take: a folder, or a hub id without a revision; the named revision is downloaded.

    Raises:
        ModelError: that is not possible.
    """
    path = resolve_model(model)
    return local_copy(path) if is_hub_id(path) else path


def check_model_folder(model: str) -> None:
    """Refuse, in seconds and with the remedy, a local model folder that an engine could not load.

    Of a hub id only the configuration is looked at, where the hub can be reached.

    Raises:
        ModelError: no such folder or model, no config.json, no tokenizer, no safetensors weights, or a weights file
            that is missing, cut short, or not what the folder's checksums say.
    """
    if is_hub_id(model):
        fetch_config(model)
        return
    folder = Path(resolve_model(model))
    if not model or not folder.is_dir():
        what = "is a file, not a folder" if folder.is_file() else "does not exist"
        raise ModelError(
            f"Model folder '{model}' {what}. Give a folder with config.json, tokenizer and *.safetensors, "
            "or a hub id of the form org/name."
        )
    if not (folder / "config.json").is_file():
        raise ModelError(f"Model folder '{folder}' has no config.json, so it is not a transformers model.")
    if not any((folder / name).is_file() for name in _TOKENIZERS):
        raise ModelError(
            f"Model folder '{folder}' has no tokenizer ({', '.join(_TOKENIZERS[:3])}, ...). Copy the "
            "base model's tokenizer into it: AutoTokenizer.from_pretrained(base).save_pretrained(folder)."
        )
    _check_weights(folder)


def _check_weights(folder: Path) -> None:
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        others = sorted(
            p.name for suffix in ("*.bin", "*.pt", "*.pth", "*.gguf") for p in folder.glob(suffix)
        )
        found = f"only {', '.join(others[:3])}" if others else "no weights at all"
        raise ModelError(
            f"Model folder '{folder}' has no safetensors weights ({found}). Convert it once: "
            "AutoModelForCausalLM.from_pretrained(folder).save_pretrained(new_folder)."
        )
    for index in folder.glob("*.safetensors.index.json"):
        shards = set(json.loads(index.read_text())["weight_map"].values())
        missing = sorted(shards - {p.name for p in weights})
        if missing:
            raise ModelError(
                f"Model folder '{folder}' lacks {missing[0]}, which {index.name} names. Copy it again."
            )
    for path in weights:
        if not _is_whole(path):
            raise ModelError(
                f"Weights file '{path}' is damaged or cut short ({path.stat().st_size} bytes): the size "
                "does not fit its header. Copy or download it again."
            )
    if damaged := damaged_files(folder):
        raise ModelError(
            f"Model folder '{folder}': {damaged[0]} is not what its {CHECKSUMS} says. Copy the model again, or train "
            f"it again (rayflow verify RUN --repair). If you changed it on purpose, delete {CHECKSUMS}."
        )


def damaged_files(folder: Path, remembered: bool = True) -> list[str]:
    """Names of the files of a model folder that its list of checksums does not fit; none without such a list.

    Args:
        folder: of the model.
        remembered: see `FileDigests`.
    """
    try:
        listed = json.loads((folder / CHECKSUMS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except (OSError, ValueError):
        return [CHECKSUMS]
    with FileDigests(remembered) as digests:
        return [
            name
            for name, digest in listed.items()
            if not (path := folder / name).is_file() or digests.of(path) != digest
        ]


def _is_whole(path: Path) -> bool:
    """Whether a safetensors file's size is what its header promises (its values are not looked at)."""
    size = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
        if not 0 < length <= min(size - 8, _MAX_HEADER):
            return False
        try:
            header: dict[str, Any] = json.loads(file.read(length))
        except ValueError:
            return False
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    return size == 8 + length + max(ends, default=0)


def load_tokenizer(model: str) -> Any:
    """The tokenizer of a model, without remote code.

    Raises:
        ModelError: it cannot be loaded (the reason is named).
    """
    from transformers import AutoTokenizer

    path = loadable(model)
    try:
        return AutoTokenizer.from_pretrained(
            path, trust_remote_code=False, local_files_only=not is_hub_id(path)
        )
    except (OSError, ValueError) as error:
        raise ModelError(f"The tokenizer of '{path}' cannot be loaded: {error}") from error


def context_length(model: str) -> int:
    """Longest sequence that a model's configuration allows, in tokens."""
    from transformers import AutoConfig

    path = loadable(model)
    try:
        config = AutoConfig.from_pretrained(
            path, trust_remote_code=False, local_files_only=not is_hub_id(path)
        )
    except (OSError, ValueError) as error:
        raise ModelError(f"The configuration of '{path}' cannot be loaded: {error}") from error
    return getattr(config.get_text_config(), "max_position_embeddings", None) or sys.maxsize


def model_digest(model: str) -> str:
    """Identity of a model's content: equal digests mean the same model, wherever it lies.

    Args:
        model: a local folder, or a hub id.

    Returns:
        For a folder, 64 hexadecimal digits: SHA-256 over the names and SHA-256s of its configuration,
        weights, tokenizer and chat template. For a hub id, "org/name@commit" where that can be
        found out, else the id.

    Raises:
        ModelError: neither a folder nor a hub id.
    """
    if is_hub_id(model):
        return hub_identity(model)
    folder = Path(resolve_model(model))
    if not folder.is_dir():
        raise ModelError(f"Model folder '{folder}' does not exist.")
    paths = {p for pattern in _CONTENT for p in folder.glob(pattern) if p.is_file()}
    total = hashlib.sha256()
    with FileDigests() as digests:
        for name, path in sorted((p.relative_to(folder).as_posix(), p) for p in paths):
            total.update(f"{name}\0{digests.of(path)}\n".encode())
    return total.hexdigest()
