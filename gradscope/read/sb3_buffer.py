"""Stable-Baselines3 replay buffers: the rows that were really collected, in their order."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from gradscope.read import sniff
from gradscope.read.file_bytes import Malformed, head_or_nothing, reading, section_of
from gradscope.read.layers import inert_note
from gradscope.read.numpy_pickle import NUMPY_TABLE, as_array
from gradscope.read.pickle_stubs import Stub, attributes, is_text_keyed
from gradscope.read.safe_pickle import unpickled
from gradscope.read.step_name import known_step
from gradscope.records import Replay

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[Any]]

_NEEDED: Final = ("observations", "pos", "full")
SB3_DETAILS: Final = re.compile(
    r"(stable_baselines3|sb3_contrib|gym|gymnasium|numpy\.random)\..*|torch\.device|numpy\.ndarray"
)
"""Names that honest buffers and normalizers refer to."""


@dataclass(frozen=True, kw_only=True)
class Sb3Buffer:
    """Reader of pickled replay buffers: plain, Dict, n-step and hindsight ones."""

    format: str = sniff.BUFFER

    def accepts(self, path: Path) -> bool:
        """Whether the first bytes are of this format."""
        return sniff.format_of(head_or_nothing(path)) == self.format

    def read(self, path: Path) -> Replay:
        """Open a buffer. Arrays are views of the file's bytes, but where the ring has wrapped.

        Raises:
            UnreadableFile: damaged, or a pickle of something else.
        """
        with reading(path):
            found = unpickled(section_of(path).content(), NUMPY_TABLE)
            values = attributes(found.value)
            if any(name not in values for name in _NEEDED):
                raise Malformed(
                    f"a pickle of {_described(found.value)} holds no replay buffer", "Leave it out."
                )
            return _replay(path, self.format, values, inert_note(found.unknown, SB3_DETAILS))


def _replay(path: Path, format_name: str, values: Mapping[str, object], notes: tuple[str, ...]) -> Replay:
    observations = _arrays(values["observations"])
    capacity = _capacity(observations)
    position, is_full = _whole(values["pos"], capacity), values["full"]
    if not isinstance(is_full, bool):
        raise Malformed("is a buffer that does not say whether it is full")
    rows = _Rows(
        position=position,
        is_full=is_full,
        is_shared="next_observations" not in values or _is_optimized(values),
    )
    following = {} if rows.is_shared else _arrays(values["next_observations"])
    known = known_step(path, {})
    environments = {array.shape[1] for array in observations.values()}
    if len(environments) != 1:
        raise Malformed("is a buffer whose observations differ in environments")
    shape = capacity, *environments
    return Replay(
        source=path,
        format=format_name,
        step=known.step,
        step_from=known.step_from,
        observations={key: rows.of(_fitting(array, shape)) for key, array in observations.items()},
        next_observations={key: rows.of(_fitting(array, shape)) for key, array in following.items()} or None,
        actions=_optional(values, "actions", shape, rows),
        rewards=_optional(values, "rewards", shape, rows),
        ends=_ends(_optional(values, "dones", shape, rows), _optional(values, "timeouts", shape, rows)),
        num_environments=environments.pop(),
        capacity=capacity,
        overwritten=is_full,
        notes=known.notes + notes,
    )


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """Which rows of the ring are valid, the oldest first."""

    position: int
    """Where the next row will be written."""
    is_full: bool
    is_shared: bool
    """Row i + 1 of the observations doubles as row i's next observation."""

    def of(self, array: NDArray[Any]) -> NDArray[Any]:
        """Valid rows of one array: a view where they lie in order already."""
        if not self.is_full:
            return array[: self.position]
        # The row at ``position`` already holds the newest next observation, not its own.
        oldest = self.position + self.is_shared
        if self.position == 0:
            return array[oldest:]
        return np.concatenate([array[oldest:], array[: self.position]])


def _is_optimized(values: Mapping[str, object]) -> bool:
    return values.get("optimize_memory_usage") is True


def _arrays(value: object) -> Arrays:
    """Arrays by key; a plain space has the key ""."""
    found = value if is_text_keyed(value) else {"": value}
    arrays = {key: as_array(each) for key, each in found.items()}
    kept = {key: array for key, array in arrays.items() if array is not None and array.ndim >= 2}  # noqa: PLR2004
    if len(kept) != len(arrays) or not kept:
        raise Malformed("is a buffer whose observations are no arrays")
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


def _fitting(array: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    if array.shape[:2] != shape:
        raise Malformed(f"is a buffer with arrays of {array.shape[:2]} and {shape} rows and environments")
    return array


def _optional(
    values: Mapping[str, object], name: str, shape: tuple[int, ...], rows: _Rows
) -> NDArray[Any] | None:
    array = as_array(values.get(name))
    return None if array is None else rows.of(_fitting(array, shape))


def _ends(dones: NDArray[Any] | None, timeouts: NDArray[Any] | None) -> NDArray[Any] | None:
    """Ends that training sees: a time limit is none. Buffers before SB3 2.1 may lack timeouts."""
    if dones is None or timeouts is None:
        return dones
    ends: NDArray[Any] = dones * (1 - timeouts)
    return ends


def _described(value: object) -> str:
    if isinstance(value, Stub):
        return str(value)
    array = as_array(value)
    return f"a {type(value).__name__}" if array is None else f"an array of shape {array.shape}"
