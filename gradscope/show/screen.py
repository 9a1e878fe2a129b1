"""A Rich console that writes into a string, and the parts every screen shares."""

from __future__ import annotations

from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING, Final

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gradscope.records import Status
from gradscope.show.rows import bar, safe, short_layer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

STYLES: Final = {
    Status.UNKNOWN: "magenta",
    Status.OK: "green",
    Status.WARN: "yellow",
    Status.CRITICAL: "bold dark_orange",
    Status.COLLAPSE: "bold red",
}
GAP: Final = 2
"""Blank cells between columns."""
FLEXIBLE: Final = ("name", "text")
"""Kinds of columns that may get less than they need."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """How a screen is drawn."""

    width: int = 80
    color: bool = False
    ascii_only: bool = False


class Page:
    """Collects lines and tables; ``text()`` is the whole screen."""

    def __init__(self, look: Look) -> None:
        """Start an empty page of the look's width."""
        self.look = look
        self._file = StringIO()
        self._console = Console(
            file=self._file,
            width=look.width,
            force_terminal=look.color,
            color_system="256" if look.color else None,
            highlight=False,
            markup=False,
            emoji=False,
            legacy_windows=False,
            _environ={},
        )

    def line(self, text: str = "", style: str = "") -> None:
        """One paragraph, wrapped at the width."""
        self._console.print(Text(self.plain(text), style=style), soft_wrap=False)

    def heading(self, text: str) -> None:
        """A heading with a blank line above."""
        self.line()
        self.line(text, "bold")

    def bullet(self, text: str, style: str = "") -> None:
        """An indented paragraph whose further lines hang under its first."""
        grid = Table.grid(padding=0)
        grid.add_column(width=2, no_wrap=True)
        grid.add_column(ratio=1)
        mark = "- " if self.look.ascii_only else "· "
        grid.add_row(Text(mark), Text(self.plain(text), style=style))
        self._console.print(grid)

    def table(self, table: RenderableType) -> None:
        """Any Rich renderable."""
        self._console.print(table)

    def plain(self, text: str) -> str:
        """The text, in ASCII where that is wanted; what could steer a terminal is written out once more."""
        text = "\n".join(safe(line) for line in text.split("\n"))
        return plain_ascii(text) if self.look.ascii_only else text

    def text(self) -> str:
        """The screen, trailing blanks removed."""
        text = "\n".join(line.rstrip() for line in self._file.getvalue().splitlines()) + "\n"
        # Rich cuts cells with an ellipsis of its own; its stand-in must be one cell wide too.
        return plain_ascii(text.replace("…", "~")) if self.look.ascii_only else text


def plain_ascii(text: str) -> str:
    """The text with typographic characters replaced and all others outside ASCII written out."""
    return text.replace("≥", ">=").replace("·", "-").encode("ascii", "backslashreplace").decode()


@dataclass(frozen=True)
class Column:
    """One column of a table: its heading, how it is set, and whether it may be left out."""

    heading: str
    kind: str = "right"
    """right and left: never cut. name: shortened at its beginning. text: wrapped."""
    drop: int = 0
    """Where the width does not hold all, the highest go first, equal ones together; 0 never."""
    least: int = 14
    """Cells below which a shortened name or a wrapped text tells too little."""


def new_table(look: Look, columns: Sequence[Column], rows: Sequence[Sequence[str | Text]]) -> Table:
    """A borderless table that fits: columns are left out, names shortened, texts wrapped, numbers never."""
    cells = [[_harmless(cell, look) for cell in row] for row in rows]
    kept = list(range(len(columns)))
    while _least_width(columns, cells, kept) > look.width:
        worst = max(columns[at].drop for at in kept)
        if not worst:
            break
        kept = [at for at in kept if columns[at].drop != worst]
    widths = _widths(columns, cells, kept, look.width)
    table = Table(box=None, show_edge=False, pad_edge=False, padding=(0, GAP, 0, 0), header_style="dim")
    for at in kept:
        wraps = columns[at].kind == "text"
        table.add_column(
            columns[at].heading,
            justify="right" if columns[at].kind == "right" else "left",
            no_wrap=not wraps,
            overflow="fold" if wraps else "ellipsis",
            width=widths[at],
        )
    for row in cells:
        shown = (
            Text(short_layer(row[at].plain, widths[at], ascii_only=look.ascii_only))
            if columns[at].kind == "name"
            else row[at]
            for at in kept
        )
        table.add_row(*shown)
    return table


def _harmless(cell: str | Text, look: Look) -> Text:
    if isinstance(cell, Text):
        return cell
    return Text(plain_ascii(safe(cell)) if look.ascii_only else safe(cell))


def _natural(columns: Sequence[Column], cells: Sequence[Sequence[Text]], at: int) -> int:
    """Cells that a column's longest entry takes."""
    return max(map(cell_len, (columns[at].heading, *(row[at].plain for row in cells))))


def _least_width(columns: Sequence[Column], cells: Sequence[Sequence[Text]], kept: Sequence[int]) -> int:
    natural = {at: _natural(columns, cells, at) for at in kept}
    least = (
        min(natural[at], columns[at].least) if columns[at].kind in FLEXIBLE else natural[at] for at in kept
    )
    return sum(least) + GAP * (len(kept) - 1)


def _widths(
    columns: Sequence[Column], cells: Sequence[Sequence[Text]], kept: Sequence[int], width: int
) -> dict[int, int]:
    """Fixed columns get what they need, flexible ones share the rest, small wishes first."""
    widths = {at: _natural(columns, cells, at) for at in kept}
    flexible = sorted((at for at in kept if columns[at].kind in FLEXIBLE), key=widths.__getitem__)
    room = width - GAP * (len(kept) - 1) - sum(widths[at] for at in kept if at not in flexible)
    for served, at in enumerate(flexible):
        widths[at] = max(min(widths[at], room // (len(flexible) - served)), 1)
        room -= widths[at]
    return widths


def status_text(status: Status) -> Text:
    """The status in its color."""
    return Text(status.value, style=STYLES[status])


def bar_text(fraction: float | None, status: Status, width: int, look: Look) -> Text:
    """A bar in the status' color."""
    return Text(bar(fraction, width, ascii_only=look.ascii_only).ljust(width), style=STYLES[status])
