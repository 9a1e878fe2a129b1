"""The only unpickler: pure Python, imports nothing, calls nothing but our own few functions.

Every global becomes a Global, every object made from one a Stub (pickle_stubs.py). numpy arrays and
torch tensors are rebuilt by our own code (numpy_pickle.py, torch_pickle.py). Numbers that a file
gives are believed only as far as the file's size goes (pickle_machine.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from gradscope.read.file_bytes import Malformed
from gradscope.read.pickle_machine import Machine

if TYPE_CHECKING:
    from gradscope.read.file_bytes import Bytes

Table: TypeAlias = Mapping[tuple[str, str], Callable[[Sequence[object]], object]]
"""Answers to calls of globals, by module and name; each is given the call's arguments."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Unpickled:
    """What a pickle holds, and the names in it that only got a stub."""

    value: object
    unknown: tuple[str, ...]
    parts: tuple[tuple[str, str], ...] = ()
    """The same as module and name within it."""


def unpickled(
    data: Bytes, table: Table, persistent: Callable[[object], object] | None = None, *, room: int = 0
) -> Unpickled:
    """Read one pickle that fills ``data`` exactly.

    ``table`` answers calls of the globals it names; ``persistent`` answers BINPERSID, which is
    refused without it. ``room``: bytes beside the pickle that its tensors lie in.

    Raises:
        Malformed: not a pickle, damaged, refused opcodes, or anything after its end.
    """
    found, end = next_pickle(data, 0, table, persistent, room=room)
    if end != len(data):
        left = len(data) - end
        raise Malformed(f"holds {left} bytes after the pickle's end", "Leave this file out: it was altered.")
    return found


def next_pickle(
    data: Bytes,
    start: int,
    table: Table,
    persistent: Callable[[object], object] | None = None,
    *,
    room: int = 0,
) -> tuple[Unpickled, int]:
    """Read the pickle that begins at ``start``; also where it ends.

    Raises:
        Malformed: not a pickle, damaged, or refused opcodes.
    """
    machine = Machine(data, table, persistent, room)
    machine.position = start
    try:
        value = machine.load()
    except Malformed:
        raise
    except Exception as error:
        problem = f"is no well-formed pickle: byte {machine.position} ({type(error).__name__})"
        raise Malformed(problem) from error
    found = Unpickled(
        value=value,
        unknown=tuple(str(each) for each in machine.unknown.values()),
        parts=tuple(machine.unknown),
    )
    return found, machine.position
