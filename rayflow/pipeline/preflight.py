"""Checks before time is spent: everything that can be known without loading a model."""

from __future__ import annotations

from rayflow.core.model_folder import check_model_folder, resolve_model
from rayflow.core.options import build
from rayflow.errors import ConfigError
from rayflow.pipeline.plan import Plan
from rayflow.sources.files import source_digest


def preflight(plan: Plan) -> None:
    """Look at the files, models and functions that a plan names.

    Raises:
        DataError, ModelError, ConfigError: with what to mend.
    """
    config = plan.config
    for source in (config.prompts.train, config.prompts.evaluation):
        if source is not None:
            source_digest(source)
    check_model_folder(resolve_model(config.model))
    reward = build("reward", config.reward)
    for model in reward.models:
        check_model_folder(resolve_model(model))
    if not reward.models:
        reward.setup()  # a rule: import its function now rather than in a worker
    accepted = getattr(config.select, "num_accepted", 0)
    if accepted > config.sample.num_candidates:
        raise ConfigError(
            f"select.num_accepted={accepted} is more than sample.num_candidates="
            f"{config.sample.num_candidates}: no prompt could ever give that many."
        )
