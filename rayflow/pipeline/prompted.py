"""What a model must have to be sampled from: a chat template, for chat prompts, and room for a response.

Read from the files of its folder. Of a model on the hub the worker says it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rayflow.core.files import read_json
from rayflow.core.model_folder import resolve_model
from rayflow.errors import ConfigError, ModelError
from rayflow.pipeline.plan import Plan
from rayflow.pipeline.stages.sample import SampleStage

_TEMPLATES = ("chat_template.jinja", "chat_template.json", "additional_chat_templates")


def check_template(plan: Plan, example: Any) -> None:
    """Refuse chat prompts for a sampler that has no template to write them with.

    Args:
        plan: the job's.
        example: a row of one of its sources.

    Raises:
        ModelError: names the model.
    """
    if not getattr(example, "messages", ()) or getattr(example, "prompt", None) is not None:
        return
    for model in _sampled(plan):
        settings = _read(model, "tokenizer_config.json")
        has = any((Path(model) / name).exists() for name in _TEMPLATES)
        if settings is not None and not has and not settings.get("chat_template"):
            raise ModelError(
                f"The tokenizer of {model} has no chat template, and there are prompts that are chat messages. Use "
                "plain 'prompt' strings, or a model with a chat template."
            )


def check_context(plan: Plan, max_tokens: int) -> None:
    """Refuse a limit for responses that leaves no room for a prompt in the model's context.

    Raises:
        ConfigError: names both.
    """
    for model in _sampled(plan):
        settings = _read(model, "config.json") or {}
        settings = settings.get("text_config") or settings
        scaled = settings.get("rope_scaling") or settings.get("rope_parameters") or {}
        longest = settings.get("max_position_embeddings")
        if isinstance(longest, int) and max_tokens >= longest and "factor" not in scaled:
            raise ConfigError(
                f"sample.max_tokens is {max_tokens}, and {model} takes {longest} tokens, prompt and response together: "
                "no prompt has room. Lower sample.max_tokens."
            )


def _sampled(plan: Plan) -> list[str]:
    """The models that the plan samples from."""
    stages = (stage for stage in plan.stages.values() if isinstance(stage, SampleStage))
    return sorted({resolve_model(model) for stage in stages for model in stage.models})


def _read(model: str, name: str) -> dict[str, Any] | None:
    """A JSON file of a model's folder; None where it is not here."""
    path = Path(model) / name
    return read_json(path) if path.exists() else None
