"""Several rounds of the whole job: each starts from the policy that the one before has trained.

    runs/<name>/round-1/, round-2/, ...   each a run of its own, with its artifacts and its report
    runs/<name>/summary.json              the rounds side by side

With `resample: false` every round learns from the first round's samples and scores (ReST's improve steps,
whose threshold rises): those stages are shared as files and not computed again.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rayflow.config import RoundOptions, RunConfig, override
from rayflow.core.files import read_json, write_json
from rayflow.core.seeds import derive
from rayflow.errors import ConfigError
from rayflow.pipeline.identity import differences
from rayflow.pipeline.run_plan import build_run_plan

SHARED = ("prompts", "sample", "score")
"""Stages that a new selection, or a round without resampling, takes over as they are."""
SELECTING = ("range", "select", "pair")
"""Stages that a new selection makes anew."""


def round_name(number: int) -> str:
    """Folder of a round, counted from 1."""
    return f"round-{number}"


def round_configs(config: RunConfig) -> Iterator[RunConfig]:
    """The configuration of each round; the next one is made when the last one's policy exists.

    The policy starts from the previous round's. The reference is the previous policy or the original, as
    `rounds.reference` says; the evaluation always compares with the original.
    """
    model = config.model
    for number in range(1, config.rounds.num + 1):
        yield (made := round_config(config, number, model))
        model = str(trained_model(made))


PLACED = ("name", "runs_dir", "rounds", "compute")
"""Settings that are the whole run's: a round's folder, what rounds there are, and the machines of all."""


def checked_rounds(config: RunConfig) -> list[RunConfig]:
    """The configurations of all rounds, as far as they are known before the first policy is trained.

    All of them now: what the last round cannot do is not to be found out after the others.

    Raises:
        ConfigError: a round's overrides cannot be used, or would change what it takes over from the first round.
    """
    rounds = [round_config(config, number, config.model) for number in range(1, config.rounds.num + 1)]
    if not config.rounds.resample:
        for number, each in enumerate(rounds[1:], start=2):
            _check_takes_over(rounds[0], each, number)
    return rounds


def _check_takes_over(first: RunConfig, later: RunConfig, number: int) -> None:
    """Refuse other prompts, samples or scores under `resample: false`: they are the first round's files.

    Raises:
        ConfigError: which settings.
    """
    wanted, stored = build_run_plan(later).identities, build_run_plan(first).identities
    for name in (name for name in SHARED if name in wanted):
        if name not in stored:
            raise ConfigError(
                f"Round {number} reads {name}, which round 1 does not make, and with rounds.resample=false it has no "
                "other: set score=always, or rounds.resample=true."
            )
        if changed := differences(stored[name], wanted[name]):
            raise ConfigError(
                f"rounds.overrides would change {name} in round {number} ({'; '.join(changed)}), and with "
                "rounds.resample=false every round learns from the first one's. Leave that out of rounds.overrides, "
                "set it for all rounds, or set rounds.resample=true."
            )


def _check_own(overrides: dict[str, Any], number: int) -> None:
    """Refuse to override what rounds have in common.

    Raises:
        ConfigError: which setting.
    """
    for key in overrides:
        if key.split(".")[0] in PLACED:
            raise ConfigError(
                f"rounds.overrides of round {number} sets '{key}', which is the run's ({', '.join(PLACED)} cannot "
                "differ between rounds). Set it outside of rounds.overrides."
            )


def round_config(config: RunConfig, number: int, model: str) -> RunConfig:
    """The configuration of one round, from 1, that starts from `model`.

    Raises:
        ConfigError: its overrides cannot be used.
    """
    overrides = config.rounds.overrides[number - 1 : number]
    for each in overrides:
        _check_own(each, number)
    if config.rounds.num == 1:  # the run itself
        alone = config.model_copy(update={"rounds": RoundOptions()})
        return override(alone, overrides[0]) if overrides else alone
    settings: dict[str, Any] = {
        "runs_dir": str(config.root),
        "name": round_name(number),
        "rounds": RoundOptions(),
        "model": model,
    }
    if number > 1:
        settings |= _later(config, number, model)
    return override(config.model_copy(update=settings), overrides[0] if overrides else {})


def _later(config: RunConfig, number: int, model: str) -> dict[str, Any]:
    rounds, first = config.rounds, config.model
    settings: dict[str, Any] = {}
    sample = config.sample
    if rounds.resample:
        # From equal seeds a policy that has hardly changed would draw nearly the last round's texts again.
        settings["seed"] = _seed(config.seed, number)
        if sample.seed is not None:
            sample = sample.model_copy(update={"seed": _seed(sample.seed, number)})
    sampler = config.sample.model or (model if rounds.resample else first)
    reference = config.reference.model or (model if rounds.reference == "previous" else first)
    baseline = config.evaluate.baseline_model or first
    return settings | {
        "sample": sample.model_copy(update={"model": sampler}),
        "reference": config.reference.model_copy(update={"model": reference}),
        "evaluate": config.evaluate.model_copy(update={"baseline_model": baseline}),
    }


def _seed(seed: int, number: int) -> int:
    """The seed of a later round: short, for people read it in the configuration."""
    return derive(seed, "round", number) % 2**31


def trained_model(config: RunConfig) -> Path:
    """Where a run leaves its model."""
    return build_run_plan(config).artifacts["train"].folder / "model"


def write_summary(config: RunConfig) -> list[dict[str, Any]]:
    """Write the rounds' summaries side by side; returns those that are there."""
    found = []
    for number in range(1, config.rounds.num + 1):
        path = config.root / round_name(number) / "summary.json"
        if path.exists():
            found.append({"round": number, **read_json(path)})
    write_json(config.root / "summary.json", {"name": config.name, "rounds": found})
    return found
