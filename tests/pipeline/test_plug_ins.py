"""What someone's own class does wrong: rows with reasons where it concerns rows, a sentence at the start where not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rayflow.core.given_rows import Example
from rayflow.core.options import KindOptions, build
from rayflow.engines.base import Generation
from rayflow.engines.fake import FakeEngine
from rayflow.errors import ConfigError, StageError
from rayflow.pipeline.preflight import preflight
from rayflow.pipeline.run_plan import build_run_plan
from rayflow.selection.base import PerRow
from rayflow.sources.prompts import Prompts
from tests.pipeline.conftest import NUM_PROMPTS
from tests.pipeline.helpers import run_data, tables, with_settings

HERE = "tests.pipeline.test_plug_ins"


class Select(PerRow):
    """Takes three, and of one prompt nothing that it could."""

    class Config(KindOptions):
        kind: str = f"{HERE}:Select"

    def select_one(self, rewards: np.ndarray, rng: np.random.Generator) -> Any:
        if rewards[0] > 0.5:
            raise ZeroDivisionError("by nothing")
        return [4, 5, 6]


class Pair:
    """Pairs as someone may write them."""

    class Config(KindOptions):
        kind: str = f"{HERE}:Pair"
        way: str = "right"

    asks = False

    def __init__(self, options: Config) -> None:
        self.way = options.way

    def pair(self, accepted: np.ndarray, rewards: np.ndarray, rng: Any, prefer: Any) -> Any:
        first, second = accepted[:2].tolist()
        return {
            "right": [(first, second)],
            "none": [],
            "places": np.array([[99, 98]]),
            "itself": [(first, first)],
            "text": ["ab"],
        }[self.way]


class Engine(FakeEngine):
    """Gives less than it was asked for."""

    class Config(FakeEngine.Config):
        kind: str = f"{HERE}:Engine"
        way: str = "few"

    async def generate(self, *arguments: Any) -> Generation:
        made = await super().generate(*arguments)
        if self.options.way == "few":
            return replace(made, responses=made.responses[:3])
        return replace(made, token_ids=(np.empty(0, np.int32), *made.token_ids[1:]))


class Layout:
    """Reads a key that not every row has."""

    class Config(KindOptions):
        kind: str = f"{HERE}:Layout"

    def __init__(self, options: Config) -> None:
        pass

    def example(self, row: dict[str, Any]) -> Example:
        return build("layout", Prompts.Config()).example({"prompt": row["question"]})


class Loss:
    """Says nothing of its unit."""

    class Config(KindOptions):
        kind: str = f"{HERE}:Loss"

    def __init__(self, options: Config) -> None:
        pass


def failures(settings: dict, stage: str, **changes: Any) -> list[tuple[str, str]]:
    plan, _ = run_data(with_settings(settings, max_failed_fraction=1.0, **changes))
    found = [(each.reason, each.detail) for each in plan.artifacts[stage].shards.failures()]
    assert len(tables(plan)[stage]) + len(found) == NUM_PROMPTS
    return found


def test_a_layouts_error_is_a_row_s(settings: dict, tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text('{"question": "Why?"}\n{"q": "Who?"}\n')
    prompts = {"train": {"path": str(path), "layout": f"{HERE}:Layout"}}
    plan, _ = run_data(with_settings(settings, prompts=prompts, max_failed_fraction=0.5))
    (found,) = plan.artifacts["prompts"].shards.failures()
    assert (found.reason, found.detail) == ("malformed row", f"{path}, row 2: KeyError: 'question'")


def test_a_selections_error_is_a_row_s(settings: dict) -> None:
    found = failures(settings, "select", select=f"{HERE}:Select")
    assert 0 < len(found) < NUM_PROMPTS
    assert set(found) == {("selection failed", "ZeroDivisionError: by nothing")}


@pytest.mark.parametrize(
    ("way", "said"),
    [
        ("places", "the pairing rule made the pairs [[99, 98]], and accepted are the candidates ["),
        ("itself", "the pairing rule paired a candidate with itself"),
        ("text", "ValueError: cannot reshape array"),
    ],
)
def test_pairs_of_something_else_are_no_pairs(settings: dict, way: str, said: str) -> None:
    found = failures(settings, "pair", pair={"kind": f"{HERE}:Pair", "way": way})
    assert len(found) == NUM_PROMPTS
    assert all(reason == "label failed" and detail.startswith(said) for reason, detail in found), found


@pytest.mark.parametrize(("way", "num"), [("right", 1), ("none", 0)])
def test_pairs_may_be_a_list(settings: dict, way: str, num: int) -> None:
    plan, _ = run_data(with_settings(settings, pair={"kind": f"{HERE}:Pair", "way": way}))
    assert {len(row["pairs"]) for row in tables(plan)["pair"]} == {num}


@pytest.mark.parametrize(
    ("way", "said"),
    [("few", "{'responses': 3} where 16 candidates were asked for"), ("empty", "candidate 0 has no tokens")],
)
def test_an_engine_gives_whole_candidates_or_none(settings: dict, way: str, said: str) -> None:
    sample = {**settings["sample"], "engine": {"kind": f"{HERE}:Engine", "way": way}}
    with pytest.raises(StageError, match="engine gave no whole candidates"):
        run_data(with_settings(settings, sample=sample))
    found = failures({**settings, "name": "all"}, "sample", sample=sample)
    assert all(said in detail for _, detail in found)


def test_a_loss_without_a_unit_is_refused_before_anything_is_sampled(settings: dict, tiny_model: str) -> None:
    config = with_settings(settings, model=tiny_model, train={"loss": f"{HERE}:Loss"})
    with pytest.raises(ConfigError, match=r"has the unit None: say in its class .* 'pairs', 'responses' or"):
        preflight(build_run_plan(config))


def test_a_penalty_that_comparisons_would_leave_out_is_refused_before_anything_is_sampled(
    settings: dict, tiny_model: str
) -> None:
    reward = {"kind": "tests.rewards.test_scoring:Compares", "missing_eos_penalty": 1.0}
    with pytest.raises(ConfigError, match="missing_eos_penalty=1 is taken from scores"):
        preflight(build_run_plan(with_settings(settings, model=tiny_model, reward=reward)))
