"""The interface of a layout: how one raw row of a data file becomes an `Example`.

Row in: a dict as the file holds it. Row out: `Example`, or a `RowError` that says why there is none.
"""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

from rayflow.core.given_rows import Example
from rayflow.core.options import KindOptions
from rayflow.errors import DataError

MISSING_KEY = "missing key"
WRONG_TYPE = "wrong type"
NOT_UNICODE = "not Unicode text"
EMPTY_PROMPT = "empty prompt"
EMPTY_RESPONSE = "empty response"
IDENTICAL = "identical responses"
SEVERAL_TURNS = "a response of several turns"
PREFILL = "prompt ends with an answer"
TOOLS_OR_IMAGES = "tools or images"
NO_ANSWER = "no answer"
NO_DIALOGUE = "not a dialogue"
UNKNOWN_LAYOUT = "unknown layout"
OTHER_SPLIT = "another split"
"""Left out because the configuration asks for one split: dropped, not failed."""


class RowError(DataError):
    """A row that cannot be used: `reason` is its class, to be counted; the message is what was seen."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class Layout(Protocol):
    """What every layout offers.

    A fingerprint holds the name and the settings of a layout of your own, not its code: after an edit, run with
    `--force-stage prompts`, and `--force-stage eval-prompts` where the evaluation's prompts have this layout too.

    Attributes:
        Config: its settings.
        wants: the keys it reads, as a person writes them.
    """

    Config: type[KindOptions]
    wants: ClassVar[str]

    def __init__(self, options: KindOptions) -> None: ...

    @staticmethod
    def fits(row: dict[str, Any]) -> bool:
        """Whether a row has this layout's keys, so that `auto` may choose it."""

    def example(self, row: dict[str, Any]) -> Example:
        """The row as an example.

        Raises:
            RowError: the row cannot be used.
        """
