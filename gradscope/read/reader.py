"""What every format's reader offers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from pathlib import Path

Record_co = TypeVar("Record_co", covariant=True)


class Reader(Protocol[Record_co]):
    """Opens one file format; nothing in a file is executed or imported."""

    @property
    def format(self) -> str:
        """Name of the format as users see it."""

    def accepts(self, path: Path) -> bool:
        """Whether the first bytes are of this format; never loads, never raises."""

    def read(self, path: Path) -> Record_co:
        """Open the file.

        Raises:
            UnreadableFile: what is wrong with it, and what to try.
        """
