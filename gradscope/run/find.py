"""Which files lie under a PATH, what each of them is, and which run it belongs to."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gradscope.errors import ForeignFile, UnreadableFile, UsageError
from gradscope.read import FolderReader, folder_reader, reader_of
from gradscope.read.file_bytes import head_of
from gradscope.read.memory import limit_bytes
from gradscope.read.sniff import is_log
from gradscope.records import (
    NO_KNOWN_FORMAT,
    TRAINING_LOG,
    LeftOut,
    Normalizer,
    Replay,
    Rollout,
    Snapshot,
    Timeline,
)
from gradscope.run.aliases import folder_link, leave_out_aliases
from gradscope.run.found import Found, ReplayFileOpened, RunFiles
from gradscope.run.homes import homes_of
from gradscope.run.step_folders import with_step_folders
from gradscope.settings import CONFIG_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    Progress = Callable[[str, int, int], None]

__all__ = ["Found", "ReplayFileOpened", "RunFiles", "find"]

KEPT_BYTES: Final = 1 << 30
"""Replay buffers kept in memory at once; beyond, a buffer is read again when it is needed."""
KEPT_SHARE: Final = 4
"""At most one part in so many of the memory that is allowed."""


def find(
    paths: Sequence[Path], progress: Progress | None = None, keys: Mapping[str, str] | None = None
) -> Found:
    """Open every file under the paths; a bad file becomes a row, never an exception.

    ``keys`` maps usual names of a replay to the files' own.

    Raises:
        UsageError: a path does not exist, or it cannot be listed.
    """
    found = _paths_found(paths)
    leave_out_aliases(found)
    found.keys = keys or {}
    runs: dict[Path, RunFiles] = {}
    homes = homes_of(found.artifacts, found.base)
    kept, allowed = 0, limit_bytes()
    most = KEPT_BYTES if allowed is None else min(KEPT_BYTES, allowed // KEPT_SHARE)
    for number, path in enumerate(found.artifacts):
        if progress:
            progress("reading", number, len(found.artifacts))
        record = _opened(path, found)
        if record is None:
            continue
        home = homes.of(path, record)
        name = home.relative_to(found.base).as_posix()
        files = runs.setdefault(home, RunFiles(run=name, folder=home))
        kept += _file(record, files, most - kept, found.keys)
    if progress:
        progress("reading", len(found.artifacts), len(found.artifacts))
    found.runs = sorted(with_step_folders(runs, found), key=lambda files: files.run)
    return found


def _absolute(path: Path) -> Path:
    """Absolute without following links, so that files keep the names a user sees."""
    return Path(os.path.normpath(path.absolute()))


def _paths_found(paths: Sequence[Path]) -> Found:
    for path in paths:
        if not os.path.lexists(path):
            message = f"{path}: no such file or folder. Check the PATH."
            raise UsageError(message)
    ordinary = [path.is_dir() and not _is_whole(path) for path in paths]
    absolute = [_absolute(path) for path in paths]
    folders = [path if is_folder else path.parent for path, is_folder in zip(absolute, ordinary, strict=True)]
    base = Path(os.path.commonpath(folders))
    found = Found(path=" ".join(str(path) for path in paths), base=base)
    beside: dict[Path, None] = {}
    for path, is_folder in zip(absolute, ordinary, strict=True):
        if is_folder:
            found.folders.append(path)
            found.named.update([path] if folder_reader(path) is not None else [])
            found.artifacts.update(_walk(path, found))
        else:
            found.named.add(path)
            reader = folder_reader(path)
            if isinstance(reader, FolderReader):
                found.artifacts[path] = reader.parts(path)
            else:
                found.artifacts[path] = (path,)
                beside.setdefault(path.parent)
    for folder in beside:
        found.artifacts.update((path, (path,)) for path in _siblings(folder) if path not in found.artifacts)
    return found


def _is_whole(folder: Path) -> bool:
    """Whether a folder is one artifact with all that lies in it."""
    reader = folder_reader(folder)
    return isinstance(reader, FolderReader) and reader.is_whole


def _walk(folder: Path, found: Found) -> Iterator[tuple[Path, tuple[Path, ...]]]:
    def refuse(error: OSError) -> None:
        source = found.relative(Path(os.fsdecode(error.filename)))
        found.unreadable.append(LeftOut(source=source, reason=f"folder cannot be listed: {error.strerror}"))

    taken: set[Path] = set()
    for parent, folders, names in os.walk(folder, onerror=refuse):
        here = Path(parent)
        for name in sorted(folders):
            if (here / name).is_symlink():
                reason = folder_link(here / name, folder)
                found.skipped.append(LeftOut(source=found.relative(here / name), reason=reason))
        reader = folder_reader(here)
        if isinstance(reader, FolderReader):
            parts = reader.parts(here)
            yield here, parts
            if reader.is_whole:
                folders[:] = []
                continue
            taken.update(parts)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__pycache__")
        files = (here / name for name in sorted(names) if not name.startswith("."))
        yield from ((path, (path,)) for path in files if path not in taken)


def _siblings(folder: Path) -> Iterator[Path]:
    """Files beside a named one, which may belong to it."""
    for sibling in sorted(folder.iterdir()):
        if sibling.is_file() and not sibling.name.startswith("."):
            yield sibling


def _opened(path: Path, found: Found) -> Snapshot | Replay | Normalizer | Timeline | Rollout | None:
    if path.name == CONFIG_NAME and path not in found.named:
        if found.holds(path.parent) and path.parent not in found.folders:
            found.unused_configs.append(path)
        return None
    is_named = path in found.named
    if is_log(path.name) and not is_named:
        found.skipped.append(LeftOut(source=found.relative(path), reason=TRAINING_LOG))
        return None
    try:
        reader = folder_reader(path, found.keys) or reader_of(path, found.keys)
        if reader is not None:
            return reader.read(path)
        if is_named:
            head_of(path)  # a fifo, a device or a folder that is not permitted says what it is
        found.skipped.append(LeftOut(source=found.relative(path), reason=NO_KNOWN_FORMAT))
    except ForeignFile as error:
        found.skipped.append(LeftOut(source=found.relative(path), reason=error.reason))
    except UnreadableFile as error:
        found.add_unreadable(error)
    return None


def _file(
    record: Snapshot | Replay | Normalizer | Timeline | Rollout,
    files: RunFiles,
    room: int,
    keys: Mapping[str, str],
) -> int:
    """Put a record where it belongs; returns the bytes of it that stay in memory."""
    match record:
        case Snapshot(format="gradscope"):
            files.recorded.append(record)
        case Snapshot():
            files.checkpoints.append(record)
        case Normalizer():
            files.normalizers.append(record)
        case Timeline():
            files.timelines.append(record)
        case Rollout():
            files.rollouts.append(record)
        case Replay():
            keep = record.num_bytes <= room
            stripped = record if keep else _without_arrays(record)
            files.replays.append(
                ReplayFileOpened(replay=stripped, num_rows=record.num_rows, kept=keep, keys=keys)
            )
            return record.num_bytes if keep else 0
    return 0


def _without_arrays(replay: Replay) -> Replay:
    return replace(
        replay, observations={}, next_observations=None, actions=None, rewards=None, ends=None, ring=None
    )
