"""Files mapped into memory, which may shrink while they are held.

Training overwrites ``replay_buffer.pkl`` in place: opening it for writing cuts it to nothing. Touching a
page of a map that its file no longer has raises SIGBUS, which ends the process. Here the signal puts empty
pages in their place and the map remembers that it is broken: whoever used it asks afterwards and throws the
result away.
"""

from __future__ import annotations

import mmap
import os
import signal
import weakref
from functools import cache
from typing import TYPE_CHECKING, Final

from gradscope.errors import UnreadableFile

if TYPE_CHECKING:
    import ctypes
    from collections.abc import Callable
    from pathlib import Path

CHANGED: Final = "changed while it was read"
WAIT: Final = "Try again when it is written completely."
MAP_FIXED: Final = 0x10
"""Of sys/mman.h, on Linux and macOS."""
MAX_UNEXPLAINED: Final = 100
"""Signals in a row while every file is as long as its map: then the disk does not give a page back."""

_held: weakref.WeakSet[HeldMap] = weakref.WeakSet()
_made = 0
_unexplained = 0


class HeldMap(mmap.mmap):
    """A read-only map that knows its file and whether it changed since."""

    path: Path
    stamp: tuple[int, int]
    number: int
    """Maps are numbered as they are made, from 1."""
    start: int
    """Where it begins in the file, in bytes."""
    inode: tuple[int, int]
    """Device and number of the file: the path may come to mean another one."""
    num_whole: int
    """Bytes before the empty pages."""

    @property
    def is_changed(self) -> bool:
        """Whether anything of its file changed since it was mapped: what was read is a mixture.

        Told by size and time of change; who sets the time back is not noticed.
        """
        if self.closed:
            return False
        if self.num_whole < len(self) or self.size() != self.stamp[0]:
            return True
        try:
            found = self.path.stat()
        except OSError:
            return False  # it has no name any more: nobody writes to it by that
        return _inode(found) == self.inode and _stamp(found) != self.stamp

    def release(self) -> None:
        """Hand the pages back that were touched; what is read later is the same.

        Raises:
            UnreadableFile: the file changed since it was mapped.
        """
        if self.is_changed:
            raise UnreadableFile(self.path, CHANGED, WAIT)
        if hasattr(mmap, "MADV_DONTNEED"):
            self.madvise(mmap.MADV_DONTNEED)

    def mend(self, *, whole: bool) -> bool:
        """Put empty pages where the file has none any more, or everywhere; whether that was new."""
        if self.closed:
            return False
        left = 0 if whole else max(0, self.size() - self.start)
        first = -(-left // mmap.PAGESIZE) * mmap.PAGESIZE
        if first >= self.num_whole:
            return False
        self.num_whole = first
        kind = MAP_FIXED | mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        address = _address(self)
        found = _c().mmap(address + first, len(self) - first, mmap.PROT_READ, kind, -1, 0)
        return bool(found == address + first)


def held_map(path: Path, handle: int, start: int, size: int) -> HeldMap:
    """Map ``size`` bytes from ``start``, which lies at a page; the handle stays the caller's."""
    global _made  # noqa: PLW0603  a signal knows nothing else
    found = HeldMap(handle, size, access=mmap.ACCESS_READ, offset=start)
    found.path, found.start, found.num_whole = path, start, size
    there = os.fstat(handle)
    found.inode, found.stamp = _inode(there), _stamp(there)
    _made += 1
    found.number = _made
    _held.add(found)
    _taker()()
    return found


def num_made() -> int:
    """How many maps were made so far."""
    return _made


def changed_since(number: int, path: Path) -> bool:
    """Whether a map made after so many others is not its file any more; of a file, or of any in a folder."""
    return any(
        each.number > number and each.path.is_relative_to(path) and each.is_changed for each in list(_held)
    )


def _stamp(found: os.stat_result) -> tuple[int, int]:
    return found.st_size, found.st_mtime_ns


def _inode(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _address(held: HeldMap) -> int:
    import numpy as np  # noqa: PLC0415  mapped files hold arrays

    address: int = np.frombuffer(held, np.uint8).__array_interface__["data"][0]
    return address


@cache
def _c() -> ctypes.CDLL:
    import ctypes  # noqa: PLC0415  only a file that shrinks needs it

    library = ctypes.CDLL(None, use_errno=True)
    library.mmap.restype = ctypes.c_void_p
    library.mmap.argtypes = (
        *(ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int),
        *(ctypes.c_int, ctypes.c_int, ctypes.c_long),
    )
    return library


@cache
def _taker() -> Callable[[], None]:
    """What takes SIGBUS; Python's own signal module would never get to run its handler."""
    if not hasattr(signal, "SIGBUS"):
        return lambda: None  # such a system refuses to cut a mapped file
    import ctypes  # noqa: PLC0415  only where a file is mapped

    library = ctypes.CDLL(None)
    library.signal.restype = ctypes.c_void_p
    library.signal.argtypes = ctypes.c_int, ctypes.c_void_p
    before: list[int | None] = [None]

    def mend_all(number: int) -> None:
        if not _mended():
            library.signal(number, before[0])

    _c()
    handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(mend_all)
    own = ctypes.cast(handler, ctypes.c_void_p)  # which keeps the handler alive

    def take() -> None:
        # Others may have taken it since (faulthandler does): theirs comes where ours cannot help.
        found = library.signal(signal.SIGBUS, own)
        if found != own.value:
            before[0] = found

    return take


def _mended() -> bool:
    """Whether trying again makes sense."""
    global _unexplained  # noqa: PLW0603  a signal knows nothing else
    held = list(_held)
    if sum(each.mend(whole=False) for each in held):
        _unexplained = 0
        return True
    _unexplained += 1
    if _unexplained <= MAX_UNEXPLAINED:
        return bool(held)
    _unexplained = 0
    return sum(each.mend(whole=True) for each in held) > 0
