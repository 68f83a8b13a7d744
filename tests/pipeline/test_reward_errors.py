"""What someone's own reward or judge does not know of one prompt ends neither a stage nor a training."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from rayflow.config import PoolOptions
from rayflow.config.side_by_side import SideBySideOptions
from rayflow.core.evaluation_rows import Answered, Answers
from rayflow.core.given_rows import Example
from rayflow.core.options import KindOptions
from rayflow.core.registry import resolve
from rayflow.core.schema import to_table
from rayflow.engines.base import SamplingOptions
from rayflow.engines.fake import FakeEngine
from rayflow.pipeline.proxy import ProxyJudge
from rayflow.pipeline.stages.compare import CompareStage
from rayflow.pipeline.stages.judge import JudgeStage
from rayflow.pipeline.stages.side_by_side import SideBySideStage
from rayflow.rewards.pairwise import Pairwise, PairwiseOptions
from rayflow.selection.base import PerRow
from tests.pipeline.conftest import NUM_PROMPTS
from tests.pipeline.test_closing import KNOCKOUT
from tests.pipeline.test_plug_ins import failures

HERE = "tests.pipeline.test_reward_errors"


class Reward:
    """Knows nothing of one of the prompts."""

    class Config(KindOptions):
        kind: str = f"{HERE}:Reward"

    models = ()

    def __init__(self, options: Config) -> None:
        self.options = options

    def setup(self) -> None:
        pass

    def score(self, prompt: Any, responses: Any) -> np.ndarray:
        if "number 3" in prompt.text:
            raise KeyError("number 3")
        return np.arange(len(responses), dtype=np.float64)


class Ranker(Pairwise):
    """Knows nothing of one of the prompts, and finds the others' responses even."""

    class Config(PairwiseOptions):
        kind: str = f"{HERE}:Ranker"

    models = ()

    def setup(self) -> None:
        pass

    def judge(self, prompt: Any, responses: Any, pairs: np.ndarray) -> np.ndarray:
        if "number 3" in prompt.text:
            raise KeyError("number 3")
        return np.full(len(pairs), 0.5)


class Writes:
    """A judge that knows nothing of one of the prompts."""

    class Config(KindOptions):
        kind: str = f"{HERE}:Writes"

    models = ()

    def __init__(self, options: Config) -> None:
        pass

    def setup(self) -> None:
        pass

    async def answers(self, text: str, num: int, *_: Any) -> tuple[str, ...]:
        if "number 3" in text:
            raise KeyError("number 3")
        return ("More preferred: A",) * num


class Asks(PerRow):
    """Has responses compared, and then takes what is not there to be taken."""

    class Config(KindOptions):
        kind: str = f"{HERE}:Asks"
        way: str = "none"

    asks = True
    uses_rewards = False

    def select_one(self, rewards: np.ndarray, rng: np.random.Generator, prefer: Any = None) -> Any:
        prefer(np.array([[0, 1]]))
        return {"none": [], "twice": [0, 0], "beyond": [16], "below": [-1]}[self.options.way]


def test_a_rewards_error_is_a_row_s(settings: dict) -> None:
    assert failures(settings, "score", reward=f"{HERE}:Reward") == [("reward failed", "KeyError: 'number 3'")]


def test_a_rewards_error_is_a_row_s_where_it_is_a_member_of_a_sum(settings: dict) -> None:
    members = [{"reward": f"{HERE}:Reward", "name": "own"}]
    found = failures(settings, "score", reward={"kind": "ensemble", "members": members})
    assert found == [("reward failed", "member 'own': KeyError: 'number 3'")]


def test_a_rewards_error_is_a_row_s_where_it_judges_a_selection(settings: dict) -> None:
    found = failures(settings, "select", reward=f"{HERE}:Ranker", **KNOCKOUT)
    assert found == [("selection failed", "KeyError: 'number 3'")]


