"""The table of ``gradscope formats``: what can be read and what each file type can tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gradscope.show.markdown import table
from gradscope.show.screen import Column, Page, new_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gradscope.show.screen import Look

HEADS: Final = ("format", "files", "tells", "step", "gradients")


def formats_screen(rows: Sequence[Mapping[str, str]], look: Look) -> str:
    """The table as text; a row has an entry for each of HEADS."""
    page = Page(look)
    columns = [Column(head, "left" if head == "format" else "text") for head in HEADS]
    page.table(new_table(look, columns, [[row[head] for head in HEADS] for row in rows]))
    page.line()
    page.line(
        "Nothing in a file is executed or imported without --trust. Formats are told by their first bytes.",
        "dim",
    )
    return page.text()


def formats_markdown(rows: Sequence[Mapping[str, str]]) -> str:
    """The same table for the README."""
    return table(HEADS, [tuple(row[head] for head in HEADS) for row in rows])
