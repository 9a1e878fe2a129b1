"""A Rich console that writes into a string, and the parts every screen shares."""

from __future__ import annotations

from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gradscope.records import Status
from gradscope.show.rows import bar, safe

if TYPE_CHECKING:
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
        """The text, in ASCII where that is wanted."""
        return plain_ascii(text) if self.look.ascii_only else text

    def text(self) -> str:
        """The screen, trailing blanks removed."""
        text = "\n".join(line.rstrip() for line in self._file.getvalue().splitlines()) + "\n"
        # Rich cuts cells with an ellipsis of its own; its stand-in must be one cell wide too.
        return plain_ascii(text.replace("…", "~")) if self.look.ascii_only else text


def plain_ascii(text: str) -> str:
    """The text with typographic characters replaced and all others outside ASCII written out."""
    return text.replace("≥", ">=").replace("·", "-").encode("ascii", "backslashreplace").decode()


def new_table(*columns: tuple[str, str]) -> Table:
    """A borderless table; columns are (heading, "left" or "right" or "fill")."""
    table = Table(box=None, show_edge=False, pad_edge=False, padding=(0, GAP, 0, 0), header_style="dim")
    for heading, kind in columns:
        table.add_column(
            heading,
            justify="right" if kind == "right" else "left",
            no_wrap=kind != "fill",
            ratio=1 if kind == "fill" else None,
        )
    return table


def status_text(status: Status) -> Text:
    """The status in its color."""
    return Text(status.value, style=STYLES[status])


def bar_text(fraction: float | None, status: Status, width: int, look: Look) -> Text:
    """A bar in the status' color."""
    return Text(bar(fraction, width, ascii_only=look.ascii_only).ljust(width), style=STYLES[status])


def name_text(name: str) -> Text:
    """A name from a file, harmless whatever it holds."""
    return Text(safe(name))
