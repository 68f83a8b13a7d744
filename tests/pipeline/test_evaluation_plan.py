"""What an evaluation plans before anything runs: where its judge computes, and what a folder means."""

from __future__ import annotations

from pathlib import Path

import pytest

from rayflow.config import PoolOptions
from rayflow.config.evaluate import EvaluateConfig
from rayflow.pipeline.evaluation_config import evaluation_config
from rayflow.pipeline.evaluation_plan import build_evaluation_plan
from tests.pipeline.evaluation_helpers import evaluation_settings


def test_a_judge_behind_an_endpoint_takes_no_gpu_of_the_samplers(tmp_path: Path) -> None:
    given = evaluation_settings(tmp_path, "fake", "fake")
    given["compute"] |= {"sample": {"num_workers": 16, "num_gpus": 1}}
    endpoint = {"kind": "openai", "url": "http://127.0.0.1:1/v1", "model": "judge"}

    def pool(asked: dict, **compute: dict) -> PoolOptions:
        changed = {"side_by_side": {"judge": asked}, "compute": {**given["compute"], **compute}}
        return (
            build_evaluation_plan(EvaluateConfig.model_validate(given | changed)).stages["side-by-side"].pool
        )

    assert (pool(endpoint).num_workers, pool(endpoint).num_gpus) == (1, 0)
    assert pool({"kind": "engine", "model": "fake"}).num_workers == 16
    assert pool(endpoint, judge={"num_workers": 3}).num_workers == 3


def test_an_evaluation_s_folder_is_gone_on_with(tmp_path: Path, tiny_model: str) -> None:
    given = evaluation_settings(tmp_path, tiny_model, tiny_model)
    config = EvaluateConfig.model_validate(given)
    config.root.mkdir(parents=True)
    (config.root / "config.yaml").write_text(config.to_yaml())
    assert evaluation_config(config.root, ["seed=4"]) == config.model_copy(update={"seed": 4})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"side_by_side": {"threshold": 0.6}}, "threshold is 0.6, and .avg - 1/2. is at most 0.5"),
        (
            {"side_by_side": {"threshold": 0.5}},
            "nothing could be won or lost: lower it, or set reading: scaled",
        ),
        ({"side_by_side": {"threshold": 0.6, "reading": "scaled"}}, None),
        ({"side_by_side": {"threshold": 0.49}}, None),
        ({"side_by_side": {"num_items": 9}}, "num_items is 9, and one of the sides has 8 response"),
        ({"side_by_side": {"num_items": 8}}, None),
        (
            {"side_by_side": {"num_items": 3}, "sample": {"num_baseline_candidates": 2}},
            "one of the sides has 2 ",
        ),
        ({"side_by_side": {"num_items": 2}, "baseline": "target"}, "one of the sides has 1 "),
        ({"side_by_side": {"num_items": 8}, "baseline": {"responses": {"path": "a.jsonl"}}}, None),
    ],
)
def test_a_comparison_that_cannot_be_as_asked_is_refused(
    tmp_path: Path, changes: dict, said: str | None
) -> None:
    given = evaluation_settings(tmp_path, "fake", "fake")
    judge = {"judge": {"kind": "engine", "model": "fake"}}
    sample = {**given["sample"], "num_candidates": 8, **changes.get("sample", {})}
    changed = given | changes | {"sample": sample, "side_by_side": judge | changes["side_by_side"]}
    if said is None:
        EvaluateConfig.model_validate(changed)
        return
    with pytest.raises(ValueError, match=said):
        EvaluateConfig.model_validate(changed)
