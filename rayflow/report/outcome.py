"""What a report shows of the trained policy beside its baseline, as plain frozen records."""

from __future__ import annotations

from dataclasses import dataclass

from rayflow.core import stats
from rayflow.report.values import Values


@dataclass(frozen=True, kw_only=True)
class EvaluationSection:
    """The trained policy against the baseline on held-out prompts.

    The first block has the names of `rayflow.evaluation.win_rate.WinRate`, so it is filled with
    `**dataclasses.asdict(result)`.

    Attributes:
        win_rate, low, high: win rate and its interval, in [0, 1]; ties count half.
        tie_rate: share of tied comparisons.
        num_prompts: held-out prompts.
        policy_reward, baseline_reward: mean rewards.
        policy_tokens, baseline_tokens: mean response lengths in tokens.
        confidence: of the interval, such as 0.95.
        num_resamples: bootstrap resamples behind the interval.
        num_decided: prompts on which one side is ahead; None where that was not counted.
        policy_rewards, baseline_rewards: [responses] rewards on the held-out prompts, trained and SFT.
        policy_lengths, baseline_lengths: [responses] lengths in tokens.
        optimised: whether the reward that judges also selected, ordered or weighted what was trained on, or chose
            the checkpoint.
        baseline: what the policy is compared with.
        is_start: whether training started from the baseline; False in a later round, say.
        num_seen: of these prompts, those that were trained on all the same.
        policy_cut, baseline_cut: shares of the responses that the sampler cut at max_tokens; None where it is not
            told how they ended, as of given ones.
    """

    win_rate: float
    low: float
    high: float
    tie_rate: float
    num_prompts: int
    policy_reward: float
    baseline_reward: float
    policy_tokens: float
    baseline_tokens: float
    confidence: float = 0.95
    num_resamples: int = 10_000
    num_decided: int | None = None
    policy_rewards: Values | None = None
    baseline_rewards: Values | None = None
    policy_lengths: Values | None = None
    baseline_lengths: Values | None = None
    optimised: bool = True
    baseline: str = "SFT model"
    is_start: bool = True
    num_seen: int = 0
    policy_cut: float | None = None
    baseline_cut: float | None = None

    @property
    def prompts_are(self) -> str:
        """What the report calls these prompts: "held-out" is a claim."""
        return "evaluation" if self.num_seen else "held-out"

    @property
    def excludes_half(self) -> bool:
        """Whether the interval leaves out 50%, with enough prompts for that to mean something."""
        return stats.excludes_half(self.low, self.high, self.num_prompts, self.num_decided, self.confidence)

    @property
    def length_change(self) -> float:
        """Mean response length of the policy relative to the baseline, minus one (0.2 = 20% longer)."""
        return self.policy_tokens / self.baseline_tokens - 1 if self.baseline_tokens else float("nan")
