"""What the rewards that hold a transformers model share: loading it safely, limits, batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

from rayflow.core.arithmetic import computed_in
from rayflow.core.model_folder import check_model_folder, loadable
from rayflow.errors import ConfigError, MissingPackageError, ModelError

Dtype = Literal["auto", "float32", "bfloat16", "float16"]


def load_config(model: str, kind: str) -> tuple[str, Any, Any]:
    """Path, configuration and tokenizer of a reward model, before its weights.

    Args:
        model: folder or hub id.
        kind: the reward's name, for the message.

    Raises:
        ModelError: the folder cannot be used.
        MissingPackageError: transformers is not installed.
    """
    check_model_folder(model)
    try:
        from transformers import AutoConfig, AutoTokenizer
    except ImportError as error:
        raise MissingPackageError.of(error.name or "transformers", f"The {kind} reward", "train") from error
    path = loadable(model)
    try:
        config = AutoConfig.from_pretrained(path, trust_remote_code=False)
        return path, config, AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ModelError(f"Reward model '{path}' cannot be loaded: {error}") from error


def require_classifier(path: str, config: Any) -> None:
    """Raise ModelError where the configuration names another architecture."""
    names = config.architectures or []
    if names and not any(name.endswith("ForSequenceClassification") for name in names):
        raise ModelError(
            f"Reward model '{path}' is a {names[0]}, not a sequence classifier: it has no trained reward head. "
            "Give a model saved from AutoModelForSequenceClassification."
        )


def checked_label(path: str, config: Any, label: int | None) -> int:
    """The index of the logit to read; ConfigError where it must be named, or is not there."""
    if label is None and config.num_labels > 1:
        raise ConfigError(
            f"Reward model '{path}' has {config.num_labels} labels {dict(config.id2label)}: set the reward's "
            "'label' to the index of the one that is the reward."
        )
    if label is not None and label >= config.num_labels:
        raise ConfigError(
            f"label: {label}, but reward model '{path}' has {config.num_labels} label(s), from 0."
        )
    return label or 0


def load_weights(auto: Any, path: str, dtype: Dtype, device: str) -> Any:
    """The model in evaluation mode, every weight of it from the checkpoint.

    Args:
        auto: a transformers Auto class.
        path: folder or hub id.
        dtype: "auto" is the one the weights are stored in.
        device: "auto" takes a GPU where there is one.

    Raises:
        ModelError: it cannot be loaded, or weights are missing: transformers would draw them at random.
    """
    import torch

    try:
        model, info = auto.from_pretrained(
            path,
            dtype=dtype if dtype == "auto" else getattr(torch, dtype),
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except (OSError, ValueError) as error:
        raise ModelError(f"Reward model '{path}' cannot be loaded: {error}") from error
    if info["missing_keys"]:
        raise ModelError(
            f"Reward model '{path}' lacks the weights {sorted(info['missing_keys'])[:3]}: it has no trained "
            f"head. Give a model saved from {auto.__name__}."
        )
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    model, computed = model.to(device).eval(), computed_in(model.dtype, device)
    # Not where nothing changes: rotary frequencies are float32 in a bfloat16 model, and would be rounded too.
    return model if computed == model.dtype else model.to(computed)


def stored_dtype(config: Any, dtype: Dtype) -> Any:
    """The torch dtype that `dtype` means: "auto" is the one that the configuration names, float32 if none."""
    import torch

    return (config.dtype or torch.float32) if dtype == "auto" else getattr(torch, dtype)


def checked_max_length(path: str, config: Any, tokenizer: Any, asked: int | None) -> int:
    """The limit in tokens. An explicit one may exceed the tokenizer's, which is often a leftover.

    Raises:
        ConfigError: more was asked for than the model has positions.
    """
    own = getattr(config.get_text_config(), "max_position_embeddings", None) or 1 << 30
    if asked is None:
        return min(own, tokenizer.model_max_length)
    if asked > own:
        raise ConfigError(f"max_length: {asked}, but reward model '{path}' has only {own} positions.")
    return asked


def batches(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Indices of similar lengths, longest first, so that a lack of memory shows in the first batch.

    Args:
        lengths: [n] tokens of each sequence.
        batch_tokens: limit of rows times longest row; a single longer sequence is a batch of its own.
    """
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    start = 0
    while start < len(order):
        size = max(1, batch_tokens // max(1, lengths[order[start]]))
        yield order[start : start + size]
        start += size
