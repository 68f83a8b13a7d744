"""The README and the guides beside the code, as the tests read them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
GUIDES = {
    path: path.read_text()
    for path in (
        ROOT / "README.md",
        ROOT / "cluster" / "README.md",
        *sorted((ROOT / "rayflow").glob("*/README.md")),
    )
}
TEXT = "\n".join(GUIDES.values())
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", TEXT, re.DOTALL)


def block(language: str, containing: str) -> str:
    """The only block of a language that contains a text."""
    (found,) = [text for kind, text in BLOCKS if kind == language and containing in text]
    return found
