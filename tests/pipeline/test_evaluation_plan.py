"""What an evaluation plans before anything runs: where its judge computes, and what a folder means."""

from __future__ import annotations

from pathlib import Path

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
