"""`rayflow diagnose`: reads a run's stored scores, one shard in memory at a time, and writes what they say."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from rayflow.core.options import KindOptions, build
from rayflow.core.rows import Scores
from rayflow.core.seeds import derive, rng
from rayflow.errors import ArtifactError, ConfigError, DataError
from rayflow.evaluation.diagnose import Rule, Sample, Settings, diagnose
from rayflow.evaluation.diagnosis import Diagnosis
from rayflow.pipeline.amended import as_written
from rayflow.pipeline.artifact import Artifact
from rayflow.pipeline.plan import Plan
from rayflow.pipeline.report import title
from rayflow.pipeline.stage import read_rows
from rayflow.report.diagnose import Subject
from rayflow.selection.gumbel import Gumbel
from rayflow.selection.rejection import RejectionSampling

TEMPERED = (RejectionSampling.Config, Gumbel.Config)
"""Settings of the rules that have a beta of the same meaning."""
MAX_SAMPLED = 2_000
"""Prompts drawn for what needs texts, lengths or the real rule: enough for an interval of a few percent."""
BATCH_PROMPTS = 1_024
"""Prompts per batch of rewards, at least: small shards are gathered so that numpy has something to do."""


@dataclass(frozen=True, kw_only=True)
class ScoredResponses(Scores):
    """View: what the sample needs."""

    responses: tuple[str, ...]
    token_ids: tuple[np.ndarray, ...]


def diagnose_run(
    plan: Plan, betas: Sequence[float], num_accepted: int | None, kl_budget: float | None
) -> Diagnosis:
    """Diagnose a run from its prompts, samples and scores. Loads no model.

    Args:
        plan: the run.
        betas: values to show; empty for a grid that fits the rewards.
        num_accepted: responses per prompt; None for the run's own, or an eighth of the candidates.
        kl_budget: nats; None for the default.

    Raises:
        ArtifactError: the samples or the scores are not finished, or hold no row.
        ConfigError, DataError: see `rayflow.evaluation.diagnose.diagnose`; or the run samples nothing.
    """
    if plan.config.source != "sampled":
        raise ConfigError(
            f"{plan.config.root} learns from given responses (source {plan.config.source}): without scored "
            "samples there is no beta to choose."
        )
    if "score" not in plan.artifacts:
        raise ConfigError(
            f"{plan.config.root} has no rewards, since nothing in it reads them: there is no beta to choose. "
            "Run it with --set score=always to have the candidates scored."
        )
    # As first drawn: prompts that were sampled again have more candidates than the others.
    sampled, scored = (as_written(plan.artifacts[name]) for name in ("sample", "score"))
    sampled.manifest()
    num_prompts = scored.manifest().num_rows
    if not num_prompts:
        raise ArtifactError(f"{scored.folder} holds no scores: every prompt failed. See its failures.jsonl.")
    config = plan.config
    ids, sample = draw_sample([sampled, scored], num_prompts, config.seed)
    own = getattr(config.select, "num_accepted", None) or max(1, sample.rewards.shape[1] // 8)
    tempered = isinstance(config.select, TEMPERED)
    settings = Settings(
        num_accepted=num_accepted or own,
        betas=tuple(betas),
        own_beta=config.select.beta if tempered else None,
        own_kind=config.select.kind if tempered else "",
        own_accepted=own if tempered else None,
        kl_budget=kl_budget,
        seed=config.seed,
    )
    rule = make_rule(plan, ids, sample.texts, settings.num_accepted)
    return diagnose(lambda: reward_batches(scored), num_prompts, sample, rule, settings)


def reward_batches(scored: Artifact) -> Iterator[np.ndarray]:
    """One pass over all stored rewards: [p, n] float64.

    Raises:
        DataError: two prompts have different numbers of candidates.
    """
    waiting: list[np.ndarray] = []
    for index in range(scored.num_shards):
        waiting += [row.rewards for row in read_rows([scored], index, Scores)]
        if len(waiting) >= BATCH_PROMPTS:
            yield _stack(waiting)
            waiting = []
    if waiting:
        yield _stack(waiting)


def draw_sample(
    sources: Sequence[Artifact], num_prompts: int, seed: int, limit: int = MAX_SAMPLED
) -> tuple[list[str], Sample]:
    """At most `limit` prompts, drawn by the run's seed: their ids, and what `Sample` holds of them.

    Args:
        sources: the artifacts of the candidates and of the scores, the scores last.
        num_prompts: rows of the scores.
        seed: the run's.
        limit: prompts drawn; all if there are no more.
    """
    chosen = np.sort(rng(seed, "diagnose").choice(num_prompts, min(limit, num_prompts), replace=False))
    ids, rewards, lengths, texts = [], [], [], []
    start = 0
    for index in range(sources[-1].num_shards):
        stop = start + sources[-1].shards.marker(index).rows
        inside = chosen[np.searchsorted(chosen, start) : np.searchsorted(chosen, stop)] - start
        for row in read_rows(sources, index, ScoredResponses, inside) if inside.size else []:
            ids.append(row.prompt_id)
            rewards.append(row.rewards)
            lengths.append(np.array([len(tokens) for tokens in row.token_ids]))
            codes: dict[str, int] = {}
            texts.append(np.array([codes.setdefault(text, len(codes)) for text in row.responses]))
        start = stop
    return ids, Sample(rewards=_stack(rewards), lengths=_stack(lengths), texts=_stack(texts))


def make_rule(plan: Plan, prompt_ids: Sequence[str], texts: np.ndarray, num_accepted: int) -> Rule:
    """The run's rule with the select stage's own seeds: at the run's beta it accepts what the run did.

    Rejection sampling in the run's variant, or Gumbel sampling; for a run that selects without a beta, rejection
    sampling.

    Args:
        plan: the run.
        prompt_ids: m prompts.
        texts: [m, n] int in [0, n), equal within a prompt where two responses have the same text.
        num_accepted: responses per prompt.
    """
    own = plan.config.select
    options = own if isinstance(own, TEMPERED) else RejectionSampling.Config()
    keys = (texts,) if getattr(build("selection", options), "needs_keys", False) else ()
    seeds = np.array([derive(plan.config.seed, "select", prompt_id) for prompt_id in prompt_ids], np.uint64)

    def rule(rewards: np.ndarray, beta: float) -> tuple[list[np.ndarray], np.ndarray]:
        # Infinity is no setting of a rule; at the largest float, too, rewards make no difference. At 0 both rules
        # take the highest rewards, but only rejection sampling has it as a setting.
        at = {"beta": min(beta, sys.float_info.max), "num_accepted": num_accepted}
        selector = build("selection", (options if beta else _at_zero(options)).model_copy(update=at))
        found = selector.select(rewards, seeds, *keys)
        return found.per_prompt(), found.num_rounds

    return rule


def _at_zero(options: KindOptions) -> KindOptions:
    return options if isinstance(options, RejectionSampling.Config) else RejectionSampling.Config()


def subject(plan: Plan, folder: str) -> Subject:
    """What the page says about the run, whose folder a command names so."""
    config, sampling = plan.config, plan.config.sample
    drawn = [f"{sampling.num_candidates} candidates", f"temperature {sampling.temperature:g}"]
    drawn += [f"top_k {sampling.top_k}"] if sampling.top_k else []
    drawn += [f"top_p {sampling.top_p:g}"] if sampling.top_p < 1 else []
    return Subject(
        name=config.name,
        created=datetime.now(tz=UTC),
        model=Path(sampling.model or config.model).name,
        sampling=", ".join(drawn),
        reward=title(config.reward),
        folder=folder,
    )


def _stack(rows: list[np.ndarray]) -> np.ndarray:
    sizes = {len(row) for row in rows}
    if len(sizes) > 1:
        raise DataError(
            f"Prompts have between {min(sizes)} and {max(sizes)} candidates. Estimates over prompts need the "
            "same number for each."
        )
    return np.stack(rows)
