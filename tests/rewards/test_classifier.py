"""The reward model: the right position, the right label, no silent cuts."""

from __future__ import annotations

import numpy as np
import pytest

from rayflow.core.options import build
from rayflow.core.rows import Prompt
from rayflow.errors import ConfigError, ModelError, RewardError
from rayflow.rewards.classifier import ClassifierReward
from rayflow.rewards.models import batches

PLAIN = Prompt(prompt_id="p1", prompt="What did you think ? ", messages=(), target=None)
CHAT = Prompt(
    prompt_id="p2",
    prompt=None,
    messages=({"role": "user", "content": "What did you think ?"},),
    target=None,
)
# Of different lengths, most of them ended by EOS, one of them with nothing but EOS, one repeated.
RESPONSES = (
    "the film was good . <eos>",
    "bad <eos>",
    "a dull story and a very very very dull film . <eos>",
    "so bright",
    "<eos>",
    "bad <eos>",
    "the story was good and bad and good and bad . <eos>",
)


def reward(model, **options):
    built = build(
        "reward",
        ClassifierReward.Config(**{"model": model, "dtype": "float32", "backend": "transformers", **options}),
    )
    built.setup()
    return built


def logit_at_last_token(model, text, label=0, **encode):
    """The yardstick: one unpadded text through backbone and head by hand, read at its very last token."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    loaded = AutoModelForSequenceClassification.from_pretrained(model, dtype=torch.float32).eval()
    ids = AutoTokenizer.from_pretrained(model)(text, return_tensors="pt", **encode)["input_ids"]
    with torch.inference_mode():
        return loaded.score(loaded.model(input_ids=ids).last_hidden_state)[0, -1, label].item()


@pytest.mark.parametrize("batch_tokens", [1, 40, 16384])
@pytest.mark.parametrize("fixture", ["pad_is_eos_model", "padless_model", "unshared_model"])
def test_a_text_that_ends_in_eos_is_read_at_its_eos_whatever_the_batch(fixture, batch_tokens, request):
    model = request.getfixturevalue(fixture)
    rewards = reward(model, batch_tokens=batch_tokens).score(PLAIN, RESPONSES)
    expected = [logit_at_last_token(model, PLAIN.prompt + text) for text in RESPONSES]
    assert rewards.dtype == np.float64
    assert rewards == pytest.approx(expected, abs=1e-5)


def test_reading_one_token_too_early_would_show(pad_is_eos_model):
    """The fixture is sharp enough: the token before EOS has another logit."""
    full = logit_at_last_token(pad_is_eos_model, "the film was good . <eos>")
    assert abs(full - logit_at_last_token(pad_is_eos_model, "the film was good .")) > 0.05


def test_an_encoder_gives_its_own_logits_in_any_batch(bert_model):
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(bert_model, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(bert_model)
    texts = ["the film was good .", "bad", "a very very very dull story"]
    with torch.inference_mode():
        expected = [
            model(
                **tokenizer(f"user: What did you think ?\nassistant: {t}", return_tensors="pt")
            ).logits.item()
            for t in texts
        ]
    assert reward(bert_model).score(CHAT, texts) == pytest.approx(expected, abs=1e-5)
    assert np.ptp(expected) > 0.01


def test_a_chat_template_writes_its_own_special_tokens(pad_is_eos_model, tmp_path):
    """The text is the rendered conversation, and nothing is added to it."""
    import shutil

    from transformers import AutoTokenizer

    folder = tmp_path / "chat"
    shutil.copytree(pad_is_eos_model, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = "{% for m in messages %}{{ m['role'] }} : {{ m['content'] }} <eos>{% endfor %}"
    tokenizer.save_pretrained(folder)
    text = "user : What did you think ? <eos>assistant : the film was bad <eos>"
    expected = logit_at_last_token(str(folder), text, add_special_tokens=False)
    assert reward(str(folder)).score(CHAT, ["the film was bad"]) == pytest.approx([expected], abs=1e-5)


def test_a_plain_prompt_that_brings_its_special_tokens_gets_no_second_ones(bert_model, tmp_path):
    import shutil

    from transformers import AutoTokenizer

    folder = tmp_path / "bos"
    shutil.copytree(bert_model, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.bos_token = "[CLS]"
    tokenizer.save_pretrained(folder)
    bare = Prompt(prompt_id="a", prompt="the film was ", messages=(), target=None)
    whole = Prompt(prompt_id="b", prompt="[CLS] the film was ", messages=(), target=None)
    built = reward(str(folder))
    assert built.score(whole, ["good <eos>"]) == pytest.approx(built.score(bare, ["good"]), abs=1e-6)


def test_the_label_chooses_the_logit(three_label_model):
    text = "the film was good ."
    values = [reward(three_label_model, label=i).score(PLAIN, [text])[0] for i in range(3)]
    expected = [logit_at_last_token(three_label_model, PLAIN.prompt + text, i) for i in range(3)]
    assert values == pytest.approx(expected, abs=1e-5)


def test_several_labels_need_a_choice(three_label_model):
    with pytest.raises(ConfigError, match="3 labels.*set the reward's 'label'"):
        reward(three_label_model)
    with pytest.raises(ConfigError, match="label: 3"):
        reward(three_label_model, label=3)


def test_a_conversation_that_does_not_fit_is_refused_not_cut(pad_is_eos_model):
    with pytest.raises(RewardError, match="p1.*of 68 tokens.*64"):  # the tokenizer's limit
        reward(pad_is_eos_model).score(PLAIN, ["good", "bad " * 63])
    assert reward(pad_is_eos_model, max_length=128).score(PLAIN, ["bad " * 63]).shape == (1,)
    with pytest.raises(ConfigError, match="128 positions"):
        reward(pad_is_eos_model, max_length=129)


def test_nothing_to_judge_is_refused_and_no_response_is_no_reward(pad_is_eos_model):
    built = reward(pad_is_eos_model)
    empty = Prompt(prompt_id="p3", prompt="", messages=(), target=None)
    with pytest.raises(RewardError, match="empty"):
        built.score(empty, ["good", ""])
    assert built.score(PLAIN, []).shape == (0,)


def test_a_language_model_is_not_a_reward_model(tiny_model):
    with pytest.raises(ModelError, match="LlamaForCausalLM, not a sequence classifier"):
        reward(tiny_model)


def test_missing_weights_are_refused_not_drawn_at_random(pad_is_eos_model, tmp_path):
    import shutil

    from safetensors.torch import load_file, save_file

    folder = tmp_path / "headless"
    shutil.copytree(pad_is_eos_model, folder)
    weights = load_file(folder / "model.safetensors")
    del weights["score.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="score.weight"):
        reward(str(folder))


def test_a_missing_folder_is_refused_before_anything_is_loaded(tmp_path):
    with pytest.raises(ModelError, match="does not exist"):
        reward(str(tmp_path / "nothing"))


@pytest.mark.parametrize("fixture", ["pad_is_eos_model", "unshared_model"])
def test_a_lack_of_memory_says_what_to_lower(fixture, request, monkeypatch):
    import torch

    built = reward(request.getfixturevalue(fixture), batch_tokens=512)

    def out_of_memory(*args, **inputs):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(built._scorer.model.base_model, "forward", out_of_memory)
    with pytest.raises(RewardError, match="batch_tokens .now 512"):
        built.score(PLAIN, ["good"])


def test_the_model_is_named_for_the_fingerprint_without_loading_it(monkeypatch):
    monkeypatch.setenv("MODELS", "/srv/models")
    built = build("reward", ClassifierReward.Config(model="$MODELS/rm"))
    assert built.models == ("/srv/models/rm",)
    assert sorted(ClassifierReward.Config.HARDWARE) == [
        "backend",
        "batch_tokens",
        "device",
        "gpu_memory_utilization",
        "model",  # named by `models`, whose content is in the fingerprint
    ]


def test_batches_hold_every_index_once_within_the_budget():
    lengths = [3, 50, 7, 7, 20, 1, 100]
    found = list(batches(lengths, 60))
    assert sorted(i for batch in found for i in batch) == list(range(7))
    assert found[0] == [6]  # longer than the budget: alone, not lost
    for batch in found[1:]:
        assert len(batch) * max(lengths[i] for i in batch) <= 60
