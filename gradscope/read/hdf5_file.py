"""HDF5 files of experience: tianshou, minari, d3rlpy, robomimic, D4RL, or rows under usual names."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gradscope.read import sniff
from gradscope.read.file_bytes import head_or_nothing, reading, section_of
from gradscope.read.native import native_rows
from gradscope.read.rows import replay_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from gradscope.records import Replay


@dataclass(frozen=True, kw_only=True)
class Hdf5File:
    """Reader of replays in HDF5; which kind it is, the content says."""

    format: str = sniff.HDF5
    keys: Mapping[str, str] = field(default_factory=dict)
    """Usual name -> path within the file."""

    def accepts(self, path: Path) -> bool:
        """Whether the first bytes are of this format."""
        return sniff.format_of(head_or_nothing(path)) == self.format

    def read(self, path: Path) -> Replay:
        """Open a replay; its rows lie in a temporary file without a name until they are used.

        Raises:
            UnreadableFile: damaged, it leads outside of the file, or it needs more than its size justifies.
            ForeignFile: weights, logs, or anything else that is no replay.
        """
        with reading(path):
            section_of(path)
            found = native_rows("hdf5", "HDF5", (path,), keys=dict(self.keys))
            return replay_of(
                path,
                found.format,
                found.rows,
                notes=found.notes,
                capacity=found.capacity,
                overwritten=found.overwritten,
            )
