"""Everything a report shows, as plain frozen records: what the pipeline fills and `render` draws.

A part of the run that is not there yet is None (a section) or empty
(a tuple): the report then says that it is missing, and shows the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

import numpy as np

from rayflow.report.chosen import PairingSection, PositionBias, SelectionSection
from rayflow.report.outcome import EvaluationSection


@dataclass(frozen=True, kw_only=True)
class ReferenceSection:
    """The reference's log-probabilities, and how far the sampler's own are from them.

    Attributes:
        source: "recompute" or "sampler".
        num_compared: responses whose log-probability is known from both.
        mean_difference, max_difference: nats, absolute, of a response's summed log-probability; None if none
            was compared.
        threshold: nats; a larger mean deserves a warning.
    """

    source: str
    num_compared: int
    mean_difference: float | None
    max_difference: float | None
    threshold: float


@dataclass(frozen=True, kw_only=True)
class TrainingSection:
    """The training curves.

    Attributes:
        history: one mapping per logged step, with "step" and any of "loss", "rewards/margins",
            "rewards/accuracies" (share), "rewards/chosen", "rewards/rejected" (nats times gamma),
            "learning_rate", "grad_norm", "memory/peak_rss_bytes", "memory/peak_gpu_bytes". A key may be absent
            from some steps.
        loss: the loss as a reader calls it, such as "hinge_norm (gamma 0.05)".
        num_epochs: passes over what is trained on, as far as training came; None if unknown.
        kept_step: whose model was kept, where it was chosen by its win rate on validation prompts; else None.
        unshared: why the model read the prompt anew for every response; None if it read it once.
    """

    history: tuple[Mapping[str, float], ...]
    loss: str | None = None
    num_epochs: float | None = None
    kept_step: int | None = None
    unshared: str | None = None

    def peak(self, kind: Literal["rss", "gpu"]) -> int | None:
        """Most bytes that any training process held resident, or on its GPU; None where it was not logged."""
        logged = [row.get(f"memory/peak_{kind}_bytes") for row in self.history]
        return max((int(size) for size in logged if size), default=None)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One held-out prompt with a response of each model; rewards as the evaluation computed them, None without any."""

    prompt_id: str
    prompt: str
    baseline_response: str
    baseline_reward: float | None
    policy_response: str
    policy_reward: float | None


@dataclass(frozen=True, kw_only=True)
class SamplesSection:
    """Responses side by side, drawn at random so that they cannot be cherry-picked.

    Attributes:
        samples: the drawn rows (`draw` picks which).
        num_prompts: prompts they were drawn from.
        seed: of the draw.
    """

    samples: tuple[Sample, ...]
    num_prompts: int
    seed: int


@dataclass(frozen=True, kw_only=True)
class FailureCount:
    """Rows that a stage could not finish for one reason, and one example of what exactly was seen.

    Attributes:
        kept: the rows went on all the same, with what they had before.
        dropped: they were left out on purpose: repeats, and rows of another split.
    """

    stage: str
    reason: str
    count: int
    example: str = ""
    kept: bool = False
    dropped: bool = False

    @property
    def lost(self) -> int:
        """Rows that should have gone on, and did not."""
        return 0 if self.kept or self.dropped else self.count


@dataclass(frozen=True, kw_only=True)
class StageTiming:
    """What one stage took.

    Attributes:
        stage: its name, in the order of the run.
        seconds: wall time.
        rows: prompts that went through; None if unknown.
        tokens: tokens generated or processed; None if unknown.
        peak_memory_bytes: highest resident memory of the stage's largest process; None if unknown.
        step_tokens_per_second: of training, mean over its steps, whose tokens are not counted otherwise.
    """

    stage: str
    seconds: float
    rows: int | None = None
    tokens: int | None = None
    peak_memory_bytes: int | None = None
    step_tokens_per_second: float | None = None

    @property
    def rows_per_second(self) -> float | None:
        """Start-up included; None if unknown."""
        return self.rows / self.seconds if self.rows is not None and self.seconds else None

    @property
    def tokens_per_second(self) -> float | None:
        """Start-up included where tokens are counted; None if unknown."""
        counted = self.tokens is not None and self.seconds
        return self.tokens / self.seconds if counted else self.step_tokens_per_second


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """One run, as the report shows it.

    Attributes:
        name: the run's name.
        created: when the run started, or when the report was made; shown with its time zone if it has one.
        method: one line, such as "rso: rejection (beta 0.5) x first_round x hinge_norm".
        model: the policy's starting model (the SFT model).
        reward: what scored the candidates.
        missing_eos_penalty: what that takes from a response that was cut at max_tokens, in units of the reward; None
            where nothing is scored, or by a reward without this setting.
        reference: where the reference's log-probabilities come from; None if the loss reads none.
        selection, pairing, training, evaluation, samples: sections, None while the stage has not run.
        position_bias: of a pairwise reward that reads both orders, by what its verdicts were for.
        failures: counts by stage and reason.
        timings: one per finished stage, in order.
        config_yaml: the resolved configuration as YAML.
        versions: package or tool -> version.
        notes: further remarks for the reader, one sentence or two each, plain text.
        not_part_of_run: sections that this kind of run does not have; the report passes over them.
        folder: the run's, as a command names it; "" if it is not known.
    """

    name: str
    created: datetime
    method: str
    model: str
    reward: str
    missing_eos_penalty: float | None = None
    selection: SelectionSection | None = None
    pairing: PairingSection | None = None
    training: TrainingSection | None = None
    reference: ReferenceSection | None = None
    evaluation: EvaluationSection | None = None
    samples: SamplesSection | None = None
    position_bias: tuple[PositionBias, ...] = ()
    failures: tuple[FailureCount, ...] = ()
    timings: tuple[StageTiming, ...] = ()
    config_yaml: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    not_part_of_run: tuple[str, ...] = ()
    folder: str = ""

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of the sections that the run does not have yet."""
        names = ("selection", "pairing", "training", "evaluation", "samples")
        absent = (name for name in names if getattr(self, name) is None)
        return tuple(name for name in absent if name not in self.not_part_of_run)


def draw(num_prompts: int, *, count: int = 12, seed: int = 0) -> np.ndarray:
    """Positions of the prompts to show side by side: seeded, uniform, without looking at the responses.

    Returns:
        [min(count, num_prompts)] int64, increasing.
    """
    rng = np.random.default_rng(seed)
    return np.sort(rng.choice(num_prompts, size=min(count, num_prompts), replace=False))
