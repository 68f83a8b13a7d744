"""Loading a language model, or a classifier on top of one, for training or scoring."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import nn

from rayflow.core.arithmetic import computed_in
from rayflow.core.memory import keep_freed_memory
from rayflow.core.model_folder import is_hub_id, loadable
from rayflow.errors import ModelError

Precision = Literal["bfloat16", "float32"]
Attention = Literal["sdpa", "flex_attention"]
"""How a model is loaded to attend; "sdpa" gives way to `core.branch_attention` where prompts are shared."""


def load_model(model: str, precision: Precision, attention: Attention = "sdpa") -> nn.Module:
    """A causal language model from safetensors, on the CPU, without remote code.

    Raises:
        ModelError: it cannot be loaded (the reason is named).
    """
    from transformers import AutoModelForCausalLM

    return _load(AutoModelForCausalLM, model, precision, attn_implementation=attention)


def load_classifier(
    model: str, precision: Precision, attention: Attention = "sdpa"
) -> tuple[nn.Module, set[str]]:
    """A sequence classifier with one label, as `load_model` loads, and the weights that its folder lacks.

    Raises:
        ModelError: it cannot be loaded (the reason is named), or has several labels.
    """
    from transformers import AutoModelForSequenceClassification

    more = {"num_labels": 1, "output_loading_info": True, "ignore_mismatched_sizes": True}
    more["attn_implementation"] = attention
    with _quiet():
        made, info = _load(AutoModelForSequenceClassification, model, precision, **more)
    if info["mismatched_keys"]:
        raise ModelError(f"Model '{model}' is a classifier with several labels, not a reward model with one.")
    return made, set(info["missing_keys"])


def _load(kind: Any, model: str, precision: Precision, **more: Any) -> Any:
    device = "cuda" if torch.cuda.is_available() else "cpu"  # where its callers put it
    if device == "cpu":
        keep_freed_memory()
    path = loadable(model)
    try:
        with _no_bar():
            return kind.from_pretrained(
                path,
                dtype=computed_in(getattr(torch, precision), device),
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=not is_hub_id(path),
                **more,
            )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(f"Model '{model}' cannot be loaded: {error}") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the report on weights that are missing or left over, where the caller looks at them."""
    from transformers.utils import logging

    shown = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(shown)


@contextlib.contextmanager
def _no_bar() -> Iterator[None]:
    """Without the weight-loading progress bar: workers share the terminal with the run's own bars."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def disable_dropout(model: nn.Module) -> None:
    """Set every dropout to 0, so that policy and reference are the same function at the start.

    `model.eval()` would do that too, but it also turns gradient checkpointing off.
    """
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name in ("attention_dropout", "attn_dropout", "hidden_dropout", "dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
