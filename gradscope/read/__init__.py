"""OPEN: path -> Snapshot, Replay, Normalizer, Timeline or Rollout, without executing anything in a file.

`open_file` looks at the first bytes (sniff.py; of a folder: sniff_folder.py) and hands the path to the
reader of that format (formats.py). Only that reader is imported. Readers that meet pickles share one
safe unpickler (safe_pickle.py).
"""

from __future__ import annotations

import os
import stat
from importlib import import_module
from typing import TYPE_CHECKING

from gradscope.errors import UnreadableFile
from gradscope.read import sniff, sniff_folder
from gradscope.read.file_bytes import head_of
from gradscope.read.formats import READERS, TAKES_KEYS
from gradscope.read.reader import FolderReader

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from gradscope.read.reader import Reader
    from gradscope.records import Normalizer, Replay, Rollout, Snapshot, Timeline

    Opened = Snapshot | Replay | Normalizer | Timeline | Rollout
    Keys = Mapping[str, str]

__all__ = ["FolderReader", "folder_reader", "open_file", "reader_of", "readers"]


def open_file(path: Path, keys: Keys | None = None) -> Opened:
    """Open a file, or a folder that is one artifact, of any known format.

    ``keys`` maps usual names of a replay (observations, actions, ...) to the file's own.

    Raises:
        UnreadableFile: of no known format, or it cannot be read.
        ForeignFile: it is whole, but holds nothing that is read here.
    """
    reader = folder_reader(path, keys) or reader_of(path, keys)
    if reader is None:
        raise UnreadableFile(path, "has no known format", "`gradscope formats` lists what can be read.")
    return reader.read(path)


def reader_of(path: Path, keys: Keys | None = None) -> Reader[Opened] | None:
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
    found = sniff.format_named(head, path.name)
    if found is not None:
        return _reader(found, keys)
    if is_promised:
        raise UnreadableFile(path, *sniff.strange_content(head))
    return None


def folder_reader(path: Path, keys: Keys | None = None) -> Reader[Opened] | None:
    """The reader that takes this folder whole; None for an ordinary folder, or what is none."""
    found = sniff_folder.format_of(path)
    return None if found is None else _reader(found, keys)


def readers() -> tuple[Reader[Opened], ...]:
    """Readers of all formats, those of folders too."""
    return tuple(_reader(name, None) for name in (*sniff.FORMATS, *sniff_folder.FOLDERS))


def _reader(name: str, keys: Keys | None) -> Reader[Opened]:
    """Each format's reader is imported where it is met: a scan of SB3 zips needs no other."""
    module, reader = READERS[name]
    made = getattr(import_module(f"gradscope.read.{module}"), reader)
    if name not in TAKES_KEYS or not keys:
        plain: Reader[Opened] = made()
        return plain
    from gradscope.read.rows import usual_keys  # noqa: PLC0415  only where names are given

    found: Reader[Opened] = made(keys=usual_keys(keys))
    return found


def _is_link_or_nothing(path: Path) -> bool:
    try:
        return stat.S_ISLNK(os.lstat(path).st_mode)
    except (OSError, ValueError):
        return True
