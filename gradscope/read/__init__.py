"""OPEN: path -> Snapshot, Replay, Normalizer, Timeline or Rollout, without executing anything in a file.

`open_file` looks at the first bytes (sniff.py) and hands the path to the reader of that format.
Only that reader is imported. Readers that meet pickles share one safe unpickler (safe_pickle.py).
"""

from __future__ import annotations

import os
import stat
from importlib import import_module
from typing import TYPE_CHECKING, Final

from gradscope.errors import UnreadableFile
from gradscope.read import sniff
from gradscope.read.file_bytes import head_of

if TYPE_CHECKING:
    from pathlib import Path

    from gradscope.read.reader import Reader
    from gradscope.records import Normalizer, Replay, Rollout, Snapshot, Timeline

    Opened = Snapshot | Replay | Normalizer | Timeline | Rollout

__all__ = ["open_file", "reader_of", "readers"]


_READERS: Final = {
    sniff.SB3: ("sb3_zip", "Sb3Zip"),
    sniff.TORCH: ("torch_zip", "TorchZip"),
    sniff.SAFETENSORS: ("safetensors_file", "SafetensorsFile"),
    sniff.RECORDER: ("recorder_file", "RecorderFile"),
    sniff.TIMELINE: ("timeline", "TimelineReader"),
    sniff.ROLLOUT: ("rollout_file", "RolloutFile"),
    sniff.BUFFER: ("sb3_buffer", "Sb3Buffer"),
    sniff.NORMALIZER: ("vec_normalize", "VecNormalizeFile"),
}
"""Module and class of each format's reader."""


def open_file(path: Path) -> Opened:
    """Open a file of any known format.

    Raises:
        UnreadableFile: of no known format, or it cannot be read.
    """
    reader = reader_of(path)
    if reader is None:
        raise UnreadableFile(path, "has no known format", "`gradscope formats` lists what can be read.")
    return reader.read(path)


def reader_of(path: Path) -> Reader[Opened] | None:
    """The reader that takes this file, by its first bytes; None for a file of no known format.

    Raises:
        UnreadableFile: its name promises a known format that its bytes do not keep, or it is
            missing or a link that leads nowhere.
    """
    if sniff.is_without_weights(path.name):
        return None
    is_promised = sniff.is_promised(path.name)
    try:
        head = head_of(path)
    except UnreadableFile:
        if is_promised or _is_link_or_nothing(path):
            raise
        return None
    found = sniff.format_of(head)
    if found is not None:
        return _reader(found)
    if is_promised:
        raise UnreadableFile(path, *sniff.strange_content(head))
    return None


def readers() -> tuple[Reader[Opened], ...]:
    """Readers of all formats."""
    return tuple(_reader(name) for name in sniff.FORMATS)


def _reader(name: str) -> Reader[Opened]:
    """Each format's reader is imported where it is met: a scan of SB3 zips needs no other."""
    module, reader = _READERS[name]
    found: Reader[Opened] = getattr(import_module(f"gradscope.read.{module}"), reader)()
    return found


def _is_link_or_nothing(path: Path) -> bool:
    try:
        return stat.S_ISLNK(os.lstat(path).st_mode)
    except (OSError, ValueError):
        return True
