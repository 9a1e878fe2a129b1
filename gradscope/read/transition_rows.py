"""Lists and deques of transitions -> entries by name, a column each, and which of them is what.

Fields of dicts and dataclasses have names. Of tuples (and of named tuples, whose names a pickle does not
give) the place is the name: "0", "1", ...; what they are is told by shapes and values, or by the user.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, TypeGuard

import numpy as np

from gradscope.read.columns import Room, column
from gradscope.read.file_bytes import Malformed
from gradscope.read.numpy_pickle import as_array
from gradscope.read.pickle_stubs import Stub, attributes, is_text_keyed
from gradscope.read.rows import DONES, OBSERVATIONS, named_rows
from gradscope.read.tuple_order import tuple_order

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    Array = NDArray[Any]
    Fields = dict[str, object]
    Entries = dict[str, Array | dict[str, Array]]

MAX_FIELDS: Final = 100
_ADVICE: Final = "Save a dict of arrays: numpy.savez(path, observations=..., actions=..., ...)."


@dataclass(frozen=True, kw_only=True, eq=False)
class Columns:
    """What all rows hold, by field."""

    entries: Entries
    keys: Mapping[str, str] = field(default_factory=dict)
    """Usual name -> field, where the fields have no names of their own."""
    notes: tuple[str, ...] = ()
    capacity: int | None = None
    """Of a deque."""


def is_sequence(value: object) -> TypeGuard[Sequence[object]]:
    """Whether a value may hold rows."""
    return isinstance(value, (list, deque)) and len(value) > 0


def transition_columns(items: Sequence[object], keys: Mapping[str, str], file_size: int) -> Columns | None:
    """Columns of a list of transitions, or of episodes; None where its items are neither.

    Raises:
        Malformed: what they are is not certain, rows differ, or take more memory than the file justifies.
    """
    room = Room(file_size=file_size)
    first = _fields(items[0])
    if first is None or not 1 < len(first) <= MAX_FIELDS:
        return None
    names = list(first) if isinstance(first, dict) else [str(place) for place in range(len(first))]
    is_positional = names[0] == "0"
    named = dict(zip(names, _values(first), strict=True))
    if not is_positional and not named_rows(names, {}) and not set(keys.values()) & set(names):
        return None
    if _is_episode(named):
        return Columns(entries=_episodes(items, names, room))
    entries, gaps = _columns(items, names, room)
    capacity = items.maxlen if isinstance(items, deque) else None
    return _known(entries, gaps, keys, len(first) if is_positional else None, capacity) if entries else None


def _known(
    entries: Entries,
    gaps: Mapping[str, Array],
    keys: Mapping[str, str],
    places: int | None,
    capacity: int | None,
) -> Columns | None:
    """What is what: by name, by the user's word, or by the order of ``places``; None for no transitions."""
    if places is None:
        return Columns(
            entries={**entries, **_ends(entries, gaps, named_rows(entries, keys))}, capacity=capacity
        )
    if set(keys.values()) & set(entries):
        return Columns(entries=entries, keys=keys, capacity=capacity)
    order = tuple_order(entries, places)
    if order is None:
        return None
    ends = _ends(entries, gaps, order.keys)
    return Columns(
        entries={**entries, **ends},
        keys=dict(order.keys) | {name: name for name in ends},
        notes=(order.note,),
        capacity=capacity,
    )


def _fields(item: object) -> Fields | Sequence[object] | None:
    """A transition's fields by name, or in their places: never a copy, since rows may be shared."""
    if is_text_keyed(item) or isinstance(item, (tuple, list)):
        return item
    if isinstance(item, Stub):
        if named := attributes(item):
            return named
        if isinstance(item.arguments, tuple) and item.arguments:
            return item.arguments
    return None


def _values(fields: Fields | Sequence[object]) -> Iterable[object]:
    return fields.values() if isinstance(fields, dict) else fields


def _value(fields: Fields | Sequence[object] | None, name: str) -> object:
    """One field; None where there is none of that name."""
    if isinstance(fields, dict):
        return fields.get(name)
    return fields[int(name)] if fields is not None and name.isdigit() and int(name) < len(fields) else None


def _is_like(fields: Fields | Sequence[object] | None, names: list[str], *, is_named: bool) -> bool:
    if fields is None or isinstance(fields, dict) != is_named or len(fields) != len(names):
        return False
    return not is_named or list(fields) == names


def _columns(items: Sequence[object], names: list[str], room: Room) -> tuple[Entries, dict[str, Array]]:
    """Columns by field, and by field where a value was None; fields that are no numbers are left out."""
    rows: list[Any] = [_fields(each) for each in items]
    is_named = isinstance(rows[0], dict)
    odd = next(
        (place for place, each in enumerate(rows) if not _is_like(each, names, is_named=is_named)), None
    )
    if odd is not None:
        raise Malformed(f"holds transitions of different fields: row {odd} is not like the first", _ADVICE)
    found: Entries = {}
    gaps: dict[str, Array] = {}
    for name in names:
        # Every row has been found to be like the first.
        field_of = itemgetter(name if is_named else names.index(name))
        values: list[object] = list(map(field_of, rows))
        missing = np.array([each is None for each in values])
        if missing.any() and not missing.all():
            gaps[name] = missing
            there = next(each for each in values if each is not None)
            values = [there if each is None else each for each in values]
        if (array := column(values, room)) is not None:
            found[name] = array
    return found, gaps


def _ends(
    entries: Mapping[str, object], gaps: Mapping[str, Array], named: Mapping[str, str]
) -> dict[str, Array]:
    """Ends where no field tells them: rows that nothing follows (next state None)."""
    following = named.get("next_observations")
    if following is None or following not in gaps or any(name in named for name in (DONES, "terminations")):
        return {}
    return {DONES: gaps[following].astype(np.float32)} if DONES not in entries else {}


def _is_episode(first: Fields) -> bool:
    """Whether fields hold whole episodes: rows in each of them."""
    named = named_rows(first, {})
    arrays = [as_array(first[own]) for own in named.values()]
    known = [each for each in arrays if each is not None and each.ndim > 0]
    observations = as_array(first[named[OBSERVATIONS]]) if OBSERVATIONS in named else None
    if observations is None or observations.ndim < 2 or len(known) != len(named):  # noqa: PLR2004
        return False
    return len({len(each) for each in known}) == 1


def _episodes(items: Sequence[object], names: list[str], room: Room) -> Entries:
    """Episodes one after the other; fields that are no rows are left out."""
    found: Entries = {}
    for name in names:
        arrays = [as_array(_value(_fields(each), name)) for each in items]
        kept = [each for each in arrays if each is not None and each.ndim > 0 and each.dtype.kind in "buif"]
        if len(kept) == len(items) and len({(each.shape[1:], each.dtype) for each in kept}) == 1:
            room.take(sum(each.nbytes for each in kept))
            found[name] = np.concatenate(kept)
    return found
