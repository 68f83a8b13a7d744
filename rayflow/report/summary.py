"""The report's numbers for machines, and the honest remarks that go with them."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from rayflow import __version__
from rayflow.report import words
from rayflow.report.data import (
    EvaluationSection,
    ReportData,
    SelectionSection,
    TrainingSection,
)
from rayflow.report.remarks import (
    BIAS_WARNING,
    bias_note,
    evaluation_notes,
    reference_notes,
    selection_notes,
)
from rayflow.report.values import Values, mean_of

SCHEMA_VERSION = 1
_METRICS = (
    "loss",
    "rewards/margins",
    "rewards/accuracies",
    "rewards/chosen",
    "rewards/rejected",
    "learning_rate",
    "grad_norm",
)


def summary(data: ReportData) -> dict[str, Any]:
    """The content of `summary.json`. Keys are stable within a schema version; absent numbers are null.

    Returns:
        `schema_version`, `rayflow_version`, `name`, `created` (ISO 8601), `method`, `model`, `reward`;
        `missing`: names of the sections below that are null because their stage has not run;
        `evaluation`: `win_rate`, `low`, `high`, `tie_rate` (shares), `excludes_half`, `confidence`,
            `num_resamples`, `num_prompts`, `policy_reward`, `baseline_reward`, `policy_tokens`,
            `baseline_tokens`, `length_change` (relative), `policy_cut`, `baseline_cut` (shares cut at max_tokens,
            null where unknown), `reward`, `baseline`;
        `selection`: `num_prompts`, `num_candidates`, `num_accepted`, `target_per_prompt`, `num_short`,
            `num_resampled`, `candidate_reward`, `accepted_reward` (means, null where nothing was scored),
            `acceptance_rate` (mean share), `rounds` (mean), `cut_candidates`, `cut_accepted` (shares cut at
            max_tokens, null where unknown);
        `position_bias`: list of `source`, `num_comparisons`, `changed` (share), `mean_difference`;
        `pairing`: `num_pairs`, `num_prompts`, `num_by_ranker`, `margin` (mean);
        `training`: `loss_name`, `num_epochs` (as far as it came), `num_logged`, `last_step`, `kept_step` (whose model
            was chosen, null where none was), `peak_rss_bytes` and `peak_gpu_bytes` of the largest training process,
            and `first` and `last`, the first and last logged value of each metric;
        `reference`: `source`, `num_compared`, `mean_difference`, `max_difference` (nats), `threshold`;
        `samples`: `num_shown`, `num_prompts`, `seed`;
        `failures`: list of `stage`, `reason`, `count`, `example`, `kept`, `dropped`;
        `timings`: list of `stage`, `seconds`, `rows`, `tokens`, `peak_memory_bytes`, `step_tokens_per_second`;
        `total_seconds`, `versions`, `notes`.
    """
    pairing, samples = data.pairing, data.samples
    content = {
        "schema_version": SCHEMA_VERSION,
        "rayflow_version": __version__,
        "name": data.name,
        "created": data.created.isoformat(timespec="seconds"),
        "method": data.method,
        "model": data.model,
        "reward": data.reward,
        "missing": list(data.missing),
        "evaluation": data.evaluation and _evaluation(data.evaluation, data.reward),
        "selection": data.selection and _selection(data.selection),
        "pairing": pairing
        and {
            "num_pairs": pairing.num_pairs,
            "num_prompts": pairing.num_prompts,
            "num_by_ranker": pairing.num_by_ranker,
            "margin": mean_of(pairing.margins),
        },
        "training": data.training and training_summary(data.training),
        "reference": data.reference and asdict(data.reference),
        "samples": samples
        and {"num_shown": len(samples.samples), "num_prompts": samples.num_prompts, "seed": samples.seed},
        "position_bias": [asdict(bias) for bias in data.position_bias],
        "failures": [asdict(failure) for failure in data.failures],
        "timings": [asdict(timing) for timing in data.timings],
        "total_seconds": sum(timing.seconds for timing in data.timings),
        "versions": dict(data.versions),
        "notes": notes(data),
    }
    return strict(content)


def _evaluation(section: EvaluationSection, reward: str) -> dict[str, Any]:
    names = (
        "win_rate low high tie_rate excludes_half confidence num_resamples num_prompts policy_reward "
        "baseline_reward policy_tokens baseline_tokens length_change policy_cut baseline_cut baseline"
    )
    return {name: getattr(section, name) for name in names.split()} | {"reward": reward}


def _selection(section: SelectionSection) -> dict[str, Any]:
    rates, rounds = section.acceptance_rates, section.rounds
    return {
        "num_prompts": section.num_prompts,
        "num_candidates": section.candidates,
        "num_accepted": section.num_accepted,
        "target_per_prompt": section.target_per_prompt,
        "num_short": section.num_short,
        "num_resampled": section.num_resampled,
        "candidate_reward": _mean(section.candidate_rewards),
        "accepted_reward": _mean(section.accepted_rewards),
        "acceptance_rate": _mean(rates),
        "rounds": _mean(rounds),
        "cut_candidates": section.cut_candidates,
        "cut_accepted": section.cut_accepted,
    }


def _mean(values: Values | None) -> float | None:
    return None if values is None else mean_of(values)


def training_summary(section: TrainingSection) -> dict[str, Any]:
    """First and last logged value of each metric, and the most memory."""
    logged = {key: [row[key] for row in section.history if row.get(key) is not None] for key in _METRICS}
    return {
        "loss_name": section.loss,
        "num_epochs": section.num_epochs,
        "num_logged": len(section.history),
        "last_step": section.history[-1]["step"] if section.history else None,
        "kept_step": section.kept_step,
        "peak_rss_bytes": section.peak("rss"),
        "peak_gpu_bytes": section.peak("gpu"),
        "first": {key: values[0] if values else None for key, values in logged.items()},
        "last": {key: values[-1] if values else None for key, values in logged.items()},
    }


def strict(value: Any) -> Any:
    """Numpy scalars to Python's, and NaN or infinity to None: JSON has neither."""
    if isinstance(value, dict):
        return {key: strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [strict(item) for item in value]
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def notes(data: ReportData) -> list[str]:
    """What a reader must know before quoting the numbers: derived from the data, then the run's own notes."""
    penalty = data.missing_eos_penalty
    found = evaluation_notes(data.evaluation, penalty) if data.evaluation else []
    found += selection_notes(data.selection, penalty) if data.selection else []
    found += [bias_note(bias) for bias in data.position_bias if bias.changed > BIAS_WARNING]
    found += reference_notes(data.reference) if data.reference else []
    if data.training and data.training.unshared:
        found.append(
            f"Training read the prompt anew for every response: {data.training.unshared}. That is slower, and gives "
            "the same numbers."
        )
    lost = sum(failure.lost for failure in data.failures)
    if lost:
        found.append(
            f"{words.count(lost, 'row')} failed and {'is' if lost == 1 else 'are'} not in any number above; "
            "the reasons are listed under Failures."
        )
    return found + list(data.notes)
