"""Checks before time is spent: everything that can be known without loading a model."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from rayflow.config import RunConfig
from rayflow.config.evaluate import EvaluateConfig
from rayflow.config.reward import RewardConfig
from rayflow.core.branches import why_not_shared
from rayflow.core.files import read_json
from rayflow.core.hub import fetch_config
from rayflow.core.model_folder import (
    check_model_folder,
    is_hub_id,
    load_tokenizer,
    resolve_model,
)
from rayflow.core.options import build
from rayflow.core.rows import Failure
from rayflow.errors import ConfigError
from rayflow.pipeline.brought import check_brought, check_compared
from rayflow.pipeline.method import check_compares, check_method
from rayflow.pipeline.placement import place
from rayflow.pipeline.plan import Plan
from rayflow.pipeline.prompted import check_context, check_template
from rayflow.pipeline.prompts import PromptStage, no_prompts
from rayflow.rewards.base import close_reward
from rayflow.rewards.scoring import missing_eos_penalty
from rayflow.sources.files import source_digest
from rayflow.sources.read import DROPPED, read_answers

MAX_REFUSED = 10_000
"""Rows of a source that may be refused before the first usable one: a large file is not read to its end."""


def preflight(plan: Plan) -> None:
    """Look at the files, models and functions that a plan names, and place its workers on known machines.

    Raises:
        DataError, ModelError, ConfigError: with what to mend.
    """
    for source in plan.config.sources:
        source_digest(source)
    _check_rows(plan)
    check_model_folder(resolve_model(plan.config.model))
    build("tracker", plan.config.track).check()
    if isinstance(plan.config, RunConfig | EvaluateConfig):
        check_context(plan, plan.config.sample.max_tokens)
    if isinstance(plan.config, RunConfig | RewardConfig):
        _check_training(plan.config)
    if isinstance(plan.config, RunConfig):
        _check_run(plan.config)
    elif isinstance(plan.config, EvaluateConfig):
        _check_evaluation(plan)
    place(plan)


def unseen_models(plan: Plan) -> list[str]:
    """The models of a plan that nothing could be asked about: on the hub, which cannot be reached from here."""
    named = {plan.config.model, *(model for stage in plan.stages.values() for model in stage.models)}
    found = sorted(map(resolve_model, named))
    return [model for model in found if is_hub_id(model) and fetch_config(model) is None]


def _check_rows(plan: Plan) -> None:
    """Read every source that is not stored yet up to its first usable row: some are read after hours of work.

    Raises:
        ModelError: that row is a chat, and a sampler has no chat template.
        DataError: none of a source's rows can be used, or none of its first ones; or a file cannot be read.
    """
    for name, stage in plan.stages.items():
        source = getattr(stage, "source", None)
        if source is None or plan.artifacts[name].committed:
            continue
        refused, example = 0, ""
        for row in stage.read() if isinstance(stage, PromptStage) else read_answers(source):
            if not isinstance(row, Failure):
                check_template(plan, row)
                break
            if row.reason not in DROPPED:  # another split's rows may come first, however many there are
                refused, example = refused + 1, example or row.detail
            if refused == MAX_REFUSED:
                raise no_prompts(source, refused, example, f" in its first {MAX_REFUSED:,} rows")
        else:
            raise no_prompts(source, refused, example)


def _check_evaluation(plan: Plan) -> None:
    """The models of every stage, and the rewards; a template is read when the plan's identities are made."""
    for model in {model for stage in plan.stages.values() for model in stage.models}:
        check_model_folder(resolve_model(model))
    assert isinstance(plan.config, EvaluateConfig)
    check_compared(plan.config)
    for name, options in plan.config.rewards.items():
        _check_reward(reward := build("reward", options))
        check_compares(reward, f"rewards.{name}")
    if plan.config.side_by_side is not None:
        judge = build("judge", plan.config.side_by_side.judge)
        if not judge.models:
            judge.setup()  # a server's token must be there
            judge.close()


