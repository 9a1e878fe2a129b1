"""What a file holds by name -> Replay: entries that are rows, and how many of them were ever written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from gradscope.read.array_weights import Held
from gradscope.read.columns import Room
from gradscope.read.file_bytes import Malformed
from gradscope.read.filled import filled
from gradscope.read.ring_rows import turned
from gradscope.read.rows import NAME_THEM, NEXT, OBSERVATIONS, USUAL, bare, listed, named_rows, replay_of
from gradscope.read.stored_tensor import StoredTensor

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from gradscope.records import Replay

    Array = NDArray[Any]

_PARTED: Final = (OBSERVATIONS, NEXT)
_SIGNS: Final = "./"
"""What parts the name of an entry from a key of its observation: obs/image."""


def replay_names(entries: Iterable[str], keys: Mapping[str, str]) -> dict[str, str | dict[str, str]]:
    """Usual name -> the file's own, or those by key of a Dict observation; empty where they are no replay's.

    The user's names hold for files that have them; a file of other things is not asked for them.

    Raises:
        Malformed: the file is a replay, but lacks an entry that the user named.
    """
    plain, parts = _parted(list(entries), keys)
    names = [*plain, *parts]
    if not named_rows(names, {}) and not any(own in names for own in keys.values()):
        return {}
    return {name: parts.get(own, own) for name, own in named_rows(names, keys).items()}


def held_replay(
    path: Path,
    format_name: str,
    entries: Mapping[str, object],
    keys: Mapping[str, str],
    *,
    step: Mapping[str, object] | None = None,
    notes: tuple[str, ...] = (),
) -> Replay | None:
    """A replay of the entries by name, rows in order of collection; None where names are no replay's.

    ``entries``: arrays [rows, ...] or what reads them (Held), dicts of them by key, and numbers: where the
    next row goes, how many there are, whether the ring is full.

    Raises:
        Malformed: entries are no arrays, differ in length, or contradict the numbers.
    """
    named = replay_names(entries, keys)
    if not named:
        return None
    _check_size(entries, named)
    rows = {name: _rows(name, entries, own) for name, own in named.items()}
    taken = {each for own in named.values() for each in ([own] if isinstance(own, str) else own.values())}
    numbers = {bare(name): _number(each) for name, each in entries.items() if name not in taken}
    kept = filled(rows, numbers)
    replay = replay_of(
        path,
        format_name,
        kept.rows,
        step=step,
        notes=notes + kept.notes,
        overwritten=kept.overwritten,
        capacity=kept.capacity,
    )
    return turned(replay, kept.first) if kept.first else replay


def _check_size(entries: Mapping[str, object], named: Mapping[str, str | dict[str, str]]) -> None:
    """Tensors of torch may share their bytes, each of them as many as the file has.

    Raises:
        Malformed: rows would take more memory than the file's size justifies.
    """
    own = [[each] if isinstance(each, str) else list(each.values()) for each in named.values()]
    found = [entries[name] for names in own for name in names]
    parts = [list(each.values()) if isinstance(each, Mapping) else [each] for each in found]
    tensors = [each for part in parts for each in part if isinstance(each, StoredTensor)]
    if tensors:
        room = Room(file_size=tensors[0].room)
        for each in tensors:
            room.take(each.num_bytes)


def _number(value: object) -> object:
    """A number as it is, or read where it is one; None for anything larger."""
    if isinstance(value, (int, np.integer)):
        return value
    shape = getattr(value, "shape", None)
    return _read(value) if shape in {(), (1,)} and getattr(value, "is_numbers", True) else None


def _read(value: object) -> object:
    return value.array() if isinstance(value, Held) else value


def _rows(name: str, entries: Mapping[str, object], own: str | dict[str, str]) -> Array | dict[str, Array]:
    if isinstance(own, dict):
        return {key: _array(name, entries[each]) for key, each in own.items()}
    found = entries[own]
    if isinstance(found, Mapping):
        return {str(key): _array(name, each) for key, each in found.items()}
    return _array(name, found)


def _array(name: str, value: object) -> Array:
    found = _read(value)
    if not isinstance(found, np.ndarray):
        raise Malformed(f"has {name} that are no array but a {type(found).__name__}", NAME_THEM)
    return found


def _parted(names: list[str], keys: Mapping[str, str]) -> tuple[list[str], dict[str, dict[str, str]]]:
    """Plain entries, and by common start those that are keys of a Dict observation: obs/image, obs/state."""
    parts: dict[str, dict[str, str]] = {}
    plain = []
    heads = {each for name in _PARTED for each in USUAL[name]} | {
        keys[name] for name in _PARTED if name in keys
    }
    for name in names:
        head, key = next(
            ((name[:place], name[place + 1 :]) for place, sign in enumerate(name) if sign in _SIGNS),
            (name, ""),
        )
        if key and (head in heads or bare(head) in heads) and head not in names:
            parts.setdefault(head, {})[key] = name
        else:
            plain.append(name)
    return plain, parts


def described(entries: Iterable[str]) -> str:
    """What a file without a replay holds, for a message."""
    return f"holds {listed(entries)}, which are no replay's names"
