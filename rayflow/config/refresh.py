"""The configuration of `rayflow refresh`: a run's, and one block that says how its pairs are kept up to date."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Literal

from pydantic import Field, model_validator

from rayflow.config.run import RunConfig
from rayflow.core.options import Options
from rayflow.errors import ConfigError


class NearOptions(Options):
    """Which prompts count as nearly the same.

    Attributes:
        threshold: Jaccard similarity of two prompts' shingles from which on the later prompt is dropped.
        unit: shingles of words, or of characters (for scripts that do not set words apart).
        size: words or characters per shingle.
        num_permutations: length of the MinHash signatures; more finds more of the pairs near the threshold.
    """

    threshold: float = Field(default=0.8, gt=0, le=1)
    unit: Literal["word", "character"] = "word"
    size: int = Field(default=3, gt=0)
    num_permutations: int = Field(default=128, ge=16)


class DedupOptions(Options):
    """Which prompts are dropped because another one says the same. Exact repeats always are.

    Attributes:
        normalize: prompts that differ only in case, spaces or Unicode form are repeats too.
        near: near-duplicates; null keeps them.
    """

    normalize: bool = True
    near: NearOptions | None = NearOptions()


class GateOptions(Options):
    """What a new version must satisfy before readers get it; null switches a check off.

    Drift is measured against the last promoted version. Where a number comes from a sample of prompts, a check
    fails only if the limit is passed by more than the sample's noise (95%).

    Attributes:
        max_reward_shift: of the mean reward, in standard deviations of the last version's rewards.
        max_reward_distance: Kolmogorov-Smirnov distance of the two distributions of rewards.
        max_length_drift: relative change of the mean response length in tokens.
        min_acceptance_rate, max_acceptance_rate: mean share of visits that selection accepted.
        max_failure_rate: share of the prompts that the table should have and that could not be computed.
        min_distinct: mean share of different texts among a prompt's candidates.
        min_paired: share of the prompts with at least one pair; not asked of methods that make none.
        max_lost: share of the last version's prompts that the new one no longer has.
        min_rows: prompts in the table.
    """

    max_reward_shift: float | None = Field(default=0.5, gt=0)
    max_reward_distance: float | None = Field(default=0.2, gt=0, le=1)
    max_length_drift: float | None = Field(default=0.3, gt=0)
    min_acceptance_rate: float | None = Field(default=0.01, ge=0, le=1)
    max_acceptance_rate: float | None = Field(default=None, ge=0, le=1)
    max_failure_rate: float | None = Field(default=0.05, ge=0, le=1)
    min_distinct: float | None = Field(default=0.5, ge=0, le=1)
    min_paired: float | None = Field(default=0.5, ge=0, le=1)
    max_lost: float | None = Field(default=0.5, ge=0, le=1)
    min_rows: int | None = Field(default=1, ge=0)

    @model_validator(mode="after")
    def _some_rate_is_accepted(self) -> GateOptions:
        low, high = self.min_acceptance_rate, self.max_acceptance_rate
        if low is not None and high is not None and low > high:
            raise ValueError(
                f"min_acceptance_rate {low:g} is above max_acceptance_rate {high:g}: no version would pass. Lower the "
                "first or raise the second; null switches a check off"
            )
        return self


class RetentionOptions(Options):
    """What is kept. The promoted version and the newest one always are.

    Attributes:
        versions: the newest promoted versions that stay readable.
        days: promoted versions stay readable for so long in any case.
        runs: finished refreshes whose working files (samples, scores, ...) are kept.
        grace_hours: data files younger than this are never removed.
    """

    versions: int = Field(default=14, gt=0)
    days: float = Field(default=14, ge=0)
    runs: int = Field(default=3, ge=0)
    grace_hours: int = Field(default=24, ge=0)


class RefreshOptions(Options):
    """How the table is kept.

    Attributes:
        missing: rows whose prompt the data no longer has: "drop" them (the table mirrors the data), or "keep"
            them (the data brings only what is new; `{date}` in `prompts.train.path` names the day's file).
        lease_seconds: a refresh that has not been heard of for so long is given up for dead.
        train: train a policy on the version just promoted, with the run's own loss and evaluation.
        The blocks are documented at their classes.
    """

    missing: Literal["drop", "keep"] = "drop"
    dedup: DedupOptions = DedupOptions()
    gate: GateOptions = GateOptions()
    retention: RetentionOptions = RetentionOptions()
    lease_seconds: float = Field(default=300.0, gt=0)
    train: bool = False


class RefreshConfig(RunConfig):
    """A run's configuration, usually another file's by `extends`, whose pairs go into a versioned table."""

    refresh: RefreshOptions = RefreshOptions()
    score: Literal["always"] = "always"
    """The table holds the rewards, used by the selection or not."""

    @property
    def gate(self) -> GateOptions:
        """What a version has to keep."""
        pairless = self.pair is not None and self.pair.kind == "none"
        return self.refresh.gate.model_copy(update={"min_paired": None} if pairless else {})

    @model_validator(mode="after")
    def _samples_once(self) -> RefreshConfig:
        if self.source != "sampled":
            raise ValueError(f"a refresh samples its responses: source '{self.source}' brings its own")
        if self.rounds.num != 1:
            raise ValueError("a refresh has one round: remove rounds")
        return self


def checked_date(day: str | None) -> str:
    """A date in ISO form; today's in UTC if none is given.

    Raises:
        ConfigError: not a date.
    """
    try:
        return (datetime.now(UTC).date() if day is None else date.fromisoformat(day)).isoformat()
    except ValueError:
        raise ConfigError(f"--date '{day}' must be a date such as 2026-11-20.") from None


def for_date(config: RefreshConfig, day: str) -> RefreshConfig:
    """The configuration with `{date}` in the prompts' path replaced by the day."""
    source = config.prompts.train
    train = source.model_copy(update={"path": source.path.replace("{date}", day)})
    return config.model_copy(update={"prompts": config.prompts.model_copy(update={"train": train})})
