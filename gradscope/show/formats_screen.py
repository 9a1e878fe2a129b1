"""The table of ``gradscope formats``: what can be read and what each file type can tell."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Final

from rich.text import Text

from gradscope.show.markdown import table
from gradscope.show.screen import Column, Page, new_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gradscope.show.screen import Look

HEADS: Final = ("format", "files", "tells", "step", "gradients")
KIND: Final = "kind"
"""Of HEADS and this a row has an entry each; rows of one kind lie together."""


def formats_screen(rows: Sequence[Mapping[str, str]], look: Look) -> str:
    """The table as text: what the files are called, what they tell, where gradients and step come from.

    One line each, as five columns would leave none of them room.
    """
    page = Page(look)
    for kind, group in groupby(rows, lambda row: row[KIND]):
        page.heading(kind)
        cells: list[tuple[Text | str, Text | str]] = []
        for row in group:
            cells.append((Text(row["format"], style="bold"), Text(row["files"], style="cyan")))
            cells += [
                ("", row["tells"]),
                ("", f"gradients: {row['gradients']}"),
                ("", f"step: {row['step']}"),
            ]
        page.table(new_table(look, [Column("format", "left"), Column("what it is", "text")], cells))
    page.line()
    page.line(
        "Nothing in a file is executed or imported without --trust. Formats are told by their first bytes.",
        "dim",
    )
    return page.text().lstrip("\n")


def formats_markdown(rows: Sequence[Mapping[str, str]]) -> str:
    """The same for the README: a table for each kind."""
    parts = []
    for kind, group in groupby(rows, lambda row: row[KIND]):
        cells = [tuple(row[head] for head in HEADS) for row in group]
        parts.append(f"**{kind}**\n\n{table(HEADS, cells)}")
    return "\n\n".join(parts)
