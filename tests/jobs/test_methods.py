"""Every ready method runs whole: the shipped configuration, on a tiny model, in this process."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from rayflow.config import RunConfig, load_config
from rayflow.core.files import read_json
from rayflow.pipeline import commands
from rayflow.pipeline.plan import Plan
from rayflow.pipeline.run_plan import build_run_plan
from rayflow.pipeline.stored import open_plan
from tests.pipeline.helpers import tables

ROOT = Path(__file__).parents[2]
METHODS = sorted((ROOT / "jobs" / "configs" / "methods").glob("*.yaml"))
N, K = 8, 4
"""Candidates and accepted responses of a prompt here, where the configuration has more."""

Number = int | Callable[[list[float], Plan], int]
"""Per prompt: a count, or what follows from its rewards and the round's settings."""


@dataclass(frozen=True)
class Method:
    """What a method makes of one prompt, as its paper says."""

    accepted: Number
    pairs: Number
    loss: str
    reference: bool
    given: bool = False
    scored: bool = False


def above(rewards: list[float], plan: Plan) -> int:
    """ReST, section 3: F(x, y; tau) = 1[R(x, y) > tau], rewards scaled to [0, 1] by prompt or over all of them."""
    rule, scale = plan.config.select, rewards
    if rule.scale == "global":
        scale = [reward for row in tables(plan)["score"] for reward in row["rewards"]]
    low, high = min(scale), max(scale)
    return sum((reward - low) / (high - low) > rule.threshold for reward in rewards)


def wide(rewards: list[float], plan: Plan) -> int:
    """RS-DPO, Algorithm 1: pairs with sigmoid((r_j - r_l) / tau) > eta, at tau 0.277 and eta 0.85."""
    return sum(1 / (1 + math.exp((b - a) / 0.277)) > 0.85 for a in rewards for b in rewards if a > b)


