"""The interface of a selection rule. Rows in: rewards [p, n], seeds [p]. Rows out: accepted indices."""

from __future__ import annotations

from typing import Any, Literal, Protocol

import numpy as np
from pydantic import Field

from rayflow.core.options import KindOptions
from rayflow.selection.batch import Selections
from rayflow.selection.checks import finite


class CountOptions(KindOptions):
    """Settings of every rule that accepts a fixed number.

    Attributes:
        num_accepted: responses to accept per prompt.
        shortfall: what becomes of a prompt that has fewer than `num_accepted` to give: "keep" goes on with
            those, "skip" makes it a failed row with that reason, "resample" draws as many candidates again,
            scores them, and chooses anew from all of them; one that is still short is kept. All are counted
            in the report.
        max_resamples: how often at most, under "resample".
    """

    num_accepted: int = Field(default=8, gt=0)
    shortfall: Literal["keep", "skip", "resample"] = "keep"
    max_resamples: int = Field(default=2, gt=0)

    def identity(self) -> dict[str, Any]:
        """The settings that decide the result."""
        unused = set() if self.shortfall == "resample" else {"max_resamples"}
        return {name: value for name, value in super().identity().items() if name not in unused}


class Selector(Protocol):
    """What every selection rule offers: a pure function of each prompt's rewards and seed.

    A rule for which equal texts matter sets `needs_keys = True`. It then gets a third argument, keys [p, n]
    int64 in [0, n): equal for two candidates of a prompt exactly where their texts are equal. For other rules
    the texts are never read. One that needs the lowest and the highest reward of the whole run says
    `needs_range = True`: it is then built with its settings `low` and `high` measured. One that looks at the
    number of candidates only says `uses_rewards = False`: if nothing else in the run reads rewards, the
    candidates are not scored, and the rule gets zeros. One that leaves the seeds alone says `draws = False`: runs
    that differ in their seed only then share its result.

    A fingerprint holds the name and the settings of a rule of your own, not its code: after an edit, run with
    `--force-stage select`.
    """

    Config: type[KindOptions]

    def __init__(self, options: Any) -> None: ...

    def select(self, rewards: np.ndarray, seeds: np.ndarray) -> Selections:
        """Choose candidates of p prompts with n candidates each.

        The outcome of a row may depend on that row alone: `rayflow.core.draws` gives random numbers for that.

        Args:
            rewards: [p, n] float64, finite, n >= 1.
            seeds: [p] uint64, one per prompt, the only source of randomness.

        Raises:
            ValueError: a reward is not finite, or a row cannot be decided.
        """


class PerRow:
    """Base of a rule that is easier to say for one prompt: define `select_one`, and a `Config` for its settings."""

    class Config(KindOptions):
        """No settings of its own."""

    def __init__(self, options: Any) -> None:
        self.options = options

    def select_one(self, rewards: np.ndarray, rng: np.random.Generator) -> Any:
        """Choose candidates of one prompt.

        Args:
            rewards: [n] float64, finite.
            rng: the prompt's own generator.

        Returns:
            Candidate indices, distinct, in the order of acceptance.
        """
        raise NotImplementedError(f"{type(self).__name__} must define select_one")

    def select(self, rewards: np.ndarray, seeds: np.ndarray) -> Selections:
        """Row by row (see `Selector`).

        Raises:
            ValueError: a reward is not finite, or `select_one` gave an index twice or one that does not exist.
        """
        rewards = finite(rewards)
        num_prompts, n = rewards.shape
        chosen = [
            distinct(self.select_one(row, np.random.default_rng(int(seed))), n)
            for row, seed in zip(rewards, seeds, strict=True)
        ]
        return Selections(
            accepted=np.concatenate([np.empty(0, np.int32), *chosen]),
            num_accepted=np.array([len(indices) for indices in chosen], np.int64),
            num_rounds=np.ones(num_prompts, np.int64),
            num_visits=np.full(num_prompts, n, np.int64),
        )


def distinct(indices: Any, n: int) -> np.ndarray:
    """Candidate indices of one prompt as [k] int32.

    Raises:
        ValueError: one of them is not in [0, n), or comes twice.
    """
    found = np.asarray(indices, np.int32).reshape(-1)
    if found.size and (found.min() < 0 or found.max() >= n or len(np.unique(found)) < len(found)):
        raise ValueError(f"accepted {found.tolist()} must be distinct indices of the {n} candidates.")
    return found
