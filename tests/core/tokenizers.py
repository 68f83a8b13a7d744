"""Tokenizers built here, and a prompt with a given response as ids, for the tests of chat encoding."""

from __future__ import annotations

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from rayflow.core.chat import prompt_token_ids, response_token_ids
from rayflow.core.rows import Prompt

TURNS = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Review a film."})
CHAT = Prompt(prompt_id="a", prompt=None, messages=TURNS, target=None)
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def plain(text: str) -> Prompt:
    return Prompt(prompt_id="b", prompt=text, messages=(), target=None)


def byte_level(add_prefix_space: bool = False, specials: tuple[str, ...] = ()) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with merges across words' beginnings, as GPT-2's has."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    named = ["<|im_start|>", "<|im_end|>", *specials]
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=named, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(["the film was a joy from start to finish"] * 3, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|im_start|>", eos_token="<|im_end|>"
    )
    fast.chat_template = CHATML
    return fast


def sentence_piece(prepend_scheme: str) -> PreTrainedTokenizerFast:
    """A tokenizer of the SentencePiece kind: a space before the first word of a text, bytes for the rest."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prepend_scheme, split=False)
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(content=" ", left=1, right=0),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))],
        show_progress=False,
    )
    tokenizer.train_from_iterator(["the film was a joy, from start to finish: abc."] * 3, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def encoded(tokenizer, prompt: Prompt, response: str) -> tuple[list[int], list[int]]:
    """Prompt ids and response ids."""
    ids = response_token_ids(tokenizer, prompt, response)
    assert ids.dtype == np.int32
    return prompt_token_ids(tokenizer, prompt).tolist(), ids.tolist()


def decoded(tokenizer, ids: list[int]) -> str:
    return tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