ALL_PAIRS = K * (K - 1) // 2
EXPECTED = {
    "best-worst": Method(N, 1, "sigmoid_norm", reference=True),
    "dpo": Method(2, 1, "sigmoid_norm", reference=True, given=True),
    "lipo": Method(K, 0, "lipo_lambda", reference=True),
    "margin": Method(K, ALL_PAIRS, "margin_weighted", reference=True),
    "min-of-m": Method(N, 1, "sigmoid_norm", reference=True),
    "r-dpo": Method(K, K // 2, "r_dpo", reference=True),
    "raft": Method(1, 0, "cross_entropy", reference=False),
    "raft-tournament": Method(1, 0, "cross_entropy", reference=False),
    "rest": Method(above, 0, "cross_entropy", reference=False),
    "rest-global": Method(above, 0, "cross_entropy", reference=False),
    "rrhf": Method(N, 0, "rrhf", reference=False),
    "rrhf-given": Method(2, 1, "rrhf", reference=False, given=True, scored=True),
    "rs-dpo": Method(N, wide, "sigmoid_norm", reference=True),
    "rso": Method(K, K // 2, "hinge_norm", reference=True),
    "rso-gumbel": Method(K, ALL_PAIRS, "sigmoid_norm", reference=True),
    "sft": Method(1, 0, "cross_entropy", reference=False, given=True),
    "simpo": Method(K, K // 2, "simpo", reference=False),
    "slic": Method(2, 1, "hinge", reference=False, given=True),
    "slic-direct": Method(2, 1, "slic", reference=False, given=True),
    "slic-hf": Method(K, K - 1, "slic", reference=False),
    "top-k": Method(K, K // 2, "hinge_norm", reference=True),
}
VARIANTS = {
    "rso, tournament, maximum after each acceptance": (
        ("pair.kind=tournament", "select.maximum=acceptance"),
        Method(K, K - 1, "hinge_norm", reference=True),
    ),
    "rso, sigmoid_norm, keyed by text": (
        ("train.loss.kind=sigmoid_norm", "select.text_keyed=true"),
        Method(K, K // 2, "sigmoid_norm", reference=True),
    ),
    "rso, hinge": (("train.loss.kind=hinge",), Method(K, K // 2, "hinge", reference=False)),
    "rso, all pairs": (("pair.kind=all_pairs",), Method(K, ALL_PAIRS, "hinge_norm", reference=True)),
    "the two best of n": (
        ("select={kind: top_k, num_accepted: 2}",),
        Method(2, 1, "hinge_norm", reference=True),
    ),
}


def small(path: Path, model: str, runs_dir: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """The configuration as it is shipped, with less of everything and a tiny model."""
    shipped = load_config(path, list(overrides))
    settings = {
        "runs_dir": runs_dir,
        "model": model,
        "prompts.train.limit": 4,
        "prompts.evaluation.limit": 3,
        "sample.engine": "{kind: transformers, dtype: float32}",
        "sample.num_candidates": min(shipped.sample.num_candidates, N),
        "sample.max_tokens": 6,
        "train.batch_size": 2,
        "train.precision": "float32",
        "train.learning_rate": 1e-3,
        "reference.precision": "float32",
        "evaluate.num_samples": 1,
        "compute.runner": "local",
        "reward.function": "tests.jobs.test_methods:length",
    }
    if hasattr(shipped.select, "num_accepted"):
        settings["select.num_accepted"] = min(shipped.select.num_accepted, K)
    return load_config(path, [*overrides, *(f"{key}={value}" for key, value in settings.items())])


def length(prompt: str, response: str) -> float:
    """A reward that differs between any two responses: their length, and a number of their own below 1."""
    return len(response) + zlib.crc32(response.encode("utf-8", "replace")) / 2**32


def check(plan: Plan, method: Method) -> int:
    """Stages, loss and counts of one round; returns how many prompts training has."""
    making = {"encode"} if method.given else {"sample", "score", "select", "pair"}
    making |= {"score"} if method.scored else set()
    drawn = {"encode", "sample", "score", "select", "pair", "reference"} & set(plan.stages)
    assert drawn == making | ({"reference"} if method.reference else set())
    assert plan.config.train.loss.kind == method.loss
    stored = tables(plan)
    rewards = {row["prompt_id"]: row["rewards"] for row in stored.get("score", [])}
    chosen, paired = (stored["encode" if method.given else name] for name in ("select", "pair"))

    def wanted(number: Number, row: dict[str, Any]) -> int:
        return number if isinstance(number, int) else number(rewards[row["prompt_id"]], plan)

    for row in chosen:
        assert len(row["accepted"]) == wanted(method.accepted, row)
    for row in paired:
        assert len(row["pairs"]) == wanted(method.pairs, row)
    return sum(method.pairs == 0 or bool(row["pairs"]) for row in paired)


def test_every_method_has_its_row() -> None:
    assert set(EXPECTED) == {path.stem for path in METHODS}


# Responses per prompt that the paper's own recipe decodes (RSO, arXiv:2309.06657, Table 7, and RS-DPO, section 4).
DECODES = {"rso": 64, "raft": 64, "raft-tournament": 64, "rest": 64, "slic-hf": 8, "lipo": 8, "rs-dpo": 16}


@pytest.mark.parametrize(("name", "decodes"), [*DECODES.items(), ("dpo", 0), ("slic", 0)])
def test_a_shipped_method_decodes_as_many_responses_as_its_paper(name: str, decodes: int) -> None:
    plan = build_run_plan(load_config(ROOT / "jobs" / "configs" / "methods" / f"{name}.yaml", ["model=fake"]))
    drawn = plan.stages["sample"].sampling.num_candidates if "sample" in plan.stages else 0
    assert drawn == decodes


def trained(folder: Path, model: str) -> dict[str, Any]:
    """The summary of a run, whose policy is not the model that it started from."""
    (weights,) = folder.glob("*-train/model/model.safetensors")
    assert weights.read_bytes() != (Path(model) / "model.safetensors").read_bytes()
    return read_json(folder / "summary.json")


@pytest.mark.parametrize("path", METHODS, ids=lambda path: path.stem)
def test_the_method_runs_from_its_prompts_to_its_report(path, tiny_model, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    config = small(path, tiny_model, tmp_path)
    commands.run(config, Console(quiet=True))
    rounds = sorted(config.root.glob("round-*")) or [config.root]
    assert len(rounds) == config.rounds.num
    for folder in rounds:
        summary = trained(folder, tiny_model)
        assert summary["missing"] == []
        groups = check(open_plan(folder), EXPECTED[path.stem])
        assert summary["training"]["last_step"] == config.train.num_epochs * math.ceil(groups / 2) > 0
        assert 0 <= summary["evaluation"]["win_rate"] <= 1


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_trains_on_what_it_says(name, tiny_model, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    overrides, method = VARIANTS[name]
    path = ROOT / "jobs" / "configs" / "methods" / "rso.yaml"
    config = small(path, tiny_model, tmp_path, overrides)
    config = config.model_copy(update={"prompts": config.prompts.model_copy(update={"evaluation": None})})
    commands.run(config, Console(quiet=True))
    groups = check(open_plan(config.root), method)
    summary = trained(config.root, tiny_model)
    assert groups == 4 and summary["training"]["last_step"] == config.train.num_epochs * 2
