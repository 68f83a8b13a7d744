"""Remarks of a report on single sections, and from which numbers on they are made."""

from __future__ import annotations

from rayflow.report import words
from rayflow.report.chosen import PositionBias, SelectionSection
from rayflow.report.data import ReferenceSection
from rayflow.report.outcome import EvaluationSection

LENGTH_WARNING = 0.2
"""Relative change of the mean response length beyond which the report warns."""
BIAS_WARNING = 0.2
"""Share of comparisons whose winner changes with the order, beyond which the report warns."""
CUT_WARNING = 0.05
"""Share of responses that were cut at max_tokens, beyond which the report warns; of the trained model's also by how
much it must be above the baseline's."""
FEW_PROMPTS = 30
"""Below this many prompts a percentile bootstrap interval is known to be too narrow."""


def selection_notes(section: SelectionSection, penalty: float | None) -> list[str]:
    """Of what was selected from; `penalty` as in `against_cuts`."""
    found = []
    if not section.scored:
        found.append(
            "The sampled candidates have no rewards: selection, pairing and loss read none, so none were computed. "
            "score: always has them computed for this report."
        )
    if section.num_short:
        found.append(
            f"{words.count(section.num_short, 'prompt')} of {section.num_prompts:,} yielded fewer than the "
            f"{section.target_per_prompt} responses that selection was asked for."
        )
    if max(section.cut_candidates or 0, section.cut_accepted or 0) > CUT_WARNING:
        found.append(cut_note(section, penalty))
    return found


def against_cuts(penalty: float | None) -> list[str]:
    """What can be set so that fewer responses are cut.

    Args:
        penalty: the reward's `missing_eos_penalty`, 0 or more; None where training reads no reward that has this
            setting.
    """
    found = ["raise sample.max_tokens"]
    if penalty is None:
        return found
    known = f"raise the reward's missing_eos_penalty (now {penalty:g})"
    return [*found, known if penalty else "give the reward a missing_eos_penalty"]


def cut_note(section: SelectionSection, penalty: float | None) -> str:
    """Of candidates that were cut."""
    judged = ", and their rewards judge an unfinished text" if section.scored else ""
    todo = ", ".join(against_cuts(penalty))
    return (
        f"{words.percent(section.cut_candidates)} of the candidates and {words.percent(section.cut_accepted)} of the "
        "accepted responses were cut at sample.max_tokens. They have no end-of-text token, so the policy does not "
        f"learn from them where to stop{judged}. {todo.capitalize()}, or ask for shorter answers."
    )


def bias_note(bias: PositionBias) -> str:
    """Of a pairwise reward whose verdicts depend on the order."""
    return (
        f"The reward's verdict changes with the order in which it reads two responses in "
        f"{words.percent(bias.changed)} of the comparisons for {bias.source}. Both orders are averaged, but such "
        "verdicts are close to coin flips."
    )


def reference_notes(section: ReferenceSection) -> list[str]:
    """Of the sampler's log-probabilities beside the reference model's."""
    found = []
    if (section.mean_difference or 0.0) > section.threshold:
        found.append(
            f"The sampler's log-probabilities differ from the reference model's by "
            f"{section.mean_difference:.2f} nats per response on average: the engine and the trainer do not "
            "compute the same function (another precision, chat template or attention?). Use reference.source: "
            "recompute, and look into it."
        )
    if section.source == "sampler" and not section.num_compared:
        found.append(
            "No prompt fell into the share (reference.check_fraction) of which the reference recomputes what the "
            "sampler says, so that the two agree is not shown. Raise it."
        )
    return found


def evaluation_notes(section: EvaluationSection, penalty: float | None) -> list[str]:
    """Of the comparison with the baseline; `penalty` as in `against_cuts`."""
    found = []
    if section.optimised:
        found.append(
            "The reward that judges this evaluation also selected, ordered or weighted the training data, or chose the "
            "checkpoint, so the win rate is optimistic: it shows that training optimised the reward, not that people "
            "prefer the result. Confirm it with another judge or with human ratings."
        )
    if abs(section.length_change) > LENGTH_WARNING:
        found.append(
            f"The trained model's responses are {words.percent(abs(section.length_change), 0)} "
            f"{'longer' if section.length_change > 0 else 'shorter'} than the baseline's "
            f"({words.fixed(section.policy_tokens, 1)} against {words.fixed(section.baseline_tokens, 1)} tokens)."
            " Part of the change in reward may be due to length alone."
        )
    if section.policy_cut is not None and stops_less(section.policy_cut, section.baseline_cut):
        shares = section.policy_cut, section.baseline, section.baseline_cut
        todo = ", or ".join(against_cuts(penalty))
        sense = "" if penalty is None else ", so that training prefers responses that end"
        found.append(f"{unstopped_note('the trained model', *shares)} {todo.capitalize()}{sense}.")
    found.append(
        f"The interval is a {words.percent(section.confidence, 0)} percentile bootstrap over "
        f"{words.count(section.num_prompts, 'prompt')} ({section.num_resamples:,} resamples): it covers the "
        "choice of held-out prompts, not another training run. Ties count half"
        + (f" ({words.percent(section.tie_rate)} of comparisons were ties)." if section.tie_rate else ".")
    )
    if section.num_prompts < FEW_PROMPTS:
        found.append(
            f"With {words.count(section.num_prompts, 'prompt')} the interval is too narrow; use at least "
            f"{FEW_PROMPTS} held-out prompts, better several hundred."
        )
    return found


def stops_less(policy_cut: float | None, baseline_cut: float | None) -> bool:
    """Whether the policy is cut at max_tokens often, and clearly more often than the baseline; shares, None unknown."""
    policy = policy_cut or 0.0
    return policy > CUT_WARNING and policy - (baseline_cut or 0.0) > CUT_WARNING


def unstopped_note(policy: str, policy_cut: float, baseline: str, baseline_cut: float | None) -> str:
    """Of a policy that `stops_less`; both by name, with their shares. What to do about it is the caller's to say."""
    told = (
        "" if baseline_cut is None else f", against {words.percent(baseline_cut)} of {words.the(baseline)}'s"
    )
    return (
        f"{words.percent(policy_cut)} of {policy}'s responses were cut at sample.max_tokens{told}: it stops by itself "
        "less often, and its rewards judge unfinished texts. What it would go on to write is not in the win rate."
    )
