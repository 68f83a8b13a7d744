"""A sampler without a model: readable text of random words, at a speed that tests the rest of the pipeline.

The candidates depend on the seed and the prompt's ids only. Words are uttered with fixed, unequal
probabilities, so `logprobs` are the true log-probabilities of a real (if simple-minded) policy.
"""

from __future__ import annotations

import asyncio
import hashlib
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from rayflow.core.model_folder import loadable
from rayflow.core.options import KindOptions
from rayflow.engines.base import Generation, SamplingOptions
from rayflow.engines.limits import check_length
from rayflow.errors import DataError

_WORDS = (
    *("good", "great", "wonderful", "lovely", "brilliant", "moving", "delightful", "funny"),
    *("bad", "awful", "terrible", "boring", "dull", "clumsy", "ugly", "sad"),
    *("the", "a", "film", "story", "cast", "plot", "and", "but", "very", "quite", "it", "was", "is", "so"),
)


class ByteTokenizer:
    """The part of a Hugging Face tokenizer that rayflow uses, over UTF-8 bytes: ids 0..255, EOS 256."""

    bos_token = None
    eos_token = None  # EOS is an id beyond the bytes: no text holds it
    eos_token_id = 256
    pad_token_id = 257
    name_or_path = "bytes"
    chat_template = "{role}: {content}\n"
    added_tokens_decoder: dict[int, Any] = {}  # no special token has a text

    def __call__(self, text: str, add_special_tokens: bool = True) -> dict[str, list[int]]:
        """Ids of `text`; bytes have no special tokens to add."""
        return {"input_ids": list(text.encode())}

    def apply_chat_template(
        self, messages: list[dict[str, str]], add_generation_prompt: bool = False, tokenize: bool = True
    ) -> str | list[int]:
        """One line per turn, then "assistant: " where a response is to follow."""
        text = "".join(f"{turn['role']}: {turn['content']}\n" for turn in messages)
        text += "assistant: " if add_generation_prompt else ""
        return self(text)["input_ids"] if tokenize else text

    def decode(self, token_ids: Any, skip_special_tokens: bool = False, **_: Any) -> str:
        """Text of the ids; EOS and PAD have none."""
        return bytes(i for i in np.asarray(token_ids).tolist() if i < 256).decode(errors="replace")


