"""What a judge reads: a text file with the places {context}, {response_a} and {response_b}.

Three are ready: `summarization`, `helpfulness` and `generic`, each with worked examples. A file of one's own is named
by its path. A text that ends with "Verdict:" asks for the verdict at once; else the judge explains first.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from rayflow.errors import ConfigError

PLACES = ("context", "response_a", "response_b")
_FOLDER = Path(__file__).with_name("templates")
_PLACE = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Template:
    """A judge's instructions, its examples, and the places of what it judges."""

    text: str

    def fill(self, context: str, first: str, second: str) -> str:
        """The text with the prompt and both responses in their places; braces inside of those stay as they are."""
        values = dict(zip(PLACES, (context, first, second), strict=True))
        return _PLACE.sub(lambda place: values.get(place[1], place[0]).strip(), self.text)

    @property
    def asks_at_once(self) -> bool:
        """Whether the text ends where the verdict belongs."""
        return self.text.rstrip().lower().endswith("verdict:")

    @property
    def digest(self) -> str:
        """What stands for the text in a fingerprint: 16 hexadecimal digits."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]


def names() -> list[str]:
    """The templates that come with the package."""
    return sorted(path.stem for path in _FOLDER.glob("*.txt"))


def load_template(name: str) -> Template:
    """A template by its name or path.

    Raises:
        ConfigError: no such template, or one without a place for each part.
    """
    path = _FOLDER / f"{name}.txt" if name in names() else Path(name).expanduser()
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"side_by_side.template: '{name}' is neither one of {', '.join(names())} nor a file that can be read "
            f"({error})."
        ) from error
    missing = [place for place in PLACES if f"{{{place}}}" not in text]
    if missing:
        raise ConfigError(
            f"The judge's template {path} has no place for {{{missing[0]}}}. It needs all three."
        )
    return Template(text)
