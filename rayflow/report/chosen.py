"""What a report shows of selection, pairs and a pairwise reward's verdicts, as plain frozen records."""

from __future__ import annotations

from dataclasses import dataclass

from rayflow.report.values import Values, size_of


@dataclass(frozen=True, kw_only=True)
class SelectionSection:
    """The candidates and what selection made of them.

    Attributes:
        candidate_rewards: [prompts * candidates] rewards before selection; None where nothing was scored.
        accepted_rewards: [accepted] rewards after selection. Where both are pre-binned, on the same edges.
        num_candidates: candidates in total; None: as many as have a reward.
        num_resampled: prompts that were sampled again, because too few of their candidates were accepted.
        num_prompts: prompts that reached selection.
        num_accepted: accepted responses in total.
        target_per_prompt: how many responses selection was asked for, per prompt; None if not fixed.
        num_short: prompts that yielded fewer than the target.
        acceptance_rates: [prompts] accepted / visited, in [0, 1]; None where the rule has no visits.
        rounds: [prompts] passes over the remaining candidates; None where the rule has no passes.
        num_cut, num_cut_accepted: of the candidates and of the accepted, those that the sampler cut at
            max_tokens, so that they have no EOS; None where that is not known.
    """

    candidate_rewards: Values | None
    accepted_rewards: Values | None
    num_prompts: int
    num_accepted: int
    num_candidates: int | None = None
    num_resampled: int = 0
    target_per_prompt: int | None = None
    num_short: int = 0
    acceptance_rates: Values | None = None
    rounds: Values | None = None
    num_cut: int | None = None
    num_cut_accepted: int | None = None

    @property
    def cut_candidates(self) -> float | None:
        """Share of the candidates that were cut, in [0, 1]; None where it is not known."""
        return self.num_cut / self.candidates if self.num_cut is not None and self.candidates else None

    @property
    def cut_accepted(self) -> float | None:
        """The same of the accepted."""
        known = self.num_cut_accepted is not None and self.num_accepted
        return self.num_cut_accepted / self.num_accepted if known else None

    @property
    def scored(self) -> bool:
        """Whether the candidates have rewards."""
        return self.candidate_rewards is not None

    @property
    def candidates(self) -> int:
        """Candidates in total."""
        return size_of(self.candidate_rewards) if self.num_candidates is None else self.num_candidates


@dataclass(frozen=True, kw_only=True)
class PositionBias:
    """How far a pairwise reward's verdicts depend on which response it reads first.

    Attributes:
        source: what the verdicts were for: "rewards", "selection" or "labels".
        num_comparisons: pairs that were judged in both orders.
        changed: share of them whose winner changes with the order, in [0, 1].
        mean_difference: mean of a response's probability to be better, shown first minus shown second, in
            [-1, 1]; positive: the reward likes what it reads first.
    """

    source: str
    num_comparisons: int
    changed: float
    mean_difference: float


@dataclass(frozen=True, kw_only=True)
class PairingSection:
    """The preference pairs.

    Attributes:
        num_pairs: pairs in total.
        num_prompts: prompts with at least one pair.
        margins: [pairs] reward of the chosen minus reward of the rejected, in units of the reward; of pairs
            that a ranker labelled, the log-odds of its verdict.
        num_by_ranker: how many of the pairs were labelled by new calls of a pairwise reward.
    """

    num_pairs: int
    num_prompts: int
    margins: Values
    num_by_ranker: int = 0
