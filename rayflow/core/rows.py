"""The row that flows through the pipeline: one row is one prompt with everything known about it.

A stage writes one small record type (`Prompt`, `Candidates`, `Scores`, ...): the columns it adds. A row is
the join of those records on `prompt_id`, and a stage that reads several of them declares a view by
inheritance (`class Scored(Prompt, Candidates, Scores)`). No record holds None for "filled in later".

Candidates are indices into `responses`; texts are never keys. Arrays are numpy; nested sequences of token
ids are tuples of int32 arrays.

Here are the records of a run that samples, in the order of its stages. Those of data that brings its responses are
in `given_rows`, those of evaluations in `evaluation_rows`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np


class Message(TypedDict):
    """One chat turn, in the field's usual form."""

    role: str
    content: str


def cut_short(finish_reasons: Sequence[str]) -> np.ndarray:
    """[n] bool, which of n responses were cut at max_tokens, by how each ended (see `Candidates`)."""
    return np.array([reason == "length" for reason in finish_reasons], dtype=bool)


@dataclass(frozen=True, kw_only=True)
class Row:
    """What every record has: the content hash that names its prompt (see `ids.prompt_id`)."""

    prompt_id: str


@dataclass(frozen=True, kw_only=True)
class Prompt(Row):
    """A prompt as the user gave it: chat `messages`, or a plain `prompt` used as it is.

    Attributes:
        prompt: the text, or None for a chat prompt.
        messages: the chat turns, empty for a plain prompt.
        target: a reference answer (supervised target), or None where the data has none.
    """

    prompt: str | None
    messages: tuple[Message, ...]
    target: str | None

    @property
    def text(self) -> str:
        """The prompt as a person reads it: the plain text, or the turns on lines of their own."""
        if self.prompt is not None:
            return self.prompt
        return "\n".join(f"{m['role']}: {m['content']}" for m in self.messages)


@dataclass(frozen=True, kw_only=True)
class Responses(Prompt):
    """View: a prompt with responses, wherever they came from; what a reward reads.

    Attributes:
        responses: n texts.
        finish_reasons: n strings as in `Candidates`, where it is told; none where it is not: none then counts as cut.
    """

    responses: tuple[str, ...]
    finish_reasons: tuple[str, ...] = ()

    @property
    def cut(self) -> np.ndarray:
        """[n] bool, which responses a sampler cut at max_tokens."""
        reasons = self.finish_reasons or ("stop",) * len(self.responses)
        return cut_short(reasons)


@dataclass(frozen=True, kw_only=True)
class Candidates(Row):
    """What the sampler adds: n responses of one prompt, with the token ids that were really used.

    Attributes:
        prompt_token_ids: [P] int32, the prompt as the engine read it (chat template applied).
        responses: n texts, special tokens removed.
        token_ids: n arrays [R_i] int32, EOS included where the response ended by itself.
        logprobs: [n] float32, summed log-probabilities in nats under the untempered policy.
        finish_reasons: n strings, "stop" (ended by itself) or "length" (cut at max_tokens).
        seed: the row's sampling seed.
    """

    prompt_token_ids: np.ndarray
    responses: tuple[str, ...]
    token_ids: tuple[np.ndarray, ...]
    logprobs: np.ndarray
    finish_reasons: tuple[str, ...]
    seed: int


@dataclass(frozen=True, kw_only=True)
class Scores(Row):
    """What the reward model adds: `rewards` [n] float64, finite, higher is better."""

    rewards: np.ndarray


@dataclass(frozen=True, kw_only=True)
class ComponentScores(Scores):
    """What a reward of several parts adds to `Scores`.

    Attributes:
        component_rewards: c arrays [n] float64, one for each part, in the order of the configuration.
        variances: [n] float64, variance of the parts: how much they disagree on a response.
    """

    component_rewards: tuple[np.ndarray, ...]
    variances: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Orders(Row):
    """What a pairwise reward that reads both orders adds to what it decides, for the pairs that it judged.

    Attributes:
        shown_first: [m] float32, probability that the first response of a pair is better, when shown first.
        shown_second: [m] float32, the same when it is shown second. Without a liking for a place, the same number.
    """

    shown_first: np.ndarray
    shown_second: np.ndarray


@dataclass(frozen=True, kw_only=True)
class OrderedScores(Scores, Orders):
    """Scores with the judgements behind them."""


@dataclass(frozen=True, kw_only=True)
class Accepted(Row):
    """What selection adds.

    Attributes:
        accepted: [k] int32, candidate indices in acceptance order.
        num_rounds: passes over the remaining candidates that it took.
        acceptance_rate: accepted / visited, the share of visits that ended in acceptance.
    """

    accepted: np.ndarray
    num_rounds: int
    acceptance_rate: float


@dataclass(frozen=True, kw_only=True)
class PreferencePairs(Row):
    """What pairing adds: p pairs of candidate indices.

    Attributes:
        pairs: p arrays [2] int32, (chosen, rejected), as candidate indices.
        label_source: who said which is better: "reward" (the stored rewards) or "ranker" (new calls of a
            pairwise reward).
        margins: [p] float64, by how much: the difference of the two rewards, or the log-odds of the ranker's
            verdict. Negative where a label was sampled against the odds.
    """

    pairs: tuple[np.ndarray, ...]
    label_source: str
    margins: np.ndarray


@dataclass(frozen=True, kw_only=True)
class OrderedAccepted(Accepted, Orders):
    """Selection with the judgements behind it."""


@dataclass(frozen=True, kw_only=True)
class OrderedPairs(PreferencePairs, Orders):
    """Pairs with the judgements behind their labels."""


@dataclass(frozen=True, kw_only=True)
class Reference(Row):
    """What the reference pass adds.

    Attributes:
        ref_logprobs: [k] float32, nats, aligned with `accepted`: what training uses. NaN for a response that it
            leaves out, as one in no pair.
        sampler_differences: [k] float32, nats: the recomputed log-probability minus the sampler's, NaN where
            only one of the two is known.
    """

    ref_logprobs: np.ndarray
    sampler_differences: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Scored(Prompt, Candidates, Scores):
    """View: a prompt with its scored candidates."""


@dataclass(frozen=True, kw_only=True)
class Sampled(Prompt, Candidates):
    """View: a prompt with its candidates, what a reward model reads."""


@dataclass(frozen=True, kw_only=True)
class PreferenceGroup(Sampled, Scores, Accepted, PreferencePairs):
    """View: everything up to the labelled pairs, what `export` and the report read."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A row that a stage could not finish, kept with its reason beside the artifact.

    Attributes:
        prompt_id: the row.
        reason: a short, countable class such as "reward is not finite".
        detail: what exactly was seen.
    """

    prompt_id: str
    reason: str
    detail: str = ""
