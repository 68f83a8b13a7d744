"""Distinct n-grams and self-BLEU, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayflow.evaluation.diversity import MAX_N, diversity, ngrams, self_bleu, words_of


def bleu_of(*texts: str) -> float:
    words = [words_of(text) for text in texts]
    return self_bleu(words, [[ngrams(each, n) for each in words] for n in range(1, MAX_N + 1)])


def test_distinct_counts_runs_of_words_over_all_responses():
    found = diversity("p", ["a b a", "a b c"])
    assert found.distinct_1 == 3 / 6  # a b c of a b a a b c
    assert found.distinct_2 == 3 / 4  # ab ba bc of ab ba ab bc
    assert found.distinct_3 == 2 / 2


def test_one_response_has_no_self_bleu_and_short_ones_no_long_runs():
    found = diversity("p", ["hello"])
    assert found.distinct_1 == 1 and math.isnan(found.distinct_2) and math.isnan(found.self_bleu)


def test_equal_responses_have_self_bleu_one_and_different_ones_almost_none():
    assert bleu_of("the cat sat", "the cat sat", "the cat sat") == pytest.approx(1)
    assert bleu_of("hi", "hi") == pytest.approx(1)
    assert bleu_of("a b c d e f g h", "i j k l m n o p") == 0


def test_self_bleu_of_two_is_the_worked_value():
    # "a b c d" with reference "a b x d": 3/4 words, (1+1)/(3+1) pairs, (0+1)/(2+1), (0+1)/(1+1); lengths are equal.
    expected = (3 / 4 * 2 / 4 * 1 / 3 * 1 / 2) ** 0.25
    assert bleu_of("a b c d", "a b x d") == pytest.approx(expected)


def test_a_shorter_response_pays_the_brevity_penalty_of_the_closest_reference():
    # "a b" against "a b c d": every run matches; exp(1 - 4/2). The other way: 2/4 (1+1)/(3+1) 1/3 1/2.
    one, other = math.exp(-1), (2 / 4 * 2 / 4 * 1 / 3 * 1 / 2) ** 0.25
    assert bleu_of("a b", "a b c d") == pytest.approx((one + other) / 2)


def test_an_empty_response_is_like_another_empty_one_only():
    assert bleu_of("", "") == 1 and bleu_of("", "a b c d") == pytest.approx(0, abs=1e-12)


@given(st.lists(st.lists(st.sampled_from("abcd"), max_size=6), min_size=2, max_size=5))
def test_the_fast_clipping_equals_comparing_with_every_other_response(texts):
    def one(i: int) -> float:
        others = [t for j, t in enumerate(texts) if j != i]
        if not texts[i]:
            return float(any(not other for other in others))
        log = 0.0
        for n in range(1, 5):
            mine = ngrams(tuple(texts[i]), n)
            best = {g: max(ngrams(tuple(o), n)[g] for o in others) for g in mine}
            matches, smooth = sum(min(c, best[g]) for g, c in mine.items()), float(n > 1)
            total = max(len(texts[i]) - n + 1, 0)
            if not matches + smooth:
                return 0.0
            log += math.log((matches + smooth) / (total + smooth)) / 4
        closest = min((len(o) for o in others), key=lambda size: (abs(size - len(texts[i])), size))
        return math.exp(log + min(0.0, 1 - closest / len(texts[i])))

    expected = np.mean([one(i) for i in range(len(texts))])
    assert bleu_of(*(" ".join(text) for text in texts)) == pytest.approx(expected)


def test_words_of_scripts_without_spaces_are_single_characters():
    assert words_of("Hello, 世界 ok") == ("hello", ",", "世", "界", "ok")
