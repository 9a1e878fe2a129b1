"""numpy arrays of a pickle as ranges of its file: nothing of them stays in memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from gradscope.read.file_bytes import Malformed
from gradscope.read.numpy_pickle import NUMPY_TABLE, as_array
from gradscope.read.pickle_stubs import Entries, is_text_keyed
from gradscope.read.safe_pickle import unpickled
from gradscope.read.stored_tensor import ITEM_BYTES, StoredTensor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from gradscope.read.file_bytes import Bytes, Section

MAX_NAME: Final = 200
MAX_DEPTH: Final = 6
"""Of dicts and lists: an optimizer's entries lie at the fourth or fifth level."""


@dataclass(frozen=True, kw_only=True)
class Held:
    """Bytes of a small array, kept in memory."""

    content: bytes

    @property
    def size(self) -> int:
        """Bytes there are."""
        return len(self.content)

    def read(self, start: int, size: int) -> bytes:
        """A range of them."""
        return self.content[start : start + size]


@dataclass(frozen=True, kw_only=True)
class PickledDict:
    """A pickle that is a dict with text keys; arrays in it are StoredTensor."""

    entries: Mapping[str, object]
    unknown: tuple[str, ...]


def pickled_dict(file: Section) -> PickledDict:
    """Read a pickle of dicts, numbers and arrays.

    Raises:
        Malformed: no pickle, damaged, or no dict.
        OSError: the file cannot be opened any more.
    """
    content = file.content()
    try:
        found = unpickled(content, NUMPY_TABLE)
    except Malformed as error:
        raise Malformed(f"{file.path.name[:80]} {error.problem}", error.advice) from error
    if not is_text_keyed(found.value):
        raise Malformed(f"{file.path.name[:80]} is no dict with names")
    places = _Places(file=file, content=content)
    entries = {key: places.stored(each, key, MAX_DEPTH) for key, each in found.value.items()}
    return PickledDict(entries=entries, unknown=found.unknown)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Places:
    file: Section
    content: Bytes
    seen: dict[int, object] = field(default_factory=dict)
    """What became of each dict and list: shared ones are looked at once, or they could multiply."""

    def stored(self, value: object, key: str, depth: int) -> object:
        """The value with its arrays replaced, as deep as dicts of honest files go."""
        array = as_array(value)
        if array is not None:
            if id(value) not in self.seen:
                # Kept: one that does not lie in order would be copied at each place that refers to it.
                self.seen[id(value)] = self._tensor(array, key)
            return self.seen[id(value)]
        if not isinstance(value, (dict, list)) or not depth:
            return value
        if id(value) not in self.seen:
            # What holds itself is not entered again.
            self.seen[id(value)] = None
            entries = value.items() if isinstance(value, dict) else enumerate(value)
            # A name of a million letters would be repeated before everything that lies below.
            made = {name: self.stored(each, f"{key[:MAX_NAME]}.{name}", depth - 1) for name, each in entries}
            self.seen[id(value)] = _like(value, made)
        return self.seen[id(value)]

    def _tensor(self, array: NDArray[Any], key: str) -> object:
        name = array.dtype.newbyteorder("=").name
        if name not in ITEM_BYTES:
            return array
        start = _address(array) - _address(np.frombuffer(self.content, np.uint8))
        is_in_place = array.flags.c_contiguous and 0 <= start <= self.file.size - array.nbytes
        return StoredTensor(
            path=self.file.path,
            bytes=self.file.part(start, array.nbytes) if is_in_place else Held(content=array.tobytes()),
            key=key,
            dtype=name,
            shape=array.shape,
            is_big_endian=not array.dtype.isnative and array.dtype.byteorder == ">",
        )


def _like(value: object, made: Mapping[object, object]) -> object:
    if not isinstance(value, dict):
        return list(made.values())
    found = Entries(made)
    found.is_text = is_text_keyed(value)
    return found


def _address(array: NDArray[Any]) -> int:
    address: int = array.__array_interface__["data"][0]
    return address
