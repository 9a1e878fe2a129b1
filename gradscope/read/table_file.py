"""Tables of experience: Parquet, Arrow or Feather, and CSV; a row of the table is a row of the replay."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from gradscope.read import sniff, sniff_table
from gradscope.read.file_bytes import Foreign, Malformed, head_or_nothing, reading, section_of
from gradscope.read.native import native_rows
from gradscope.read.rows import NAME_THEM, NO_REPLAY, replay_of
from gradscope.read.table_columns import chosen

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from gradscope.records import Replay

MAX_NAMES: Final = 4 << 20
"""Bytes of a line of column names."""
_LIBRARIES: Final = {sniff.PARQUET: "Parquet", sniff.ARROW: "Arrow", sniff.CSV: "CSV"}


@dataclass(frozen=True, kw_only=True)
class TableFile:
    """Reader of one kind of table."""

    format: str
    keys: Mapping[str, str] = field(default_factory=dict)
    """Usual name -> column, or columns with ``*``."""

    def accepts(self, path: Path) -> bool:
        """Whether the first bytes are of this format."""
        return sniff.format_of(head_or_nothing(path)) == self.format

    def read(self, path: Path) -> Replay:
        """Open a table; its rows lie in a temporary file without a name until they are used.

        Raises:
            UnreadableFile: damaged, cells that are no numbers, or it needs more than its size justifies.
            ForeignFile: a table without columns that are called like a replay's.
        """
        with reading(path):
            section = section_of(path)
            if self.format == sniff.CSV:
                self._check_names(section.read(0, min(section.size, MAX_NAMES)))
            found = native_rows(self.format, _LIBRARIES[self.format], (path,), keys=dict(self.keys))
            return replay_of(path, self.format, found.rows, notes=found.notes)

    def _check_names(self, content: bytes) -> None:
        """Logs are CSV too: they are told apart here, without a child process."""
        line, end, _ = content.partition(b"\n")
        if not end:
            raise Malformed("has a first line without an end")
        names = sniff_table.header(sniff_table.decoded(line))
        if not chosen([name for name in names if name], self.keys):
            raise Foreign(NO_REPLAY, NAME_THEM)


def parquet_file(keys: Mapping[str, str] | None = None) -> TableFile:
    """Reader of Parquet."""
    return TableFile(format=sniff.PARQUET, keys=keys or {})


def arrow_file(keys: Mapping[str, str] | None = None) -> TableFile:
    """Reader of Arrow's files and streams, Feather 2 among them."""
    return TableFile(format=sniff.ARROW, keys=keys or {})


def csv_file(keys: Mapping[str, str] | None = None) -> TableFile:
    """Reader of CSV with a line of names."""
    return TableFile(format=sniff.CSV, keys=keys or {})
