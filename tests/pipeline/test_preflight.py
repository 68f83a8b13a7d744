"""What is refused before anything is computed, because it would be found out hours later."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from rayflow.config import RunConfig
from rayflow.config.evaluate import EvaluateConfig
from rayflow.errors import ConfigError, DataError, ModelError
from rayflow.pipeline.evaluation_plan import build_evaluation_plan
from rayflow.pipeline.preflight import preflight, unseen_models
from rayflow.pipeline.prompts import PromptStage
from rayflow.pipeline.run_plan import build_run_plan
from tests.conftest import build_tiny_model
from tests.pipeline.helpers import run_data


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


@pytest.mark.parametrize("part", ["train", "validation", "evaluation"])
@pytest.mark.parametrize(
    ("content", "said"),
    {
        "": "holds no prompts.$",
        '{"question": "Why?"}\n': r"holds no prompts \(rows refused: 1; the first: .*row 1: has question",
        "Why?\n": r"bad.jsonl', line 1 is not JSON",
    }.items(),
)
def test_data_is_looked_at_before_anything_is_computed(
    settings: dict, tmp_path: Path, part: str, content: str, said: str
) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(content)
    prompts = {**settings["prompts"], "validation": settings["prompts"]["train"], part: {"path": str(path)}}
    with pytest.raises(DataError, match=said):
        check(settings, prompts=prompts, train={"choose": {"every_steps": 1, "baseline": "sft"}})


def test_a_large_file_is_not_read_to_its_end(
    settings: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "large.jsonl"
    path.write_text('{"question": "Why?"}\n' * 20 + '{"prompt": "Why?"}\n')
    prompts = {"train": {"path": str(path)}}
    check(settings, prompts=prompts)
    monkeypatch.setattr("rayflow.pipeline.preflight.MAX_REFUSED", 20)
    with pytest.raises(DataError, match=r"no prompts in its first 20 rows \(rows refused: 20; the first"):
        check(settings, prompts=prompts)


def test_what_is_stored_is_not_read_again(
    settings: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_data(RunConfig.model_validate(settings))
    monkeypatch.setattr(PromptStage, "read", lambda stage: pytest.fail("read again"))
    check(settings)


def test_models_that_the_hub_could_not_be_asked_about_are_named(
    settings: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rayflow.pipeline.preflight.fetch_config", lambda model: None)
    asked = {**settings, "reference": {"model": "org/frozen"}}
    assert unseen_models(build_run_plan(RunConfig.model_validate(asked))) == ["org/frozen"]


def test_targets_to_compare_with_must_be_there(settings: dict) -> None:
    prompts = {**settings["prompts"], "evaluation": settings["prompts"]["train"]}
    check(settings, prompts=prompts)
    with pytest.raises(ConfigError, match="evaluate.baseline=target compares with the targets of .*no row"):
        check(settings, prompts=prompts, evaluate={"baseline": "target"})


def evaluation(settings: dict, **changes: object) -> None:
    """Check an evaluation of the policy itself, whose baseline is the SFT policy."""
    made = {key: settings[key] for key in ("model", "runs_dir", "compute")}
    made |= {"name": "e", "policy": settings["model"], "prompts": settings["prompts"]["train"]}
    made["rewards"] = {"own": settings["reward"]}
    preflight(build_evaluation_plan(EvaluateConfig.model_validate(made | changes)))


def test_a_side_that_answers_with_targets_needs_some(settings: dict, prompt_file: Path) -> None:
    with pytest.raises(ConfigError, match="^baseline: target answers with the targets of .*no row there"):
        evaluation(settings, baseline="target")
    with prompt_file.open("a") as file:
        file.write('{"prompt": "Why?", "target": "Because."}\n')
    evaluation(settings, baseline="target")


@pytest.mark.parametrize(
    ("source", "loss", "row", "said"),
    [
        ("direct", "sigmoid_norm", {"chosen": "Yes.", "rejected": "No."}, "no row of .* brings a pair"),
        ("direct", "cross_entropy", {"responses": ["Yes."]}, "no row of .* brings a response"),
        ("targets", "cross_entropy", {"target": "Yes."}, "no row of .* has a 'target'"),
    ],
)
def test_data_must_bring_what_is_learned_from(
    settings: dict, prompt_file: Path, source: str, loss: str, row: dict, said: str
) -> None:
    changes = {"source": source, "select": None, "pair": None, "train": {"loss": loss}}
    with pytest.raises(ConfigError, match=f"^source: {source} .*{said}"):
        check(settings, **changes)
    prompt_file.write_text(json.dumps({"prompt": "Why?", **row}) + "\n")
    check(settings, **changes)


@pytest.mark.parametrize("ensemble", [False, True])
def test_a_reward_model_is_known_by_its_configuration(settings: dict, tmp_path: Path, ensemble: bool) -> None:
    folder = tmp_path / "reward"
    build_tiny_model(folder)
    reward: dict = {"kind": "classifier", "model": str(folder)}
    if ensemble:
        reward = {"kind": "ensemble", "members": [{"reward": reward}]}
    with pytest.raises(ModelError, match="is a LlamaForCausalLM, not a sequence classifier"):
        check(settings, reward=reward)
    path = folder / "config.json"
    labels = {"architectures": ["LlamaForSequenceClassification"], "id2label": {"0": "bad", "1": "good"}}
    path.write_text(json.dumps(json.loads(path.read_text()) | labels))
    with pytest.raises(ConfigError, match="has 2 labels .*set the reward's 'label'"):
        check(settings, reward=reward)
    if not ensemble:
        check(settings, reward=reward | {"label": 1})


def test_a_response_leaves_room_for_its_prompt(settings: dict) -> None:
    sample = {**settings["sample"], "max_tokens": 512, "engine": {"kind": "fake", "max_model_len": 512}}
    said = (
        "sample.max_tokens is 512, and sample.engine.max_model_len is 512, for prompt and response together"
    )
    with pytest.raises(ValueError, match=said):
        check(settings, sample=sample)
    with pytest.raises(ValueError, match=said):
        evaluation(settings, sample=sample)
    check(settings, sample={**sample, "max_tokens": 511})


def test_a_response_leaves_room_for_its_prompt_in_the_models_context(settings: dict) -> None:
    sample = {**settings["sample"], "max_tokens": 512, "engine": {"kind": "fake"}}
    with pytest.raises(ConfigError, match=r"sample\.max_tokens is 512, and .* takes 512 tokens"):
        check(settings, sample=sample)
    check(settings, sample={**sample, "max_tokens": 500})


def test_a_chat_needs_a_template_before_anything_is_trained(settings: dict, tmp_path: Path) -> None:
    build_tiny_model(model := tmp_path / "plain", seed=1)
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.chat_template = None
    (model / "chat_template.jinja").unlink(missing_ok=True)
    tokenizer.save_pretrained(model)
    chats = tmp_path / "held-out.jsonl"
    chats.write_text(json.dumps({"messages": [{"role": "user", "content": "Why?"}]}) + "\n")
    settings |= {"model": str(model)}
    check(settings)
    prompts = {**settings["prompts"], "evaluation": {"path": str(chats)}}
    with pytest.raises(ModelError, match="plain has no chat template, and there are prompts that are chat"):
        check(settings, prompts=prompts)


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


STANDARDIZED = {
    "kind": "ensemble",
    "normalize": "standardize",
    "members": [{"reward": {"kind": "rule", "function": "tests.pipeline.conftest:cheerful"}}],
}


def test_two_models_are_not_compared_by_rewards_that_know_only_their_own_prompts(settings: dict) -> None:
    check(settings, reward=STANDARDIZED)
    prompts = {**settings["prompts"], "evaluation": settings["prompts"]["train"]}
    with pytest.raises(ConfigError, match="^reward orders the responses of one prompt among themselves"):
        check(settings, reward=STANDARDIZED, prompts=prompts)
    with pytest.raises(ConfigError, match="^rewards.own orders the responses"):
        evaluation(settings, rewards={"own": STANDARDIZED})


def test_one_range_is_not_measured_of_rewards_that_have_none_in_common(settings: dict) -> None:
    whole = {"kind": "threshold", "scale": "global"}
    check(settings, select=whole)
    with pytest.raises(ConfigError, match="select.scale 'global' measures one range for all prompts"):
        check(settings, select=whole, reward=STANDARDIZED)
    check(settings, select={**whole, "low": -2, "high": 2}, reward=STANDARDIZED)


def test_a_pairwise_rewards_own_probabilities_have_no_temperature(settings: dict, tiny_model: str) -> None:
    pair = {"kind": "first_round", "labels": "sample", "temperature": 0.5}
    check(settings, pair=pair)
    with pytest.raises(
        ConfigError, match="pair.temperature makes probabilities of rewards, and 'ranker' gives"
    ):
        check(settings, pair=pair, reward={"kind": "ranker", "model": tiny_model})
