"""What every format's reader offers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar, runtime_checkable

if TYPE_CHECKING:
    from pathlib import Path

Record_co = TypeVar("Record_co", covariant=True)


class Reader(Protocol[Record_co]):
    """Opens one file format; nothing in a file is executed or imported."""

    @property
    def format(self) -> str:
        """Name of the reader in formats.READERS."""

    def accepts(self, path: Path) -> bool:
        """Whether the first bytes (of a folder: its names) are of this format; never loads, never raises."""

    def read(self, path: Path) -> Record_co:
        """Open the file, or the folder where the format is one.

        Raises:
            UnreadableFile: what is wrong with it, and what to try.
        """


@runtime_checkable
class FolderReader(Protocol):
    """What a reader of folders offers beside."""

    @property
    def is_whole(self) -> bool:
        """Whether everything below the folder belongs to it; else what parts() leaves is looked at alone."""

    def parts(self, path: Path) -> tuple[Path, ...]:
        """Regular files that the artifact consists of, in a fixed order; never raises."""
