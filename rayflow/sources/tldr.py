"""The published comparisons of Reddit TL;DR summaries. Row out: `Example`, one labelled pair.

A row is {info: {subreddit, title, post}, summaries: [{text}, {text}], choice: 0 or 1, split, ...}, one per line
of files named batch*.json. The prompt has the form on which the summarisation policies of the paper were
trained, and each summary follows it after one space, whatever white space the file has around it. Rows that
compare summaries of news articles (no subreddit, no post) are refused.

Source: Stiennon et al., Learning to summarize from human feedback, arXiv:2009.01325, and its data release.
"""

from __future__ import annotations

from typing import Any

from rayflow.core.given_rows import Example
from rayflow.core.options import KindOptions
from rayflow.sources.base import OTHER_SPLIT, WRONG_TYPE, RowError
from rayflow.sources.fields import first_of, has, text
from rayflow.sources.pairs import preference


class Tldr:
    """`info`, `summaries` and `choice`."""

    class Config(KindOptions):
        """Settings.

        Attributes:
            split: take only the comparisons of this split, as the rows name it ("train", "valid1", "valid2");
                None takes all. Later batches hold mostly validation comparisons.
            chat: make the prompt a user's turn, for a chat model; else it is plain text.
        """

        kind: str = "tldr"
        split: str | None = None
        chat: bool = False

    wants = "info (with subreddit, title, post), summaries, choice"

    def __init__(self, options: Config) -> None:
        self.options = options

    @staticmethod
    def fits(row: dict[str, Any]) -> bool:
        """Two summaries and the choice between them."""
        return has(row, "info", "summaries", "choice")

    def example(self, row: dict[str, Any]) -> Example:
        """The chosen summary and the other one (see `sources.base.Layout`)."""
        if self.options.split is not None and row.get("split") != self.options.split:
            raise RowError(OTHER_SPLIT, f"is of split '{row.get('split')}', not '{self.options.split}'")
        (_, info), (_, summaries), (_, choice) = (first_of(row, k) for k in ("info", "summaries", "choice"))
        if not isinstance(info, dict):
            raise RowError(WRONG_TYPE, f"'info' must be an object, is {type(info).__name__}")
        texts = _texts(summaries)
        if isinstance(choice, bool) or choice not in (0, 1):
            raise RowError(WRONG_TYPE, f"'choice' must be 0 or 1, is {choice!r}")
        prompt = _prompt(info)
        chosen, rejected = texts[int(choice)], texts[1 - int(choice)]
        if self.options.chat:
            return preference(({"role": "user", "content": prompt},), chosen, rejected, {})
        return preference(prompt, f" {chosen}", f" {rejected}", {})


def _prompt(info: dict[str, Any]) -> str:
    subreddit, title, post = (text(first_of(info, k)[1], f"info.{k}") for k in ("subreddit", "title", "post"))
    name = subreddit if subreddit.startswith("r/") else f"r/{subreddit}"
    return f"SUBREDDIT: {name}\n\nTITLE: {title}\n\nPOST: {post}\n\nTL;DR:"


def _texts(summaries: Any) -> list[str]:
    if not isinstance(summaries, list | tuple) or len(summaries) != 2:
        raise RowError(WRONG_TYPE, "'summaries' must be a list of two")
    if not all(isinstance(summary, dict) for summary in summaries):
        raise RowError(WRONG_TYPE, "each of 'summaries' must be an object with a 'text'")
    return [text(first_of(s, "text")[1], f"summaries[{i}].text").strip() for i, s in enumerate(summaries)]
