"""What pairs are worth by the gold reward, against values worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rayflow.core.rows import PreferencePairs, Scores
from rayflow.pipeline.artifact import Artifact
from rayflow.study.pair_quality import judge_pairs
from tests.pipeline.test_bounded import store


def pairs(folder: Path, found: dict[str, list[tuple[int, int]]]) -> Artifact:
    rows = [
        PreferencePairs(
            prompt_id=prompt,
            pairs=tuple(np.array(pair, np.int32) for pair in each),
            label_source="reward",
            margins=np.zeros(len(each)),
        )
        for prompt, each in found.items()
    ]
    return store(Artifact(folder), PreferencePairs, [rows])


@pytest.fixture
def gold(tmp_path: Path) -> Artifact:
    rewards = {"a": [0.0, 0.5, 1.0, 0.5], "b": [0.25, 0.75], "c": [0.0, 1.0]}
    rows = [Scores(prompt_id=prompt, rewards=np.array(each)) for prompt, each in rewards.items()]
    return store(Artifact(tmp_path / "gold"), Scores, [rows])


def test_all_seeds_count_and_equal_rewards_neither_agree_nor_disagree(tmp_path, gold):
    runs = [
        pairs(tmp_path / "one", {"a": [(2, 0), (1, 3), (0, 1)], "b": [(1, 0)]}),
        pairs(tmp_path / "two", {"b": [(0, 1)], "c": []}),
    ]
    found = judge_pairs(runs, gold)
    assert found.count == 2.5
    assert found.agreement == pytest.approx(2 / 4)  # +1, equal, -0.5, +0.5, -0.5
    assert found.difference == pytest.approx(0.1)
    assert found.rejected == pytest.approx((0.0 + 0.5 + 0.5 + 0.25 + 0.75) / 5)


def test_pairs_that_are_all_equal_say_nothing_and_no_pairs_are_none(tmp_path, gold):
    assert judge_pairs([pairs(tmp_path / "one", {"a": [(1, 3)]})], gold).agreement is None
    assert judge_pairs([pairs(tmp_path / "none", {"a": []})], gold) is None
