"""npz and npy files: a replay under usual names, or weights under parameters' names."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from gradscope.read import sniff
from gradscope.read.array_weights import array_snapshot
from gradscope.read.file_bytes import Foreign, head_of, head_or_nothing, reading, section_of
from gradscope.read.held_rows import described, held_replay
from gradscope.read.npy import MAGIC, Npy, npy, npz
from gradscope.read.rows import NAME_THEM

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from gradscope.read.npy import Source
    from gradscope.records import Replay, Snapshot

    Array = NDArray[Any]

_ALONE: Final = "0"
"""The name of the array of an npy file."""


@dataclass(frozen=True, kw_only=True)
class NumpyFile:
    """Reader of npz and npy files."""

    format: str = sniff.NUMPY
    keys: Mapping[str, str] = field(default_factory=dict)

    def accepts(self, path: Path) -> bool:
        """Whether the first bytes are of this format."""
        return sniff.format_of(head_or_nothing(path)) == self.format

    def read(self, path: Path) -> Replay | Snapshot:
        """Open a file; arrays that are neither compressed nor small are mapped, no weight is read here.

        Raises:
            UnreadableFile: damaged, or arrays of Python objects where rows are expected.
            ForeignFile: its names are neither a replay's nor parameters'.
        """
        with reading(path):
            held = _held(path)
            found: Replay | Snapshot | None = held_replay(path, self.format, held, self.keys)
            if found is None and len(held) == 1:
                found = held_replay(path, self.format, _fields(next(iter(held.values()))), self.keys)
            if found is None:
                numbers = {name: each for name, each in held.items() if each.is_numbers}
                found = array_snapshot(path, self.format, numbers)
            if found is None:
                raise Foreign(described(held), NAME_THEM)
            return found


def _held(path: Path) -> Mapping[str, Npy]:
    """Arrays by name, unread."""
    file = section_of(path)
    sources: Mapping[str, Source] = {_ALONE: file} if head_of(path).startswith(MAGIC) else npz(file)
    return {name: npy(each) for name, each in sources.items()}


def _fields(records: Npy) -> Mapping[str, Array]:
    """Columns of an array of records, by field."""
    if not records.dtype.names:
        return {}
    values = records.array().reshape(-1)
    return {name: values[name] for name in records.dtype.names}
