"""From what `rayflow evaluate` is given to a configuration: a YAML file, or the folder of a run to evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rayflow.config import RunConfig
from rayflow.config.evaluate import EvaluateConfig
from rayflow.config.load import load_options
from rayflow.engines.base import SamplingOptions
from rayflow.errors import ConfigError
from rayflow.pipeline.folders import config_of, job_of, last_round, stored_config


def evaluation_config(given: Path, overrides: list[str]) -> EvaluateConfig:
    """The configuration of an evaluation.

    Args:
        given: its YAML file, or the folder of an evaluation, to go on with it; or a run's folder, whose trained model
            is then compared, by the run's own reward and with its own settings, with the policy it started from, on
            the run's evaluation prompts.
        overrides: "a.b=value" settings.

    Raises:
        ConfigError: it cannot be used, or the run has no evaluation prompts and none are given.
        ArtifactError: the folder is not a run's.
    """
    if not given.is_dir() or job_of(given) is EvaluateConfig:
        return config_of(given, overrides, EvaluateConfig)
    settings = of_run(given)
    if "prompts" not in settings and not any(each.startswith("prompts") for each in overrides):
        raise ConfigError(
            f"The run {given} has no evaluation prompts. Name some: --set prompts.path=FILE (held out from training)."
        )
    return load_options(settings, overrides, EvaluateConfig, f"The evaluation of {given}")


def of_run(folder: Path) -> dict[str, Any]:
    """What a run says of its own evaluation; a run in rounds is evaluated after the last one."""
    last = last_round(folder)
    run = stored_config(last, RunConfig)
    stored = run.model_dump(mode="json")
    sample = {name: stored["sample"][name] for name in (*SamplingOptions.model_fields, "engine")}
    settings: dict[str, Any] = {
        "name": f"{folder.absolute().name}-evaluation",
        "runs_dir": str(folder.absolute().parent),
        "seed": run.seed,
        "model": run.evaluate.baseline_model or run.model,
        "policy": {"run": str(last.absolute())},
        "baseline": run.evaluate.baseline,
        "sample": {**sample, "num_candidates": run.evaluate.num_samples},
        "interval": {name: stored["evaluate"][name] for name in ("confidence", "num_resamples")},
        "max_failed_fraction": run.max_failed_fraction,
        "compute": stored["compute"],
    }
    if stored["reward"] is not None:
        settings["rewards"] = {"proxy": stored["reward"]}
    if stored["prompts"]["evaluation"] is not None:
        settings["prompts"] = stored["prompts"]["evaluation"]
    return settings
