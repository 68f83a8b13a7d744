"""A made-up finished run, for tests and for looking at the page: run this file with a folder to write to."""

from __future__ import annotations

import sys
from datetime import UTC, datetime

import numpy as np

from rayflow.report.data import (
    EvaluationSection,
    FailureCount,
    PairingSection,
    ReportData,
    Sample,
    SamplesSection,
    SelectionSection,
    StageTiming,
    TrainingSection,
)

PLANTED = "<script>document.title = 'planted script ran'</script>"


def history(steps: int, rng: np.random.Generator) -> tuple[dict[str, float], ...]:
    rows = []
    for step in range(1, steps + 1):
        done = step / steps
        margin = 1.4 * (1 - np.exp(-3 * done)) + 0.12 * rng.normal()
        rows.append(
            {
                "step": step,
                "loss": 1 - 0.5 * (1 - np.exp(-3 * done)) + 0.05 * rng.normal(),
                "rewards/margins": margin,
                "rewards/accuracies": float(
                    np.clip(0.5 + 0.35 * (1 - np.exp(-4 * done)) + 0.06 * rng.normal(), 0, 1)
                ),
                "rewards/chosen": -0.3 * done + 0.05 * rng.normal(),
                "rewards/rejected": -0.3 * done - margin,
                "learning_rate": 1e-5 * (min(1, 10 * done) if done < 0.1 else (1 - done) / 0.9),
                "grad_norm": 2 + abs(rng.normal()),
                "memory/peak_rss_bytes": (2 + done) * 2**30,
            }
        )
    return tuple(rows)


def samples(rng: np.random.Generator) -> SamplesSection:
    prompts = [
        f"Write one sentence about a play. {PLANTED}",
        "user: Summarise the review below in one sentence.\n\nThe second act drags, and the lead is never "
        "given anything to do but look worried. The set is the best thing on the stage.",
        "What did people say about the last season of the show?",
        "اكتب جملة واحدة عن المسرحية.",
    ]
    before = (
        "It was fine. The acting was not the best and the ending felt rushed, so I would not see it again."
    )
    after = (
        "A warm, wonderful evening: the cast clearly love what they do, and the ending earns its applause."
    )
    shown = [
        Sample(
            prompt_id=f"{i:016x}",
            prompt=prompts[i % 4],
            baseline_response="" if i == 3 else before * (1 + i % 3),
            baseline_reward=float(rng.normal(0, 1)),
            policy_response=f"{after} {PLANTED}" if i == 0 else after,
            policy_reward=float(rng.normal(1, 0.7)),
        )
        for i in range(12)
    ]
    return SamplesSection(samples=tuple(shown), num_prompts=256, seed=0)


def finished(seed: int = 0) -> ReportData:
    """A run with every section."""
    rng = np.random.default_rng(seed)
    candidates = rng.normal(0.1, 1.0, (600, 64))
    accepted = np.sort(candidates, axis=1)[:, -12::2] + rng.normal(0, 0.4, (600, 6))
    before, after = rng.normal(0.1, 1.0, 1024), rng.normal(0.95, 0.75, 1024)
    stages = [("prompts", 0.4), ("sample", 812.0), ("score", 143.0), ("select", 1.7), ("pair", 0.5)]
    stages += [("reference", 61.0), ("train", 1490.0), ("evaluate", 205.0)]
    return ReportData(
        name="sentiment-rso-64-to-8",
        created=datetime(2026, 3, 14, 15, 9, tzinfo=UTC),
        method="rso: rejection (beta 0.5) x first_round x hinge_norm",
        model="SmolLM2-135M-Instruct",
        reward="sentiment classifier",
        selection=SelectionSection(
            candidate_rewards=candidates,
            accepted_rewards=accepted,
            num_prompts=600,
            num_accepted=4788,
            target_per_prompt=8,
            num_short=3,
            acceptance_rates=rng.beta(3, 9, 600),
            rounds=1 + rng.poisson(0.9, 600),
            num_cut=1152,
            num_cut_accepted=335,
        ),
        pairing=PairingSection(num_pairs=2394, num_prompts=600, margins=rng.normal(0.4, 0.8, 2394)),
        training=TrainingSection(history=history(300, rng), loss="hinge_norm (gamma 0.05)", num_epochs=1),
        evaluation=EvaluationSection(
            win_rate=0.713,
            low=0.664,
            high=0.760,
            tie_rate=0.021,
            num_prompts=256,
            policy_reward=float(after.mean()),
            baseline_reward=float(before.mean()),
            policy_tokens=61.5,
            baseline_tokens=48.2,
            policy_rewards=after,
            baseline_rewards=before,
            policy_lengths=np.clip(rng.poisson(61, 1024), 1, 96),
            baseline_lengths=np.clip(rng.poisson(48, 1024), 1, 96),
        ),
        samples=samples(rng),
        failures=(
            FailureCount(stage="score", reason="reward is not finite", count=2, example="candidate 17: nan"),
            FailureCount(
                stage="sample", reason="prompt is too long", count=5, example="1,131 of 1,024 tokens"
            ),
        ),
        timings=tuple(
            StageTiming(
                stage=name,
                seconds=seconds,
                rows=600,
                tokens=1_900_000 if name in ("sample", "train") else None,
                peak_memory_bytes=3 << 30 if seconds > 50 else None,
            )
            for name, seconds in stages
        ),
        config_yaml="model: SmolLM2-135M-Instruct\nsample:\n  num_candidates: 64\n",
        versions={"rayflow": "0.1.0", "python": "3.12.8", "torch": "2.13.0", "vllm": "0.32.0"},
    )


if __name__ == "__main__":
    from rayflow.report.render import write_report

    print(write_report(finished(), sys.argv[1]))
