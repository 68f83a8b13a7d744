"""Tiny random classifiers, written to folders like a downloaded reward model."""

from __future__ import annotations

from pathlib import Path

import pytest


def _word_tokenizer(**special: str):
    """Words split at spaces and punctuation; ids 0-3 are <pad> <eos> [CLS] <unk>."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = "a the film was good bad dull bright story and so very user assistant : . What did you think ?"
    vocab = ["<pad>", "<eos>", "[CLS]", "<unk>", *words.split()]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(vocab)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", eos_token="<eos>", model_max_length=64, **special
    )


def _save(folder: Path, model, tokenizer) -> str:
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def _llama(folder: Path, tokenizer, **extra) -> str:
    import torch
    from transformers import LlamaConfig, LlamaForSequenceClassification

    config = LlamaConfig(
        vocab_size=40,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=128,
        initializer_range=0.5,
        bos_token_id=None,
        eos_token_id=1,
        **{"num_labels": 1, "pad_token_id": tokenizer.pad_token_id, **extra},
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return _save(folder, LlamaForSequenceClassification(config), tokenizer)


@pytest.fixture(scope="session")
def pad_is_eos_model(tmp_path_factory) -> str:
    """A decoder whose tokenizer pads with EOS, as many reward models do."""
    return _llama(tmp_path_factory.mktemp("reward") / "pad-is-eos", _word_tokenizer(pad_token="<eos>"))


@pytest.fixture(scope="session")
def padless_model(tmp_path_factory) -> str:
    """A decoder without any pad token."""
    return _llama(tmp_path_factory.mktemp("reward") / "padless", _word_tokenizer())


@pytest.fixture(scope="session")
def unshared_model(tmp_path_factory) -> str:
    """A decoder that pads with EOS, whose window is shorter than its context: it reads every text whole."""
    import torch
    from transformers import MistralConfig, MistralForSequenceClassification

    tokenizer = _word_tokenizer(pad_token="<eos>")
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = MistralConfig(
        vocab_size=40,
        num_key_value_heads=1,
        sliding_window=16,
        max_position_embeddings=128,
        initializer_range=0.5,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=1,
        num_labels=1,
        **sizes,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = MistralForSequenceClassification(config)
    return _save(tmp_path_factory.mktemp("reward") / "unshared", model, tokenizer)


@pytest.fixture(scope="session")
def three_label_model(tmp_path_factory) -> str:
    """A decoder with three labels."""
    tokenizer = _word_tokenizer(pad_token="<pad>")
    return _llama(tmp_path_factory.mktemp("reward") / "three-labels", tokenizer, num_labels=3)


@pytest.fixture(scope="session")
def bert_model(tmp_path_factory) -> str:
    """An encoder that reads the first position, with [CLS] written by its tokenizer."""
    import torch
    from tokenizers.processors import TemplateProcessing
    from transformers import BertConfig, BertForSequenceClassification

    tokenizer = _word_tokenizer(pad_token="<pad>", cls_token="[CLS]")
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A <eos>", special_tokens=[("[CLS]", 2), ("<eos>", 1)]
    )
    config = BertConfig(
        vocab_size=40,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        initializer_range=0.5,
        num_labels=1,
        pad_token_id=0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = BertForSequenceClassification(config)
    return _save(tmp_path_factory.mktemp("reward") / "bert", model, tokenizer)
