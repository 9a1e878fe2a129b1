"""What tells whether a file is still the one that was measured."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

YOUNG_NS: Final = 50_000_000
"""A file changed so recently could change again without its time of change telling."""
FileState = tuple[str, int, int, int, int]


def file_states(paths: Iterable[Path]) -> list[FileState | None]:
    """Name, size, both times of change (ns) and number of each file; None for one that is gone.

    The time that a copying program may set back (mtime) and the one it cannot (ctime).
    """
    states: list[FileState | None] = []
    for path in paths:
        try:
            state = path.stat()
        except OSError:
            states.append(None)
        else:
            states.append((str(path), state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino))
    return states


def are_settled(states: Sequence[FileState | None]) -> bool:
    """Whether all files are there and none changed just now."""
    newest = time.time_ns() - YOUNG_NS
    return all(state is not None and max(state[2:4]) < newest for state in states)
