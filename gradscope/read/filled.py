"""Which rows of a preallocated buffer were written, and in which order: by what it says of its ring."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from gradscope.read.file_bytes import Malformed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]
    Rows = Mapping[str, Array | Mapping[str, Array]]

NEXT_ROW: Final = (
    *("ptr", "pos", "position", "next_idx", "insert_index", "insertion_idx", "insertion_index"),
    *("cursor", "idx", "index", "write_index", "pointer", "mem_cntr", "mem_counter", "counter"),
)
"""Where the next row will be written; of a counter, rows written since the beginning."""
NUM_ROWS: Final = ("size", "cur_size", "curr_size", "current_size", "length", "num_rows", "num_filled", "len")
IS_FULL: Final = ("full", "is_full", "filled")
CAPACITY: Final = (
    "max_size",
    "maxsize",
    "capacity",
    "buffer_size",
    "mem_size",
    "memory_size",
    "maxlen",
    "max_len",
)
LOOKED_AT: Final = "says where its next row goes ({}), not how many there are: {}"
COUNTED: Final = "says that {} of its {} rows are written; the others are left out"
_DONT: Final = "Save what the buffer says of its ring too: the next row's place, and the number of rows."


@dataclass(frozen=True, kw_only=True, eq=False)
class Filled:
    """Rows that were really collected, as they lie in the ring."""

    rows: Rows
    first: int
    """Place of the oldest."""
    overwritten: bool
    capacity: int | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Ring:
    size: int
    """Rows there are."""
    first: int
    """Place of the oldest."""
    notes: tuple[str, ...] = ()


def filled(rows: Rows, numbers: Mapping[str, object]) -> Filled:
    """Valid rows, as they lie.

    ``numbers``: entries that are no rows, by bare name; without a cursor among them all rows are taken as
    they lie.

    Raises:
        Malformed: the numbers contradict each other or the rows.
    """
    arrays = _flat(rows)
    length = len(arrays[0]) if arrays and arrays[0].ndim else 0
    capacity = _first_of(numbers, CAPACITY)
    ring = _ring(arrays, length, numbers, has_capacity=capacity is not None)
    if ring is None:
        return Filled(rows=rows, first=0, overwritten=False, capacity=capacity)
    kept = {name: _cut(each, ring.size) for name, each in rows.items()}
    is_full = ring.size == length and (ring.first > 0 or (capacity or 0) == length)
    return Filled(
        rows=kept, first=ring.first, overwritten=is_full, capacity=capacity or length, notes=ring.notes
    )


def _ring(
    arrays: list[Array], length: int, numbers: Mapping[str, object], *, has_capacity: bool
) -> _Ring | None:
    place, size = _first_of(numbers, NEXT_ROW), _first_of(numbers, NUM_ROWS)
    full = _flag(numbers)
    if place is None and (size is None or full is not None):
        return None
    if full is not None and place is not None:
        size = length if full else place
    notes: tuple[str, ...] = ()
    is_unsure = (
        place is not None and 0 < place < length and (size is None or (size == length and not has_capacity))
    )
    if is_unsure and full is None:
        assert place is not None
        size = length if _is_written(arrays, place) else place
        what = (
            "the rows beyond are not empty, so the ring has wrapped"
            if size == length
            else "those beyond are empty"
        )
        notes = (LOOKED_AT.format(place, what),)
    elif place is None:
        assert size is not None
        notes = (COUNTED.format(size, length),) if size < length else ()
    elif size is None:
        assert place is not None
        size = min(place, length) if place or not _is_written(arrays, 0) else length
    if size > length:
        raise Malformed(f"says that it has {size} rows, but its arrays have {length}", _DONT)
    if place is not None and size < length and place != size:
        raise Malformed(f"says that {size} rows are written and that the next goes to row {place}", _DONT)
    first = place % length if place is not None and length and size == length else 0
    return _Ring(size=size, first=first, notes=notes)


def _cut(value: Array | Mapping[str, Array], size: int) -> Array | dict[str, Array]:
    if isinstance(value, Mapping):
        return {key: each[:size] if each.ndim else each for key, each in value.items()}
    return value[:size] if value.ndim else value


def _is_written(arrays: list[Array], start: int) -> bool:
    return any(array.ndim > 0 and bool(array[start:].any()) for array in arrays)


def _flat(rows: Rows) -> list[Array]:
    parts = [each.values() if isinstance(each, Mapping) else [each] for each in rows.values()]
    return [array for part in parts for array in part]


def _first_of(numbers: Mapping[str, object], names: tuple[str, ...]) -> int | None:
    found = (_whole(numbers[name]) for name in names if name in numbers)
    return next((each for each in found if each is not None), None)


def _flag(numbers: Mapping[str, object]) -> bool | None:
    for name in IS_FULL:
        value = _scalar(numbers.get(name))
        if isinstance(value, (bool, np.bool_)) or value in (0, 1):
            return bool(value)
    return None


def _whole(value: object) -> int | None:
    found = _scalar(value)
    if isinstance(found, (int, np.integer)) and not isinstance(found, bool) and found >= 0:
        return int(found)
    return None


def _scalar(value: object) -> object:
    """A number, also where an array holds just one."""
    if isinstance(value, np.ndarray):
        return value.reshape(-1)[0].item() if value.size == 1 and value.dtype.kind in "bui" else None
    return value.item() if isinstance(value, np.generic) else value if isinstance(value, int) else None
