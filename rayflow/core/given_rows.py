"""Rows of data that bring their own responses: read from files, and encoded as if the policy had emitted them.

With `source: direct` and `targets`, and for reward models, they stand where a sampled run has `Candidates`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rayflow.core.rows import Responses, Row


@dataclass(frozen=True, kw_only=True)
class Example(Responses):
    """A prompt with what the data gives beside it: responses, preferences between them, scores.

    Its id names the prompt and the responses together (see `ids.prompt_id`, and `sources.read` for rows that differ in
    their labels alone): a file may hold many pairs for one prompt, and each is a row.

    Attributes:
        responses: none where the data has only a prompt, or a prompt and a target.
        pairs: p arrays [2] int32, (chosen, rejected), as indices into `responses`.
        rewards: [n] float64, the given scores, higher is better; NaN where the data has none.
    """

    pairs: tuple[np.ndarray, ...]
    rewards: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Given(Row):
    """What a file of responses adds to a prompt: the columns that make it an `Example`, without preferences."""

    responses: tuple[str, ...]
    pairs: tuple[np.ndarray, ...]
    rewards: np.ndarray
    finish_reasons: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Encoded(Row):
    """What encoding adds to an `Example`: the whole group, with the ids that the policy would have emitted.

    Attributes:
        prompt_token_ids: [P] int32, chat template applied.
        responses, finish_reasons, pairs, rewards: as in `Example`; of a supervised row the one response is its target.
        token_ids: n arrays [R_i] int32, the end-of-turn token included.
        accepted: [k] int32, ascending: of given responses all go on, or those that were preferred.
    """

    prompt_token_ids: np.ndarray
    responses: tuple[str, ...]
    token_ids: tuple[np.ndarray, ...]
    accepted: np.ndarray
    pairs: tuple[np.ndarray, ...]
    rewards: np.ndarray
    finish_reasons: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class EncodedTarget(Row):
    """What encoding adds to a `Prompt` with a target beside other responses.

    Attributes:
        target_token_ids: [R] int32, the target as the policy would have emitted it, the end-of-turn token included.
    """

    target_token_ids: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Comparisons(Row):
    """What encoding for a pairwise ranker adds to an `Example`: each pair as a text, in both orders.

    Attributes:
        pairs: as in `Example`.
        comparison_token_ids: 2 p arrays [T_i] int32, the text up to the place of the letter: of each pair with the
            chosen response first, as A, then second, as B.
        letters: [2 p] int32, the token that names the chosen response of each text.
    """

    pairs: tuple[np.ndarray, ...]
    comparison_token_ids: tuple[np.ndarray, ...]
    letters: np.ndarray
