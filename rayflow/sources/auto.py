"""The layout that a file's keys tell: chosen at the first row that any layout fits, then kept.

Row in: a dict as the file holds it. Row out: `Example`.
"""

from __future__ import annotations

from typing import Any

from rayflow.core.given_rows import Example
from rayflow.core.options import KindOptions
from rayflow.core.registry import FAMILIES, resolve
from rayflow.sources.base import UNKNOWN_LAYOUT, Layout, RowError
from rayflow.sources.fields import holdings
from rayflow.sources.renames import way_out


class Auto:
    """One layout for all rows, found by itself."""

    class Config(KindOptions):
        """Nothing to set: a layout with settings is named."""

        kind: str = "auto"

    wants = "the keys of any layout"

    def __init__(self, options: Config) -> None:
        self.options = options
        self._layout: Layout | None = None

    @staticmethod
    def fits(row: dict[str, Any]) -> bool:
        """Never a layout of its own."""
        return False

    def example(self, row: dict[str, Any]) -> Example:
        """The example of the layout found (see `sources.base.Layout`)."""
        if self._layout is None:
            self._layout = detect(row)
        return self._layout.example(row)


def detect(row: dict[str, Any]) -> Layout:
    """The first layout of the registry's table, most particular first, that a row fits.

    Raises:
        RowError: none; the message says what to rename in a well-known form, else which keys each layout wants.
    """
    known = {kind: resolve("layout", kind) for kind in FAMILIES["layout"]}
    for layout in known.values():
        if layout.fits(row):
            return layout(layout.Config())
    if todo := way_out(row):
        raise RowError(UNKNOWN_LAYOUT, f"has {', '.join(map(str, row))}, which fits no layout: {todo}")
    wants = "; ".join(f"{kind}: {layout.wants}" for kind, layout in known.items() if kind != "auto")
    found = holdings(row, ["prompt", "messages", "chosen", "rejected", "responses", "summaries"])
    raise RowError(UNKNOWN_LAYOUT, f"{found}, which fits no layout. They want {wants}")