@pytest.mark.parametrize(
    ("way", "reason", "said"),
    [
        ("none", "nothing accepted", "of 16 candidates"),
        ("twice", "selection failed", "ValueError: accepted [0, 0] must be distinct indices of the 16"),
        ("beyond", "selection failed", "ValueError: accepted [16] must be distinct indices of the 16"),
        ("below", "selection failed", "ValueError: accepted [-1] must be distinct indices of the 16"),
    ],
)
def test_what_a_judged_selection_takes_must_be_there(
    settings: dict, way: str, reason: str, said: str
) -> None:
    select = {"kind": f"{HERE}:Asks", "way": way}
    found = failures(
        settings, "select", reward="tests.pipeline.judges:Counting", **KNOCKOUT | {"select": select}
    )
    assert len(found) == NUM_PROMPTS
    assert all(each[0] == reason and each[1].startswith(said) for each in found), found


def answers(number: int, **more: Any) -> dict[str, Any]:
    """The columns of two responses to a prompt."""
    asked = {"prompt_id": str(number), "prompt": f"number {number}", "messages": (), "target": None}
    return {**asked, "responses": ("good", "bad"), "finish_reasons": ("stop", "stop"), **more}


@pytest.mark.parametrize("kind", ["Reward", "Ranker"])
def test_a_rewards_error_leaves_its_prompt_out_of_what_checkpoints_are_compared_by(
    tmp_path: Path, tiny_model: str, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    view = Answers if kind == "Ranker" else Answered
    more = {"token_ids": (np.array([1], np.int32),) * 2} | (
        {"rewards": np.zeros(2)} if view is Answered else {}
    )
    pq.write_table(to_table([view(**answers(i, **more)) for i in (2, 3, 4)], view), tmp_path / "rows.parquet")
    sampling = SamplingOptions(num_candidates=1, max_tokens=4)
    engine, reward = FakeEngine.Config(), resolve("reward", f"{HERE}:{kind}").Config()
    judge = ProxyJudge(tmp_path / "rows.parquet", engine, sampling, reward, seed=1, max_failed_fraction=0.5)
    assert judge(Path(tiny_model), 0, 1) == (1.0, 2, 3)  # two of three, each of them even
    assert capsys.readouterr().out == "Validation prompt 3 does not count: KeyError: 'number 3'\n"


def test_a_rewards_error_is_a_row_s_where_two_policies_are_compared() -> None:
    stage = CompareStage("compare", ("prompts", "sft", "policy"), Ranker.Config(), PoolOptions())
    stage.setup()
    rows = [Answers(**answers(i, token_ids=(np.array([1], np.int32),) * 2)) for i in (2, 3)]
    fine, found = asyncio.run(stage.process([(row, row) for row in rows]))
    assert fine.win_rate == 0.5
    assert (found.prompt_id, found.reason, found.detail) == ("3", "comparison failed", "KeyError: 'number 3'")


@pytest.mark.parametrize("kind", ["Reward", "Ranker"])
def test_a_rewards_error_is_a_row_s_where_a_trained_reward_is_judged(tiny_model: str, kind: str) -> None:
    options = resolve("reward", f"{HERE}:{kind}").Config()
    stage = JudgeStage("judge", ("prompts", "train"), tiny_model, options, PoolOptions())
    stage.setup()
    given = {"pairs": (np.array([1, 0], np.int32),), "rewards": np.full(2, np.nan)}
    fine, found = asyncio.run(stage.process([Example(**answers(i, **given)) for i in (2, 3)]))
    assert fine.margins.tolist() == [float(kind == "Reward")]
    assert (found.prompt_id, found.reason, found.detail) == ("3", "reward failed", "KeyError: 'number 3'")


def test_a_judges_error_is_a_row_s() -> None:
    options = SideBySideOptions(judge=f"{HERE}:Writes")
    stage = SideBySideStage("judge", ("prompts", "sft", "policy"), options, seed=1, pool=PoolOptions())
    stage.setup()
    rows = [Answers(**answers(i, token_ids=(np.array([1], np.int32),) * 2)) for i in (2, 3)]
    fine, found = asyncio.run(stage.process([(row, row) for row in rows]))
    assert fine.prompt_id == "2" and fine.num_items == min(2, options.num_items)
    assert (found.prompt_id, found.reason, found.detail) == ("3", "judge failed", "KeyError: 'number 3'")
