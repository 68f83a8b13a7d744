"""What evaluations add to a prompt's row: verdicts, judgements, diversity, and the views they read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rayflow.core.rows import Responses, Row, Scores


@dataclass(frozen=True, kw_only=True)
class Verdict(Row):
    """What evaluation adds for one held-out prompt.

    Attributes:
        win_rate: share of (policy, baseline) response pairs that the policy wins, ties counted half.
        tie_rate: share of those pairs with equal rewards.
        policy_reward, baseline_reward: mean rewards over the samples.
        policy_tokens, baseline_tokens: mean response lengths in tokens.
    """

    win_rate: float
    tie_rate: float
    policy_reward: float
    baseline_reward: float
    policy_tokens: float
    baseline_tokens: float


@dataclass(frozen=True, kw_only=True)
class Judged(Row):
    """What a reward model says of an `Example` whose preferences are known.

    Attributes:
        margins: [p] float64, log-odds that the chosen response of each pair is better.
        scores: [n] float64, its score of each response; empty where it only judges pairs.
        num_tokens: [n] int32, tokens of each response, without what ends it.
    """

    margins: np.ndarray
    scores: np.ndarray
    num_tokens: np.ndarray


@dataclass(frozen=True, kw_only=True)
class ComparedVerdict(Verdict):
    """The verdict of a pairwise reward, which judged every (policy, baseline) pair of responses by itself.

    Attributes:
        policy_rewards: [m] float64, log-odds of each response of the policy, mean over the baseline's.
        baseline_rewards: [b] float64, the baseline's responses on the same scale, with mean 0.
        preferred: [m * b] float64, each pair's probability that the policy's response is better, the first response
            of the policy against all of the baseline first.
    """

    policy_rewards: np.ndarray
    baseline_rewards: np.ndarray
    preferred: np.ndarray


@dataclass(frozen=True, kw_only=True)
class ExactLogprobs(Row):
    """What a model's own pass over responses adds: `exact_logprobs` [n] float32, summed nats, untempered."""

    exact_logprobs: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Diversity(Row):
    """How different the responses to one prompt are.

    Attributes:
        distinct_1, distinct_2, distinct_3: share of runs of 1, 2, 3 words that are different ones; NaN where
            no response has that many words.
        self_bleu: mean BLEU of a response against the others; 1 where all are the same, NaN for a single one.
    """

    distinct_1: float
    distinct_2: float
    distinct_3: float
    self_bleu: float


@dataclass(frozen=True, kw_only=True)
class SideBySideVerdicts(Row):
    """What a judge says of a prompt's items: m pairs of one response of each side, v sampled answers to each.

    Attributes:
        num_items: m; item i is response i of both sides.
        judge_answers: m * v texts as the judge wrote them, item by item.
        judge_swapped: [m * v] int32, 1 where the policy's response was shown second.
        judge_verdicts: [m * v] float64, 1 for the policy, 0 for the baseline, 1/2 for the same, whatever the order;
            NaN where no verdict can be told.
    """

    num_items: int
    judge_answers: tuple[str, ...]
    judge_swapped: np.ndarray
    judge_verdicts: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Answers(Responses):
    """View: the same with the tokens of the responses."""

    token_ids: tuple[np.ndarray, ...]


@dataclass(frozen=True, kw_only=True)
class Answered(Answers, Scores):
    """View: the same with their rewards; what two models are compared by."""
