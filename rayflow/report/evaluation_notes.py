"""What a reader must know before quoting the numbers of an evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rayflow.report import words
from rayflow.report.remarks import FEW_PROMPTS, LENGTH_WARNING, stops_less, unstopped_note

if TYPE_CHECKING:
    from rayflow.evaluation.divergence import Divergence
    from rayflow.evaluation.measures import RewardMeasure
    from rayflow.evaluation.side_by_side import SideBySide
    from rayflow.evaluation.win_rate import WinRate
    from rayflow.report.evaluation import EvaluationReport

UNPARSABLE = 0.05
"""Share of a judge's answers without a verdict that the page remarks on."""

AGAINST_CUTS = (
    "Raise sample.max_tokens; or raise the missing_eos_penalty of the reward that training selects by, so that it "
    "prefers responses that end."
)
"""Which reward that was, an evaluation does not know: its own only measure."""


def notes(data: EvaluationReport) -> list[str]:
    """Remarks, each one sentence or a few, derived from the numbers."""
    found = data.measures
    if found is None:
        return []
    remarks = []
    if found.rewards:
        remarks += _reward_notes(next(iter(found.rewards.values())), data.baseline)
    elif found.side_by_side is not None:
        remarks += _judge_alone_notes(found.side_by_side, data)
    if data.policy_cut is not None and stops_less(data.policy_cut, data.baseline_cut):
        shares = data.policy_cut, data.baseline, data.baseline_cut
        remarks.append(f"{unstopped_note(words.the(data.policy), *shares)} {AGAINST_CUTS}")
    if found.side_by_side is not None:
        remarks += _judge_notes(found.side_by_side)
    if found.kl is not None:
        remarks += _kl_notes(found.kl)
    lost = sum(failure.lost for failure in data.failures)
    if lost:
        remarks.append(
            f"{words.count(lost, 'row')} left out, for the reasons that are listed under Failures."
        )
    return remarks


def _reward_notes(first: RewardMeasure, baseline: str) -> list[str]:
    won = first.win_rate
    remarks = [
        "A reward that selected the training data is optimistic about the policy trained on it; another judge, "
        "trained apart from it, says more.",
    ]
    if told := _length_note(won.policy_tokens, won.baseline_tokens, baseline):
        remarks.append(f"{told}: read the win rate at equal length beside the raw one.")
    remarks.append(
        f"{_intervals(won)} The win rate at equal length is the prediction of a logistic regression on the difference "
        "in length, in characters, where that is zero (AlpacaEval-LC, arXiv:2404.04475, for one pair of models)."
    )
    return remarks + _few(won.num_prompts)


def _judge_alone_notes(judged: SideBySide, data: EvaluationReport) -> list[str]:
    """What is said beside a reward otherwise."""
    remarks = []
    if data.lengths is not None:
        means = float(data.lengths.policy.mean()), float(data.lengths.baseline.mean())
        if told := _length_note(*means, data.baseline):
            remarks.append(f"{told}: judges tend to prefer what is longer.")
    return [*remarks, _intervals(judged), *_few(judged.num_prompts)]


def _length_note(policy: float, baseline: float, name: str) -> str:
    """Of mean lengths in tokens; "" where they are about the same."""
    change = policy / baseline - 1 if baseline else 0.0
    if abs(change) <= LENGTH_WARNING:
        return ""
    return (
        f"The policy's responses are {words.percent(abs(change), 0)} {'longer' if change > 0 else 'shorter'} than "
        f"those of {words.the(name)} ({words.fixed(policy, 1)} against {words.fixed(baseline, 1)} tokens)"
    )


def _intervals(found: WinRate | SideBySide) -> str:
    return (
        f"Intervals are {words.percent(found.confidence, 0)} percentile bootstraps over "
        f"{words.count(found.num_prompts, 'prompt')} ({found.num_resamples:,} resamples): they cover the choice of "
        "prompts, not another training run. Ties count half."
    )


def _few(num_prompts: int) -> list[str]:
    if num_prompts >= FEW_PROMPTS:
        return []
    prompts = words.count(num_prompts, "prompt")
    return [
        f"With {prompts} the intervals are too narrow; use at least {FEW_PROMPTS} prompts, better several hundred."
    ]


def _judge_notes(judged: SideBySide) -> list[str]:
    percent, remarks = words.percent, []
    if judged.first_low > 0.5 or judged.first_high < 0.5:
        which = "first" if judged.first > 0.5 else "second"
        remarks.append(
            f"The judge favours what it is shown {which}: the response in first place gets {percent(judged.first)} "
            "of the wins. Both orders are asked equally often, so the score is balanced, but items on which only the "
            "order decides end near a tie."
        )
    if judged.consistent < 0.5:
        remarks.append(
            f"Only on {percent(judged.consistent)} of the items do both orders lean the same way: this judge hardly "
            "tells the two sides apart. Its win rate says little."
        )
    lost = judged.num_unparsable + judged.num_unparsable_swapped
    if lost > UNPARSABLE * judged.num_verdicts:
        undecided = words.count(judged.num_undecided, "item")
        remarks.append(
            f"{lost:,} of the judge's {judged.num_verdicts:,} answers hold no verdict that can be told"
            + (f", and {undecided} none in one of the orders" if judged.num_undecided else "")
            + ": look at the answers in the side-by-side stage; max_tokens may be too small for it."
        )
    return remarks


def _kl_notes(kl: Divergence) -> list[str]:
    remarks = []
    if kl.low < 0:
        remarks.append(
            "The interval of the divergence reaches below zero, where no divergence lies: more samples are needed "
            "(kl.num_samples), or there is hardly any."
        )
    if kl.cut > 0:
        remarks.append(
            f"{words.percent(kl.cut)} of the samples for the divergence were cut at the length limit; it counts them "
            "up to there."
        )
    return remarks
