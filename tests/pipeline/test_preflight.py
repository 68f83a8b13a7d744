"""What is refused before anything is computed, because it would be found out hours later."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from rayflow.config import RunConfig
from rayflow.errors import ConfigError, DataError
from rayflow.pipeline.preflight import preflight
from rayflow.pipeline.run_plan import build_run_plan
from tests.conftest import build_tiny_model


@pytest.fixture
def settings(settings: dict, tiny_model: str) -> dict:
    return {**settings, "model": tiny_model}


def check(settings: dict, **changes: object) -> None:
    preflight(build_run_plan(RunConfig.model_validate({**settings, **changes})))


def with_tokens(folder: Path, turned: bool) -> str:
    """A model whose tokenizer has one token more, or the ids of two tokens exchanged."""
    build_tiny_model(folder, seed=1)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<|more|>"])
    tokenizer.save_pretrained(folder)
    if turned:
        path = folder / "tokenizer.json"
        data = json.loads(path.read_text())
        vocab = data["model"]["vocab"]
        vocab["a"], vocab["b"] = vocab["b"], vocab["a"]
        path.write_text(json.dumps(data))
    return str(folder)


@pytest.mark.parametrize("block", ["sample", "reference"])
def test_token_ids_must_mean_the_same_to_all_models(settings: dict, tmp_path: Path, block: str) -> None:
    own = settings.get(block, {})
    check(settings, **{block: {**own, "model": with_tokens(tmp_path / "more", turned=False)}})
    other = with_tokens(tmp_path / "other", turned=True)
    with pytest.raises(ConfigError, match=rf"{block}\.model '.*other' has other tokens than the policy"):
        check(settings, **{block: {**own, "model": other}})


@pytest.mark.parametrize("part", ["validation", "evaluation"])
def test_prompts_that_are_read_late_are_looked_at_now(settings: dict, tmp_path: Path, part: str) -> None:
    path = tmp_path / "late.jsonl"
    path.write_text(json.dumps({"question": "Why?"}) + "\n")
    prompts = {**settings["prompts"], part: {"path": str(path)}}
    with pytest.raises(
        DataError, match=rf"prompts\.{part}: no row can be used\. .*late\.jsonl, row 1: has question"
    ):
        check(settings, prompts=prompts)


def test_targets_to_compare_with_must_be_there(settings: dict) -> None:
    prompts = {**settings["prompts"], "evaluation": settings["prompts"]["train"]}
    check(settings, prompts=prompts)
    with pytest.raises(ConfigError, match="evaluate.baseline=target compares with the targets of .*no row"):
        check(settings, prompts=prompts, evaluate={"baseline": "target"})


def test_a_model_that_only_its_own_code_can_load_is_not_trained(settings: dict, tmp_path: Path) -> None:
    folder = tmp_path / "own"
    build_tiny_model(folder)
    path = folder / "config.json"
    known = {**json.loads(path.read_text()), "auto_map": {"AutoConfig": "own.Config"}}
    path.write_text(json.dumps(known))
    check(settings, model=str(folder))  # transformers has a Llama of its own
    path.write_text(json.dumps({**known, "model_type": "own"}))
    with pytest.raises(ConfigError, match="brings code of its own .'own'., which is run for sampling only"):
        check(settings, model=str(folder))
