"""The layout `groups`: a prompt with its responses and the pairs among them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from rayflow.config import PromptSource
from rayflow.core.rows import Failure
from rayflow.sources.read import read

ROW = {"prompt": "p", "responses": ["a", "b", "c"], "pairs": [[2, 0], [1, 0]], "scores": [0.1, 0.5, 0.9]}


def only(tmp_path: Path, row: dict):  # noqa: ANN201
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps(row))
    (found,) = read(PromptSource(path=str(path)))
    return found


def test_a_group_keeps_its_pairs_and_scores(tmp_path: Path) -> None:
    found = only(tmp_path, ROW)
    assert found.responses == ("a", "b", "c")
    assert np.array(found.pairs).tolist() == [[2, 0], [1, 0]] and found.rewards.tolist() == [0.1, 0.5, 0.9]
    unscored = only(tmp_path, {k: v for k, v in ROW.items() if k != "scores"})
    assert np.isnan(unscored.rewards).all() and len(unscored.pairs) == 2


@pytest.mark.parametrize("pairs", [[[0, 3]], [[0, 0]], [[-1, 0]], [[0]], [["0", "1"]], 5, [[True, 0]]])
def test_pairs_must_name_two_responses(tmp_path: Path, pairs: object) -> None:
    found = only(tmp_path, ROW | {"pairs": pairs})
    assert isinstance(found, Failure) and "of 3 responses" in found.detail


def test_what_a_sampler_cut_is_told(tmp_path: Path) -> None:
    reasons = ["stop", "length", "stop"]
    assert only(tmp_path, ROW | {"finish_reasons": reasons}).finish_reasons == tuple(reasons)
    assert only(tmp_path, ROW).finish_reasons == ()  # all ended by themselves


@pytest.mark.parametrize("reasons", [["stop"], ["stop", "length", "cut"], "stop", [1, 2, 3]])
def test_finish_reasons_are_two_words_one_for_each_response(tmp_path: Path, reasons: object) -> None:
    found = only(tmp_path, ROW | {"finish_reasons": reasons})
    assert isinstance(found, Failure) and "'finish_reasons' must be a list of 3 words" in found.detail