def _check_training(config: RunConfig | RewardConfig) -> None:
    """Refuse what the model or the machines cannot do, before anything else is computed.

    Raises:
        ConfigError: with the setting to change.
    """
    if config.train.attention == "flex" and not config.compute.train.num_gpus:
        raise ConfigError(
            "train.attention=flex runs on GPUs, and compute.train.num_gpus is 0: give the workers GPUs, or set "
            "train.attention=sdpa."
        )
    settings = _settings_of(config.model)
    if settings is not None:
        _check_needs_no_code(config.model, settings)
    # Of a model that cannot be looked at from here the trainer will say it.
    if config.train.share_prompt is True and settings is not None:
        reason = why_not_shared(SimpleNamespace(**settings), longest=0)
        if reason is not None:
            raise ConfigError(f"train.share_prompt=true cannot be used: {reason}. Set it to auto or false.")


def _settings_of(model: str) -> dict[str, Any] | None:
    """The config.json of a model; None of one on the hub that cannot be reached from here."""
    resolved = resolve_model(model)
    path = fetch_config(resolved) if is_hub_id(resolved) else Path(resolved) / "config.json"
    return None if path is None else read_json(path)


def _check_needs_no_code(model: str, settings: dict[str, Any]) -> None:
    """Refuse a model that only its own code can load: an engine may be allowed that, a trainer is not.

    Raises:
        ConfigError: transformers does not know its architecture.
    """
    if "auto_map" not in settings:
        return
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    if settings.get("model_type") not in CONFIG_MAPPING_NAMES:
        raise ConfigError(
            f"Model '{model}' brings code of its own ('{settings.get('model_type')}'), which is run for sampling only, "
            "with trust_remote_code in the engine's block. What is trained must be a model that transformers knows."
        )


def _check_run(config: RunConfig) -> None:
    """What else a run names: other models, the reward, and a method whose parts go together."""
    others = (config.sample.model, config.reference.model, config.evaluate.baseline_model)
    for model in set(filter(None, others)):
        check_model_folder(resolve_model(model))
    _check_tokens(config)
    if config.reward is not None:
        _check_reward(reward := build("reward", config.reward))
        if config.prompts.evaluation is not None or config.train.choose is not None:
            check_compares(reward, "reward")
    check_method(config)
    check_brought(config)


def _check_tokens(config: RunConfig) -> None:
    """Refuse models whose token ids mean something else than the policy's: ids go from one to the other.

    Raises:
        ConfigError: with the model to change.
    """
    sampler = config.sample.model if config.source == "sampled" else None
    named = {"sample.model": sampler, "reference.model": config.reference.model}
    others = {key: model for key, model in named.items() if model not in (None, config.model)}
    if not others:
        return
    own = load_tokenizer(config.model).get_vocab()
    for key, model in others.items():
        known = load_tokenizer(model).get_vocab()
        shared = own.keys() & known.keys()
        # Tokens that one of them has been given besides, such as for padding, do no harm.
        if len(shared) < 0.9 * len(own) or any(own[token] != known[token] for token in shared):
            raise ConfigError(
                f"{key} '{model}' has other tokens than the policy '{config.model}', which would take its token ids "
                "for other texts. Use a model with the policy's tokenizer, or give that model's responses as data "
                "(source: direct)."
            )


def _check_reward(reward: Any) -> None:
    """Its models' folders; what has no model is set up, so that a rule is imported now, not in a worker."""
    for member in getattr(reward, "members", ()):
        _check_reward(member)
    missing_eos_penalty(reward)  # that of a pairwise reward is refused
    for model in reward.models:
        check_model_folder(resolve_model(model))
        if hasattr(reward, "check") and (settings := _settings_of(model)) is not None:
            reward.check(settings)
    if not reward.models:
        try:
            reward.setup()
        finally:
            close_reward(reward)