class FakeEngine:
    """Random words for any prompt, deterministic in (seed, prompt ids), under a millisecond for 64."""

    class Config(KindOptions):
        """Settings.

        Attributes:
            words: the vocabulary; earlier words are likelier (probability falls off as 1 / (rank + 4)).
            latency_seconds: how long every request takes, as a real engine's would.
            fail_on: a prompt whose text contains this fails; "" never fails.
            max_model_len: longest sequence in tokens.
        """

        HARDWARE = frozenset({"latency_seconds"})

        kind: str = "fake"
        words: tuple[str, ...] = _WORDS
        latency_seconds: float = 0.0
        fail_on: str = ""
        max_model_len: int = 1 << 20

    def __init__(self, options: Config) -> None:
        self.options = options
        self._model = ""

    def setup(self, model: str) -> None:
        """Remember where a tokenizer may lie; nothing is loaded before it is asked for."""
        self._model = loadable(model)

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer of the model folder where it has one, else bytes."""
        if not any((Path(self._model) / name).is_file() for name in ("tokenizer.json", "tokenizer.model")):
            return ByteTokenizer()
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self._model, trust_remote_code=False)

    @property
    def max_model_len(self) -> int:
        """Longest sequence in tokens."""
        return self.options.max_model_len

    async def generate(
        self, prompt_token_ids: np.ndarray, sampling: SamplingOptions, seed: int
    ) -> Generation:
        """n candidates for one prompt [P] int32; see `Engine.generate`.

        Raises:
            DataError: the prompt contains `fail_on`, or is too long. Concerns this prompt only.
        """
        if self.options.latency_seconds:
            await asyncio.sleep(self.options.latency_seconds)
        check_length(len(prompt_token_ids), sampling, self.max_model_len)
        if self.options.fail_on and self.options.fail_on in self.tokenizer.decode(prompt_token_ids):
            raise DataError(f"The fake engine fails on prompts that contain '{self.options.fail_on}'.")
        prompt = np.ascontiguousarray(prompt_token_ids, dtype="<i4").tobytes()
        digest = hashlib.blake2b(prompt, digest_size=8, key=seed.to_bytes(8, "little")).digest()
        return self._draw(np.random.default_rng(int.from_bytes(digest, "little")), sampling)

    def _draw(self, rng: np.random.Generator, sampling: SamplingOptions) -> Generation:
        """Words until a geometrically distributed end, or until the next one would not fit max_tokens."""
        words, _, _, sizes, log_p = self._vocabulary
        n, limit = sampling.num_candidates, sampling.max_tokens
        stop = min(0.5, 2 * float(sizes.mean()) / limit)  # the mean length is half of max_tokens
        wanted = rng.geometric(stop, n)
        picks = rng.choice(len(words), size=(n, int(min(wanted.max(), limit))), p=np.exp(log_p))
        fitting = (np.cumsum(sizes[picks], axis=1) < limit).sum(axis=1)  # "<": one token is left for EOS
        counts = np.maximum(np.minimum(wanted, fitting), 1)
        within = np.arange(picks.shape[1]) < counts[:, None]
        logprobs = (log_p[picks] * within).sum(axis=1) + (counts - 1) * np.log1p(-stop)
        stopped = (counts == wanted) & (fitting >= 1)
        logprobs += np.where(stopped, np.log(stop), 0.0)
        rows = zip(picks.tolist(), counts.tolist(), strict=True)
        responses = tuple([" ".join([words[word] for word in row[:count]]) for row, count in rows])
        token_ids = self._ids(picks, counts, stopped, limit)
        reasons = tuple(["stop" if ended else "length" for ended in stopped.tolist()])
        return Generation(responses, token_ids, logprobs.astype(np.float32), reasons)

    def _ids(
        self, picks: np.ndarray, counts: np.ndarray, stopped: np.ndarray, limit: int
    ) -> tuple[np.ndarray, ...]:
        """Token ids of the words that each row has drawn, with EOS where it stopped: n arrays int32.

        Pieces are looked up in one table, as (start, length): the words at the beginning of a text, the words
        after a space, EOS, and nothing.
        """
        table, starts, lengths = self._pieces
        num_words, end = len(self.options.words), picks.shape[1]
        pieces = np.full((len(picks), end + 1), 2 * num_words + 1)
        pieces[:, :end] = np.where(np.arange(end) < counts[:, None], picks + num_words, pieces[:, :end])
        pieces[:, 0] -= num_words
        pieces[stopped, counts[stopped]] = 2 * num_words
        sizes = lengths[pieces]
        flat = sizes.reshape(-1)
        begins = np.cumsum(flat) - flat
        ids = table[np.arange(flat.sum()) + np.repeat(starts[pieces.reshape(-1)] - begins, flat)]
        ends = np.cumsum(sizes.sum(axis=1)).tolist()
        return tuple([ids[a : min(a + limit, b)] for a, b in zip([0, *ends], ends, strict=False)])

    @cached_property
    def _vocabulary(self) -> tuple[tuple[str, ...], list[list[int]], list[list[int]], np.ndarray, np.ndarray]:
        """Words, their ids at the start and after a space, longest id counts [W], log-probabilities [W]."""
        words = self.options.words

        def ids(text: str) -> list[int]:
            return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

        first, following = [ids(word) for word in words], [ids(f" {word}") for word in words]
        sizes = np.array([max(len(a), len(b)) for a, b in zip(first, following, strict=True)])
        weights = 1.0 / (np.arange(len(words)) + 4.0)
        return words, first, following, sizes, np.log(weights / weights.sum())

    @cached_property
    def _pieces(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The ids of all pieces in a row [t] int32, and where each piece begins and how long it is [2 W + 2]."""
        _, first, following, _, _ = self._vocabulary
        pieces = [*first, *following, [self.tokenizer.eos_token_id], []]
        lengths = np.array([len(piece) for piece in pieces])
        return np.array(list(chain.from_iterable(pieces)), np.int32), np.cumsum(lengths) - lengths, lengths

    def close(self) -> None:
        """Nothing to free."""
