"""A made-up evaluation, for tests and for looking at the page: run this file with a folder."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from rayflow.core.evaluation_rows import Answered, Diversity, SideBySideVerdicts
from rayflow.evaluation.divergence import PolicyLogprobs, divergence
from rayflow.evaluation.measures import Measures, diversity_measure, reward_measure
from rayflow.evaluation.side_by_side import side_by_side
from rayflow.evaluation.win_rate import verdicts, win_rate
from rayflow.report.data import FailureCount, Sample, SamplesSection, StageTiming
from rayflow.report.evaluation import EvaluationReport, Sides, write_evaluation

SETTINGS = {"seed": 0, "num_resamples": 500, "confidence": 0.95}


def answers(rng: np.random.Generator, shift: float, longer: int, num_prompts: int) -> list[Answered]:
    """Rewards that rise with length, and by `shift`."""
    rows = []
    for i in range(num_prompts):
        sizes = rng.integers(10, 40, 6) + longer
        rewards = rng.normal(shift, 1, 6) + sizes / 40
        rows.append(
            Answered(
                prompt_id=f"p{i}",
                prompt="?",
                messages=(),
                target=None,
                responses=tuple("word " * size for size in sizes),
                token_ids=tuple(np.zeros(size, np.int32) for size in sizes),
                rewards=rewards,
            )
        )
    return rows


def judged(rng: np.random.Generator, num_prompts: int) -> list[SideBySideVerdicts]:
    """A judge that favours the first place, and sometimes does not answer."""
    swapped = np.array([0] * 4 + [1] * 4, np.int32)
    rows = []
    for i in range(num_prompts):
        lean = rng.normal(0.3, 1) + np.where(swapped, -0.6, 0.6)
        said = (rng.normal(lean, 0.7) > 0).astype(float)
        said[rng.random(8) < 0.08] = np.nan
        rows.append(
            SideBySideVerdicts(
                prompt_id=f"p{i}",
                num_items=1,
                judge_answers=("",) * 8,
                judge_swapped=swapped,
                judge_verdicts=said,
            )
        )
    return rows


def finished(num_prompts: int = 200) -> EvaluationReport:
    """An evaluation with every section; the second reward sees less of a difference."""
    rng = np.random.default_rng(0)
    rewards, values = {}, {}
    for name, shift in (("proxy", 0.9), ("gold", 0.3)):
        policy, baseline = answers(rng, shift, 8, num_prompts), answers(rng, 0.0, 0, num_prompts)
        won = win_rate(verdicts(policy, baseline), num_resamples=500)
        pairs = list(zip(policy, baseline, strict=True))
        rewards[name] = reward_measure(pairs, won, **SETTINGS)
        values[name] = Sides(*(np.concatenate([r.rewards for r in side]) for side in (policy, baseline)))
    lengths = Sides(*(np.array([len(t) for r in side for t in r.token_ids]) for side in (policy, baseline)))
    diverse = {
        side: diversity_measure(
            [
                Diversity(prompt_id="p", distinct_1=d, distinct_2=d + 0.2, distinct_3=0.9, self_bleu=0.8 - d)
                for d in rng.uniform(low, low + 0.2, num_prompts)
            ],
            **SETTINGS,
        )
        for side, low in (("policy", 0.3), ("baseline", 0.4))
    }
    ratios = rng.normal(5.2, 3.0, (num_prompts, 4))
    logprobs = [
        PolicyLogprobs(r, np.zeros(4), np.full(4, 30), np.array([True, False, False, False])) for r in ratios
    ]
    return EvaluationReport(
        name="sentiment-evaluation",
        created=datetime(2026, 3, 14, 15, 9, tzinfo=UTC),
        policy="quickstart",
        baseline="SFT policy",
        sft="SmolLM2-135M-Instruct",
        prompts="sentiment-eval.jsonl",
        sampling="6 per prompt, temperature 0.7, top_k 40, 48 tokens",
        rewards={"proxy": "classifier", "gold": "rule"},
        judge="engine (model judge), template generic",
        measures=Measures(
            rewards=rewards,
            diversity=diverse,
            kl=divergence(logprobs, **SETTINGS),
            side_by_side=side_by_side(judged(rng, num_prompts), **SETTINGS),
        ),
        values=values,
        lengths=lengths,
        log_ratios=ratios.ravel(),
        samples=SamplesSection(
            samples=(
                Sample(
                    prompt_id="p1",
                    prompt="Write a letter. <script>alert(1)</script>",
                    baseline_response="Dear you,",
                    baseline_reward=0.1,
                    policy_response="Dear wonderful you,",
                    policy_reward=0.9,
                ),
            ),
            num_prompts=num_prompts,
            seed=7,
        ),
        failures=(FailureCount(stage="side-by-side", reason="judge failed", count=2, example="too long"),),
        timings=tuple(
            StageTiming(stage=s, seconds=t, rows=num_prompts)
            for s, t in (("policy-sample", 61.0), ("side-by-side", 300.0))
        ),
        config_yaml="name: sentiment-evaluation\n",
        versions={"rayflow": "0.1.0"},
    )


if __name__ == "__main__":
    print(write_evaluation(finished(), Path(sys.argv[1])))
