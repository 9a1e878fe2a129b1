"""Bytes of a file, read where they are needed and never beyond what the file really holds."""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from dataclasses import dataclass
from mmap import ALLOCATIONGRANULARITY
from typing import TYPE_CHECKING, Final, TypeAlias

from gradscope.errors import ForeignFile, UnreadableFile
from gradscope.read.held_map import CHANGED, WAIT, HeldMap, changed_since, held_map, num_made
from gradscope.read.memory import is_out_of_memory, needs_more

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    Bytes: TypeAlias = bytes | HeldMap

PAGE_BYTES: Final = ALLOCATIONGRANULARITY
"""A map begins at a multiple of it."""
HEAD_BYTES: Final = 4096
"""Enough of a file to tell its format."""
MAPPED_BYTES: Final = 64 << 20
"""Larger files are mapped: pages nobody looks at cost no memory."""
SPARSE_BYTES: Final = 1 << 30
"""Larger reads are refused from a file that has holes; they cost it nothing, us all memory."""
DAMAGED: Final = "Copy it again from where it was written."
MORE_MEMORY: Final = "Give more with --memory, or leave the file out."
_KINDS: Final = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a fifo",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class Malformed(Exception):
    """Bytes that are not what they claim to be; becomes UnreadableFile where the path is known."""

    def __init__(self, problem: str, advice: str = DAMAGED) -> None:
        super().__init__(problem)
        self.problem = problem
        self.advice = advice


class Foreign(Malformed):
    """Well-formed, but holds nothing that is read here; becomes ForeignFile where the path is known."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """A range of a file; every read opens the file anew, so that no handle stays open."""

    path: Path
    start: int
    size: int
    stamp: tuple[int, int]
    """Size in bytes and time of change (ns) of the whole file when it was first opened."""

    def part(self, start: int, size: int) -> Section:
        """A range within this one.

        Raises:
            Malformed: it does not lie within.
        """
        if start < 0 or size < 0 or start + size > self.size:
            raise Malformed(f"bytes {start} to {start + size} lie outside the {self.size} there are")
        return Section(path=self.path, start=self.start + start, size=size, stamp=self.stamp)

    def read(self, start: int, size: int) -> bytes:
        """Exactly ``size`` bytes from ``start``.

        Raises:
            Malformed: they lie outside, or the file changed since it was opened.
            OSError: the file cannot be opened any more.
        """
        wanted = self.part(start, size)
        handle = _open(self.path)
        try:
            _check(os.fstat(handle), self.stamp, size)
            return _exactly(handle, wanted.start, wanted.size)
        finally:
            os.close(handle)

    def view(self, start: int, size: int) -> bytes | memoryview:
        """The same bytes: in memory where they are few, else mapped.

        Raises:
            Malformed: they lie outside, or the file changed since it was opened.
            OSError: the file cannot be opened any more.
        """
        if size < MAPPED_BYTES:
            return self.read(start, size)
        wanted = self.part(start, size)
        before = wanted.start % PAGE_BYTES
        return memoryview(self._mapped(wanted.start - before, before + size, size))[before:]

    def content(self) -> Bytes:
        """All bytes: in memory where they are few, else mapped.

        Raises:
            Malformed: the file changed since it was opened.
            OSError: the file cannot be opened any more.
        """
        if self.size < MAPPED_BYTES or self.start:
            return self.read(0, self.size)
        return self._mapped(0, self.size, 0)

    def _mapped(self, start: int, size: int, wanted: int) -> HeldMap:
        handle = _open(self.path)
        try:
            _check(os.fstat(handle), self.stamp, wanted)
            return held_map(self.path, handle, start, size)
        finally:
            os.close(handle)


def section_of(path: Path) -> Section:
    """The whole of a regular file.

    Raises:
        UnreadableFile: not a regular file, a link to nothing, or not permitted.
    """
    with reading(path):
        handle = _open(path)
        try:
            found = os.fstat(handle)
        finally:
            os.close(handle)
        if found.st_size == 0:
            raise Malformed("is empty", "It may be still being written, or the disk was full.")
        return Section(path=path, start=0, size=found.st_size, stamp=_stamp(found))


def head_of(path: Path) -> bytes:
    """First bytes of a regular file, at most HEAD_BYTES.

    Raises:
        UnreadableFile: not a regular file, a link to nothing, or not permitted.
    """
    with reading(path):
        handle = _open(path)
        try:
            return os.read(handle, HEAD_BYTES)
        finally:
            os.close(handle)


def head_or_nothing(path: Path) -> bytes:
    """First bytes; nothing where there are none to be had."""
    try:
        return head_of(path)
    except UnreadableFile:
        return b""


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong with a file's bytes into UnreadableFile.

    Raises:
        UnreadableFile: instead of any other exception.
    """
    before = num_made()
    try:
        yield
    except Exception as error:
        if changed_since(before, path):
            raise UnreadableFile(path, CHANGED, WAIT) from error
        if isinstance(error, UnreadableFile):
            raise
        raise _told(path, error) from error
    if changed_since(before, path):
        raise UnreadableFile(path, CHANGED, WAIT)


def _told(path: Path, error: Exception) -> UnreadableFile:
    if isinstance(error, Foreign):
        return ForeignFile(path, error.problem, error.advice)
    if isinstance(error, Malformed):
        return UnreadableFile(path, error.problem, error.advice)
    if is_out_of_memory(error):
        return UnreadableFile(path, needs_more(), MORE_MEMORY)
    if isinstance(error, OSError):
        return UnreadableFile(path, f"cannot be opened: {error.strerror}")
    return UnreadableFile(path, f"is damaged ({type(error).__name__})", DAMAGED)


def _open(path: Path) -> int:
    """Handle of a regular file; a fifo would block for ever and a device never ends."""
    try:
        found = path.stat()
    except FileNotFoundError as error:
        if path.is_symlink():
            raise Malformed("is a link that leads nowhere", "Remove it, or bring its file back.") from error
        raise
    kind = stat.S_IFMT(found.st_mode)
    if kind != stat.S_IFREG:
        raise Malformed(f"is {_KINDS.get(kind, 'something else')}, not a file", "Name a file.")
    # Looked at again after opening: the name may have come to mean something else in between.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    handle = os.open(path, flags)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise Malformed("is not a file any more", "Try again.")
    return handle


def _check(found: os.stat_result, stamp: tuple[int, int], wanted: int) -> None:
    if _stamp(found) != stamp:
        raise Malformed(CHANGED, WAIT)
    on_disk = getattr(found, "st_blocks", found.st_size) * 512
    if wanted > SPARSE_BYTES and on_disk < wanted:
        raise Malformed(f"claims {wanted} bytes where the disk holds {on_disk}")


def _exactly(handle: int, start: int, size: int) -> bytes:
    os.lseek(handle, start, os.SEEK_SET)
    blocks: list[bytes] = []
    left = size
    while left:
        block = os.read(handle, left)
        if not block:
            raise Malformed(f"ends {left} bytes early")
        blocks.append(block)
        left -= len(block)
    return blocks[0] if len(blocks) == 1 else b"".join(blocks)


def _stamp(found: os.stat_result) -> tuple[int, int]:
    return found.st_size, found.st_mtime_ns
