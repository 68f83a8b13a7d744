"""One thing that was looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """What was seen, and what to do about it.

    Attributes:
        level: an "error" will stop or break a run, a "warning" may.
        subject: what was looked at, in a word or two.
        seen: in a sentence.
        remedy: what to do; empty where all is well.
    """

    level: Level
    subject: str
    seen: str
    remedy: str = ""
