"""Near-duplicates: found against the truth, never by a chance collision, in bounded memory."""

from __future__ import annotations

import random
import tracemalloc

import pytest

from rayflow.config.refresh import DedupOptions, NearOptions
from rayflow.core.ids import prompt_id
from rayflow.core.rows import Prompt
from rayflow.refresh.dedup import NEAR, REPEATED, SAME, Deduplicator, NearIndex, jaccard, normalized


def prompt(text: str) -> Prompt:
    return Prompt(prompt_id=prompt_id(text, ()), prompt=text, messages=(), target=None)


def reasons(texts: list[str], **options: object) -> list[str | None]:
    with Deduplicator(DedupOptions(**options)) as dedup:
        found = [dedup.check(prompt(text)) for text in texts]
    return [None if each is None else each.reason for each in found]


def test_repeats_are_told_apart_by_what_they_repeat() -> None:
    texts = ["Say hello to Ann.", "Say hello to Ann.", " say  HELLO to ann.", "Say hello to Bob."]
    assert reasons(texts) == [None, REPEATED, SAME, None]
    assert reasons(texts, normalize=False, near=None) == [None, REPEATED, None, None]
    assert reasons(["ﬁne", "fine"], near=None) == [None, SAME]  # a ligature is the same text in NFKC


def test_the_detail_names_the_prompt_that_is_repeated_and_how_alike_they_are() -> None:
    first, second = (f"one two three four five six seven eight nine ten eleven {end}" for end in ("x", "y"))
    with Deduplicator(DedupOptions(near=NearOptions(threshold=0.8))) as dedup:
        assert dedup.check(prompt(first)) is None
        found = dedup.check(prompt(second))
    assert found.reason == NEAR
    assert found.detail == f"82% like {prompt_id(first, ())}"  # 9 of 11 shingles


def varied(rng: random.Random, words: int, changes: int) -> tuple[str, str]:
    """A text of its own, and the same with `changes` words replaced."""
    parts = [f"w{rng.randrange(5000)}" for _ in range(words)]
    other = list(parts)
    for place in rng.sample(range(words), changes):
        other[place] = "changed"
    return " ".join(parts), " ".join(other)


@pytest.mark.parametrize("threshold", [0.5, 0.8])
def test_what_is_dropped_and_kept_agrees_with_the_exact_similarity(threshold: float) -> None:
    rng = random.Random(0)
    index = NearIndex(NearOptions(threshold=threshold))
    pairs = [varied(rng, words=40, changes=number % 10) for number in range(300)]
    both = [text for pair in pairs for text in pair]
    verdicts = reasons(both, near={"threshold": threshold}, normalize=False)
    found, wanted, missable = [], [], 0.0
    for (a, b), first, verdict in zip(pairs, verdicts[::2], verdicts[1::2], strict=True):
        assert first is None  # texts of their own
        exact = jaccard(index.shingles(a), index.shingles(b))
        wanted.append(exact >= threshold)
        missable += 1 - index.recall(exact) if exact >= threshold else 0.0
        found.append(verdict in (NEAR, REPEATED))
    assert not any(f and not w for f, w in zip(found, wanted, strict=True))  # never by chance
    missed = sum(w and not f for f, w in zip(found, wanted, strict=True))
    assert 0 < sum(wanted) < 300
    assert missed <= missable + 3 * missable**0.5 and missable <= 0.06 * sum(wanted)


def test_characters_serve_scripts_without_spaces() -> None:
    a, b = "写一封友好的短信给房东说明暖气坏了一个星期", "写一封友好的短信给房东说明暖气坏了两个星期"
    assert reasons([a, b]) == [None, None]  # one run of letters is one word
    assert reasons([a, b], near={"unit": "character", "threshold": 0.6}) == [None, NEAR]


def test_short_and_wordless_prompts_are_kept() -> None:
    assert reasons(["Hi", "Hello there", "?!", "...", "Hi there", "hi"]) == [None] * 5 + [SAME]


def test_memory_does_not_grow_with_the_prompts() -> None:
    """What is held for 2,000 prompts of 10 kB is far less than their texts."""
    rng = random.Random(0)
    with Deduplicator(DedupOptions(near=NearOptions(num_permutations=32))) as dedup:
        dedup.check(prompt("warm up the library and its tables"))
        tracemalloc.start()
        for _ in range(200):
            dedup.check(prompt(" ".join(f"{rng.getrandbits(64):x}" for _ in range(600))))
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert held < 200_000  # the texts are 2 MB


def test_white_space_and_case_do_not_count() -> None:
    assert normalized("  Ｗrite\n\tA  LETTER ") == "write a letter"
