"""The table of ``gradscope formats``: what can be read and what each file type can tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.text import Text

from gradscope.show.markdown import table
from gradscope.show.screen import Column, Page, new_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gradscope.show.screen import Look

HEADS: Final = ("format", "files", "tells", "step", "gradients")


def formats_screen(rows: Sequence[Mapping[str, str]], look: Look) -> str:
    """The table as text: what the files are called, what they tell, where gradients and step come from.

    A row has an entry for each of HEADS. One line each, as five columns would leave none of them room.
    """
    page = Page(look)
    cells: list[tuple[Text | str, Text | str]] = []
    for row in rows:
        cells.append((Text(row["format"], style="bold"), Text(row["files"], style="cyan")))
        cells.append(("", row["tells"]))
        cells.append(("", f"gradients: {row['gradients']}"))
        cells.append(("", f"step: {row['step']}"))
    page.table(new_table(look, [Column("format", "left"), Column("files and what they tell", "text")], cells))
    page.line()
    page.line(
        "Nothing in a file is executed or imported without --trust. Formats are told by their first bytes.",
        "dim",
    )
    return page.text()


def formats_markdown(rows: Sequence[Mapping[str, str]]) -> str:
    """The same table for the README."""
    return table(HEADS, [tuple(row[head] for head in HEADS) for row in rows])
