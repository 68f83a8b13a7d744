"""Rewards that stages and training hold are closed: a member in a process of its own would keep its GPU."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from rayflow.config import RunConfig
from rayflow.core.evaluation_rows import Answers
from rayflow.core.registry import resolve
from rayflow.core.schema import to_table
from rayflow.engines.base import SamplingOptions
from rayflow.errors import StageError
from rayflow.pipeline.proxy import ProxyJudge
from tests.pipeline.helpers import run_data
from tests.pipeline.judges import Closing

KNOCKOUT = {"select": "knockout", "pair": "none", "train": {"loss": {"kind": "cross_entropy"}}}


@pytest.mark.parametrize(
    ("changes", "holders"), [({"pair": "first_round"}, ["score", "pair"]), (KNOCKOUT, ["select"])]
)
def test_every_stage_closes_the_reward_it_holds(settings: dict, changes: dict, holders: list[str]) -> None:
    Closing.closed = 0
    reward = {"kind": "tests.pipeline.judges:Closing"}
    run_data(RunConfig.model_validate({**settings, "reward": reward, **changes}))
    assert Closing.closed == 1 + len(holders)  # and the one of the checks before


@pytest.mark.parametrize(("kind", "fails"), [("Closing", None), ("Breaking", "out of memory")])
def test_who_compares_checkpoints_is_closed(
    tmp_path: Path, tiny_model: str, kind: str, fails: str | None
) -> None:
    Closing.closed = 0
    row = Answers(
        prompt_id="a",
        prompt="Hello",
        messages=(),
        target=None,
        responses=("good",),
        finish_reasons=("stop",),
        token_ids=(np.array([1], np.int32),),
    )
    path = tmp_path / "rows.parquet"
    pq.write_table(to_table([row], Answers), path)
    engine = resolve("engine", "fake").Config()
    reward = resolve("reward", f"tests.pipeline.judges:{kind}").Config()
    sampling = SamplingOptions(num_candidates=1, max_tokens=4)
    with pytest.raises(StageError, match=fails) if fails else nullcontext():
        ProxyJudge(path, engine, sampling, reward, seed=1, max_failed_fraction=0.0)(Path(tiny_model), 0, 1)
    assert Closing.closed == 1
