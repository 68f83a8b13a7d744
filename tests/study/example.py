"""A made-up study, for tests and for looking at the page: run this file with a folder."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rayflow.config.study import StudyConfig
from rayflow.study.found import Found
from rayflow.study.page import write
from rayflow.study.pair_quality import PairQuality
from rayflow.study.results import RewardResult, RowResult

PAPER = {"direct": 76.09, "sft": 78.14, "rso": 82.22}
CONFIG = {
    "name": "made-up",
    "model": "models/small",
    "seeds": [1, 2],
    "parts": {"preferences": "p.yaml", "proxy": "x.yaml", "run": "r.yaml", "evaluation": "e.yaml"},
    "rows": {
        "direct": {"title": "DPO, direct", "group": "direct"},
        "sft": {"title": "DPO, sft-sample-rank", "group": "sft"},
        "rso": {
            "title": "RSO",
            "group": "rso",
            "settings": {"train.loss": {"kind": "sigmoid_norm", "gamma": 0.5}},
        },
        "absent": {"title": "Not run yet"},
    },
    "sweeps": {
        "gamma": {
            "title": "Gamma",
            "row": "rso",
            "setting": "train.loss.gamma",
            "own": 0.5,
            "values": [5, 0.05],
        }
    },
    "tables": {
        "table1": {
            "title": "Table 1",
            "source": "Made up.",
            "rows": ["direct", "sft", "rso", "absent"],
            "paper": {"gold": PAPER, "proxy": {"direct": 84.35, "rso": 92.37}},
        }
    },
    "notes": ["The <b>order</b> differs for a reason."],
}
PAIRS = {
    "rso": PairQuality(count=1096.0, agreement=0.58, difference=0.07, rejected=0.6),
    "sft": PairQuality(count=96.0, agreement=None, difference=0.0, rejected=0.1),
}
PROXY = {"accuracy": 0.71, "low": 0.66, "high": 0.76}


def result(
    row: str, seed: int, gold: Sequence[float], proxy: Sequence[float] | None = None, **more
) -> RowResult:
    """One row and seed whose win shares are these, prompt by prompt."""

    def reward(shares: Sequence[float]) -> RewardResult:
        wins = {f"p{i}": share for i, share in enumerate(shares)}
        return RewardResult(wins=wins, length_controlled=0.5, gain=0.25, policy=0.5, baseline=0.25)

    numbers = {"kl": 1.5, "cut": 0.125, "policy_tokens": 20.0, "baseline_tokens": 18.0, "distinct": 0.75}
    numbers |= {"num_steps": 12, "margin": 0.25, "train_seconds": 30.0, "seconds": 90.0} | more
    rewards = {"gold": reward(gold), "proxy": reward(gold if proxy is None else proxy)}
    return RowResult(row=row, seed=seed, rewards=rewards, **numbers)


def made_up(config: Mapping[str, object] = CONFIG, proxy: Mapping[str, float] | None = PROXY) -> Found:
    """Rows with two seeds each; the SFT samples win more often than rejection sampling."""
    results = (
        result("direct", 1, [0.25, 0.5, 0.75, 0.5], margin=0.1),
        result("direct", 2, [0.25, 0.5, 0.5, 0.25], margin=0.1),
        result("sft", 1, [0.75, 1.0, 0.75, 0.5], kl=2.5, policy_tokens=30.0),
        result("sft", 2, [0.5, 1.0, 0.75, 0.75], kl=2.5, policy_tokens=30.0),
        result("rso", 1, [0.5, 0.75, 0.5, 0.5], [0.75, 1.0, 1.0, 0.75]),
        result("rso", 2, [0.5, 0.75, 0.75, 0.5], [0.75, 1.0, 1.0, 1.0]),
        result("rso.gamma=5", 1, [0.5, 0.5, 0.5, 0.75], num_steps=11, margin=None),
    )
    return Found(StudyConfig.model_validate(config), results, dict(proxy) if proxy else None, PAIRS)


if __name__ == "__main__":
    print(write(made_up(), Path(sys.argv[1])))
