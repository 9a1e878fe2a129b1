"""Pages of a mapped buffer that a batch has touched are handed back: they are in the file anyway.

A large buffer is mapped, not read (gradscope.read.held_map). Drawing rows at random makes the system map
their neighbours too: measured, 8 batches of 256 rows brought in the whole of a 187 MiB buffer.
"""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@runtime_checkable
class Releasable(Protocol):
    """A map that knows whether its file changed."""

    def release(self) -> None:
        """Hand the pages back."""


def release(array: NDArray[Any]) -> None:
    """Forget the pages behind an array that is a view of a mapped file; what is read later is the same.

    Raises:
        UnreadableFile: the file changed since it was mapped: the rows may be no one's.
    """
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    owner = base.obj if isinstance(base, memoryview) else base
    if not array.flags.writeable and isinstance(owner, mmap.mmap) and isinstance(owner, Releasable):
        owner.release()
