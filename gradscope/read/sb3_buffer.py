"""Stable-Baselines3 replay buffers: the rows that were really collected, in their order."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from gradscope.read.checked_json import count, number
from gradscope.read.file_bytes import Foreign, Malformed
from gradscope.read.numpy_pickle import as_array
from gradscope.read.pickle_stubs import attributes, class_name, is_text_keyed
from gradscope.read.step_name import known_step
from gradscope.read.stored_tensor import OnDemand
from gradscope.records import Replay, Ring

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    Array = NDArray[Any]
    Arrays = Mapping[str, Array]

FORMAT: Final = "sb3-buffer"
_RECORD: Final = "Record rollouts: GradscopeCallback(..., save_rollout=True)."
_NEEDED: Final = ("observations", "pos", "full")
SB3_DETAILS: Final = re.compile(
    r"(stable_baselines3|sb3_contrib|gym|gymnasium|numpy\.random)\..*|torch\.device|numpy\.ndarray"
)
"""Names that honest buffers and normalizers refer to."""


_OF_SB3: Final = re.compile(r"(stable_baselines3|sb3_contrib)\..*")
_ON_POLICY: Final = "RolloutBuffer"


def is_sb3_buffer(value: object) -> bool:
    """Whether an unpickled object is one of the library's buffers, or of a class that extends one.

    Raises:
        Foreign: it is a rollout buffer, which no algorithm saves.
    """
    name, values = class_name(value) or "", attributes(value)
    if any(each not in values for each in _NEEDED):
        return False
    if name.endswith(_ON_POLICY):
        raise Foreign(f"is a pickled {name}, which is not read", _RECORD)
    return _OF_SB3.fullmatch(name) is not None or "n_envs" in values


def sb3_replay(path: Path, value: object, notes: tuple[str, ...]) -> Replay:
    """The buffer as a replay. Arrays are views of the file's bytes, but where the ring has wrapped.

    Raises:
        Malformed: its arrays and numbers contradict each other.
    """
    ring = _ring(value)
    rows = _Rows(position=ring.position, is_full=ring.is_full, is_shared=ring.is_shared)
    known = known_step(path, {})
    capacity, environments = next(iter(ring.observations.values())).shape[:2]
    following = ring.next_observations
    return Replay(
        source=path,
        format=FORMAT,
        step=known.step,
        step_from=known.step_from,
        observations=rows.ordered(ring.observations),
        next_observations=None if following is None else rows.ordered(following),
        actions=rows.of_optional(ring.actions),
        rewards=rows.of_optional(ring.rewards),
        ends=_ends(rows.of_optional(ring.dones), rows.of_optional(ring.timeouts)),
        num_environments=environments,
        num_rows=rows.num_valid(capacity) * environments,
        num_bytes=path.stat().st_size,
        capacity=capacity,
        overwritten=ring.is_full,
        ring=ring,
        notes=known.notes + notes,
    )


def _ring(value: object) -> Ring:
    values = attributes(value)
    observations = _arrays(values["observations"])
    capacity = _capacity(observations)
    environments = {array.shape[1] for array in observations.values()}
    if len(environments) != 1:
        raise Malformed("is a buffer whose observations differ in environments")
    if not isinstance(values["full"], bool):
        raise Malformed("is a buffer that does not say whether it is full")
    shape = capacity, *environments
    is_shared = "next_observations" not in values or values.get("optimize_memory_usage") is True
    return Ring(
        buffer_class=class_name(value),
        position=_whole(values["pos"], capacity),
        is_full=values["full"],
        is_shared=is_shared,
        observations=_all_fitting(observations, shape),
        next_observations=None if is_shared else _all_fitting(_arrays(values["next_observations"]), shape),
        num_steps=count(values.get("n_steps")) or 1,
        discount=number(values.get("gamma")),
        **{name: _optional(values, name, shape) for name in ("actions", "rewards", "dones", "timeouts")},
    )


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """Which rows of the ring are valid, the oldest first."""

    position: int
    """Where the next row will be written."""
    is_full: bool
    is_shared: bool
    """Row i + 1 of the observations doubles as row i's next observation."""

    def of(self, array: Array) -> Array:
        """Valid rows of one array: a view where they lie in order already."""
        if not self.is_full:
            return array[: self.position]
        # The row at ``position`` already holds the newest next observation, not its own.
        oldest = self.position + self.is_shared
        if self.position == 0:
            return array[oldest:]
        return np.concatenate([array[oldest:], array[: self.position]])

    def of_optional(self, array: Array | None) -> Array | None:
        """The same of an array that may be missing."""
        return None if array is None else self.of(array)

    def ordered(self, arrays: Arrays) -> Arrays:
        """Valid rows by key, put in order when they are asked for: a wrapped ring is not copied before."""
        return OnDemand({key: partial(self.of, array) for key, array in arrays.items()})

    def num_valid(self, capacity: int) -> int:
        """Rows in time."""
        return capacity - (self.is_shared and self.position < capacity) if self.is_full else self.position


def _arrays(value: object) -> Arrays:
    """Arrays by key; a plain space has the key ""."""
    found = value if is_text_keyed(value) else {"": value}
    arrays = {key: as_array(each) for key, each in found.items()}
    kept = {key: array for key, array in arrays.items() if array is not None and array.ndim >= 2}  # noqa: PLR2004
    if len(kept) != len(arrays) or not kept:
        raise Malformed("is a buffer whose observations are no arrays")
    if any(0 in array.shape[1:] for array in kept.values()):
        raise Malformed("is a buffer whose observations hold no numbers")
    return kept


def _capacity(observations: Arrays) -> int:
    lengths: set[int] = {array.shape[0] for array in observations.values()}
    if len(lengths) != 1:
        raise Malformed("is a buffer whose observations differ in length")
    return lengths.pop()


def _whole(value: object, capacity: int) -> int:
    if not isinstance(value, int) or not 0 <= value <= capacity:
        raise Malformed("is a buffer whose position lies outside of it")
    return int(value)


def _fitting(array: Array, shape: tuple[int, ...]) -> Array:
    if array.shape[:2] != shape:
        raise Malformed(f"is a buffer with arrays of {array.shape[:2]} and {shape} rows and environments")
    return array


def _all_fitting(arrays: Arrays, shape: tuple[int, ...]) -> Arrays:
    return {key: _fitting(array, shape) for key, array in arrays.items()}


def _optional(values: Mapping[str, object], name: str, shape: tuple[int, ...]) -> Array | None:
    array = as_array(values.get(name))
    return None if array is None else _fitting(array, shape)


def _ends(dones: Array | None, timeouts: Array | None) -> Array | None:
    """Ends that training sees: a time limit is none. Buffers before SB3 2.1 may lack timeouts."""
    if dones is None or timeouts is None:
        return dones
    if dones.shape != timeouts.shape:
        raise Malformed(f"is a buffer with ends of shapes {dones.shape} and {timeouts.shape}")
    ends: Array = dones * (1 - timeouts)
    return ends
