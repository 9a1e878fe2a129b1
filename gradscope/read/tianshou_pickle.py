"""tianshou's replay buffers as pickle writes them: one ring, or several side by side, one an environment.

Source: tianshou/data/buffer/buffer_base.py and manager.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from gradscope.read.checked_json import count
from gradscope.read.file_bytes import Foreign, Malformed
from gradscope.read.numpy_pickle import as_array
from gradscope.read.pickle_stubs import attributes, class_name, is_text_keyed
from gradscope.read.rows import NEXT, OBSERVATIONS, replay_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from gradscope.records import Replay

    Array = NDArray[Any]

FORMAT: Final = "tianshou-pickle"
_NAMES: Final = {
    OBSERVATIONS: "obs",
    NEXT: "obs_next",
    "actions": "act",
    "rewards": "rew",
    "dones": "done",
    "terminations": "terminated",
    "timeouts": "truncated",
}
UNEVEN: Final = "its {} buffers hold different numbers of rows: they are read one after the other"


def is_tianshou_buffer(value: object) -> bool:
    """Whether an unpickled object is one of the library's buffers."""
    return (class_name(value) or "").startswith("tianshou.data.") and "_meta" in attributes(value)


def tianshou_replay(path: Path, value: object, notes: tuple[str, ...]) -> Replay:
    """Valid rows, those of each ring in order of collection.

    Raises:
        Malformed: arrays and numbers contradict each other.
        Foreign: nothing was ever written.
    """
    values = attributes(value)
    meta = attributes(values["_meta"])
    if "obs" not in meta:
        raise Foreign("is a tianshou buffer without rows", "")
    rows = {name: _by_key(meta[own]) for name, own in _NAMES.items() if own in meta}
    capacity = count(values.get("maxsize")) or 0
    if not rows[OBSERVATIONS] or any(
        0 in each.shape[1:] for parts in rows.values() for each in parts.values()
    ):
        raise Malformed("is a tianshou buffer whose rows hold no numbers")
    if any(len(each) != capacity for by_key in rows.values() for each in by_key.values()):
        raise Malformed(f"is a tianshou buffer whose arrays have not {capacity} rows")
    rings = _rings(values, capacity)
    places = [each.places() for each in rings]
    taken = {
        name: {key: _taken(each, places) for key, each in by_key.items()}
        for name, by_key in rows.items()
        if by_key
    }
    parts = () if len({len(each) for each in places}) == 1 else (UNEVEN.format(len(places)),)
    return replay_of(
        path,
        FORMAT,
        {name: each[""] if set(each) == {""} else each for name, each in taken.items()},
        notes=notes + parts,
        overwritten=any(each.is_full for each in rings),
        capacity=capacity // len(places),
    )


def _by_key(value: object) -> dict[str, Array]:
    """Arrays by key: of a Batch within, its entries; others are left out."""
    array = as_array(value)
    if array is not None:
        return {"": array}
    # A Batch within a Batch is pickled as a plain dict (Batch.__getstate__).
    entries = value if is_text_keyed(value) else attributes(value)
    found = {key: as_array(each) for key, each in entries.items()}
    return {key: each for key, each in found.items() if each is not None and each.ndim > 0}


@dataclass(frozen=True, kw_only=True)
class _Ring:
    start: int
    end: int
    length: int
    following: int
    """Where its next row will be written, from its start."""

    def places(self) -> Array:
        """Numbers of its valid rows, the oldest first."""
        numbers: Array = np.arange(self.length)
        places: Array = self.start + (np.roll(numbers, -self.following) if self.is_full else numbers)
        return places

    @property
    def is_full(self) -> bool:
        """Whether the oldest rows have been lost."""
        return self.length == self.end - self.start


def _rings(values: Mapping[str, object], capacity: int) -> list[_Ring]:
    starts, lengths = as_array(values.get("_offset")), as_array(values.get("_lengths"))
    last = as_array(values.get("last_index"))
    if starts is None or lengths is None or last is None:
        size, following = _whole(values, "_size"), _whole(values, "_insertion_idx")
        return [_ring(0, capacity, size, following)]
    if not len(starts) == len(lengths) == len(last) or not 0 < len(starts) <= capacity:
        raise Malformed("is a tianshou buffer whose parts do not fit together")
    ends = [*starts[1:].tolist(), capacity]
    parts = zip(starts.tolist(), ends, lengths.tolist(), last.tolist(), strict=True)
    return [_ring(start, end, length, newest - start + 1) for start, end, length, newest in parts]


def _ring(start: int, end: int, length: int, following: int) -> _Ring:
    size = end - start
    if not 0 <= start <= end or not 0 <= length <= size or not 0 <= following <= size:
        raise Malformed("is a tianshou buffer whose numbers lie outside of it")
    return _Ring(start=start, end=end, length=length, following=following % max(size, 1))


def _whole(values: Mapping[str, object], name: str) -> int:
    found = count(values.get(name))
    if found is None:
        raise Malformed(f"is a tianshou buffer without {name}")
    return found


def _taken(array: Array, places: list[Array]) -> Array:
    """[rows, ...] of one ring; [rows, rings, ...] of several as long as each other."""
    is_even = len(places) > 1 and len({len(each) for each in places}) == 1
    taken: Array = array[np.stack(places, axis=1) if is_even else np.concatenate(places)]
    return taken
