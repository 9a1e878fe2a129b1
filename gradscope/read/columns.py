"""Values that rows of a pickle hold one by one -> one array a column; memory as the file's size justifies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from gradscope.read.file_bytes import Malformed
from gradscope.read.numpy_pickle import Rebuilt
from gradscope.read.pickle_stubs import is_text_keyed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Array = NDArray[Any]

SPARE_BYTES: Final = 64 << 20
SHARED: Final = 16
"""Rows may share an array (a state and the one that follows, frames of a stack); a bomb does without end."""
MAX_NUMBERS: Final = 1_000_000
"""Items of a list that stands for one observation."""
TOO_MUCH: Final = "repeats its arrays: rows would take {} bytes of memory where the file has {}"


@dataclass(kw_only=True)
class Room:
    """Bytes that rows may still take in memory."""

    file_size: int
    used: int = 0

    def take(self, size: int) -> None:
        """Count what is about to be allocated.

        Raises:
            Malformed: more than the file's size justifies.
        """
        self.used += size
        if self.used > SHARED * self.file_size + SPARE_BYTES:
            raise Malformed(TOO_MUCH.format(self.used, self.file_size), "Leave it out: it was altered.")


def column(values: Sequence[object], room: Room) -> Array | dict[str, Array] | None:
    """Values of all rows as one array [rows, *shape], by key where they are dicts; None where they are none.

    Numbers, arrays of one shape, or lists and tuples of as many numbers.

    Raises:
        Malformed: more than the file's size justifies.
    """
    first = values[0]
    if is_text_keyed(first) and first:
        return _by_key(values, list(first), room)
    arrays = [each.array if isinstance(each, Rebuilt) else each for each in values]
    if isinstance(first, (Rebuilt, np.ndarray)):
        return _stacked(arrays, room)
    if isinstance(first, (list, tuple)):
        return _of_lists(values, len(first), room)
    return _numbers(values, (len(values),), room)


def _by_key(values: Sequence[object], keys: list[str], room: Room) -> dict[str, Array] | None:
    found: dict[str, Array] = {}
    for key in keys:
        of_key = [each[key] if isinstance(each, dict) and key in each else None for each in values]
        array = None if isinstance(of_key[0], dict) else column(of_key, room)
        if not isinstance(array, np.ndarray):
            return None
        found[key] = array
    return found


def _stacked(arrays: Sequence[object], room: Room) -> Array | None:
    first = arrays[0]
    if not isinstance(first, np.ndarray) or first.dtype.kind not in "buif":
        return None
    shape, kind = first.shape, first.dtype
    if not all(isinstance(each, np.ndarray) and each.shape == shape for each in arrays):
        return None
    if any(each.dtype != kind for each in arrays):  # type: ignore[attr-defined]
        return None
    room.take(first.nbytes * len(arrays))
    return np.stack(arrays)  # type: ignore[arg-type]


def _of_lists(values: Sequence[object], length: int, room: Room) -> Array | None:
    if not length or not all(isinstance(each, (list, tuple)) and len(each) == length for each in values):
        return None
    room.take(8 * length * len(values))
    flat = [number for each in values for number in each]  # type: ignore[attr-defined]
    flat = [_number(each) for each in flat]
    return _numbers(flat, (len(values), length), room)


def _number(value: object) -> object:
    """The number that an array of one holds."""
    array = value.array if isinstance(value, Rebuilt) else None
    return array.item() if array is not None and array.size == 1 and array.dtype.kind in "buif" else value


def _numbers(values: Sequence[object], shape: tuple[int, ...], room: Room) -> Array | None:
    """Booleans stay booleans, whole numbers whole; anything else among them gives none."""
    kinds = {type(each) for each in values}
    if not kinds <= {bool, int, float}:
        return None
    room.take(8 * len(values))
    if float not in kinds and not all(-(1 << 63) <= each < 1 << 63 for each in values):  # type: ignore[operator]
        return None
    kind: type = bool if kinds == {bool} else float if float in kinds else np.int64
    try:
        return np.array(values, kind).reshape(shape)
    except OverflowError:
        return None
