"""How different the responses to one prompt are. Row in: n responses. Row out: `Diversity`.

Training on preferences narrows a policy: it may win by saying nearly the same thing every time.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from rayflow.core.evaluation_rows import Diversity

MAX_N = 4
# Words, single signs, and single characters of scripts that write no spaces.
_UNSPACED = "\u3040-\u30ff\u3400-\u9fff\u0e00-\u0e7f"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+|[^\w\s]")

Words = tuple[str, ...]


def words_of(text: str) -> Words:
    """The text as lower-case words and signs."""
    return tuple(_WORD.findall(text.lower()))


def ngrams(words: Words, n: int) -> Counter[Words]:
    """How often each run of n words occurs."""
    return Counter(words[i : i + n] for i in range(len(words) - n + 1))


def diversity(prompt_id: str, responses: Sequence[str]) -> Diversity:
    """Distinct n-grams and self-BLEU of the responses to one prompt; self-BLEU of a single one is NaN."""
    texts = [words_of(text) for text in responses]
    grams = [[ngrams(text, n) for text in texts] for n in range(1, MAX_N + 1)]
    return Diversity(
        prompt_id=prompt_id,
        distinct_1=distinct(grams[0]),
        distinct_2=distinct(grams[1]),
        distinct_3=distinct(grams[2]),
        self_bleu=self_bleu(texts, grams),
    )


def distinct(grams: Sequence[Counter[Words]]) -> float:
    """Share of all n-grams of all responses that are different ones; NaN where there are none.

    Source: Li et al., arXiv:1510.03055, section 5.
    """
    total = sum(each.total() for each in grams)
    return len(set().union(*grams)) / total if total else float("nan")


def self_bleu(texts: Sequence[Words], grams: Sequence[Sequence[Counter[Words]]]) -> float:
    """Mean BLEU-4 of each response with all others as its references: 1 where all are the same.

    Matches of two words and more are smoothed by one (Lin and Och, ACL 2004), so that short responses have a value.

    Args:
        texts: n responses as words.
        grams: for each length 1..4 the counts of each response.

    Returns:
        In [0, 1]; NaN for fewer than two responses.

    Source:
        Zhu et al., Texygen, arXiv:1802.01886.
    """
    if len(texts) < 2:
        return float("nan")
    lengths = np.array([len(text) for text in texts])
    logs = np.zeros(len(texts))
    for n, counts in enumerate(grams, start=1):
        matches = _matches(counts)
        totals = np.maximum(lengths - n + 1, 0)
        smooth = 1.0 if n > 1 else 0.0
        with np.errstate(divide="ignore", invalid="ignore"):
            logs += np.log((matches + smooth) / (totals + smooth)) / len(grams)
    scores = np.exp(np.minimum(0.0, 1 - _closest(lengths) / np.maximum(lengths, 1)) + logs)
    empty = lengths == 0
    scores[empty] = float(
        empty.sum() > 1
    )  # an empty response is like another empty one, and like nothing else
    return float(scores.mean())


def _matches(counts: Sequence[Counter[Words]]) -> np.ndarray:
    """[n] n-grams of each response that some other response has too, each at most as often as there.

    The most often that the others have a gram is the highest count over all, or the second highest for who has
    the highest: no pair of responses is compared.
    """
    best: dict[Words, tuple[int, int, int]] = {}
    for owner, each in enumerate(counts):
        for gram, count in each.items():
            high, who, second = best.get(gram, (0, -1, 0))
            best[gram] = (count, owner, high) if count > high else (high, who, max(second, count))
    found = np.zeros(len(counts))
    for owner, each in enumerate(counts):
        for gram, count in each.items():
            high, who, second = best[gram]
            found[owner] += min(count, second if who == owner else high)
    return found


def _closest(lengths: np.ndarray) -> np.ndarray:
    """[n] for each length the closest of the others, the shorter of two that are equally close."""
    order = np.argsort(lengths, kind="stable")
    ranked = lengths[order].astype(np.float64)
    below = np.concatenate([[-np.inf], ranked[:-1]])
    above = np.concatenate([ranked[1:], [np.inf]])
    found = np.empty(len(lengths))
    found[order] = np.where(ranked - below <= above - ranked, below, above)
    return found
