"""Observation and action spaces as gymnasium (or gym) pickles them, read from stubs: facts, no objects."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from gradscope.read.checked_json import count
from gradscope.read.numpy_pickle import DType, as_array
from gradscope.read.pickle_stubs import attributes, class_name, is_text_keyed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

_MODULES: Final = ("gymnasium.spaces.", "gym.spaces.")
_MAX_BYTE: Final = 255
MAX_ENTRIES: Final = 256
"""Of a Dict. Each is looked through, and many could share what is long."""


@dataclass(frozen=True, kw_only=True)
class Sb3Space:
    """One space, as Stable-Baselines3's buffers and networks see it."""

    kind: str
    """Box, Discrete, MultiDiscrete, MultiBinary or Dict."""
    shape: tuple[int, ...] = ()
    """Of one observation in a buffer; a number of a Discrete space is stored as (1,)."""
    dtype: str = ""
    """numpy's name of the type, without byte order."""
    num_values: tuple[int, ...] = ()
    """Of a Discrete space, or of each number of a MultiDiscrete one: 0 to n - 1."""
    is_byte_range: bool = False
    """Whether a Box's limits are 0 and 255 everywhere."""
    entries: Mapping[str, Sb3Space] = field(default_factory=dict)
    """Of a Dict, in its own order."""


def sb3_space(value: object) -> Sb3Space | None:
    """What a stubbed space says; None for anything but a space that Stable-Baselines3 trains on."""
    entries = attributes(value).get("spaces") if _kind(value) == "Dict" else None
    if entries is None:
        return _plain(value)
    if not is_text_keyed(entries) or not 0 < len(entries) <= MAX_ENTRIES:
        return None
    found = {key: _plain(each) for key, each in entries.items()}
    known = {key: each for key, each in found.items() if each is not None}
    return Sb3Space(kind="Dict", entries=known) if len(known) == len(found) else None


def _kind(value: object) -> str | None:
    name = class_name(value) or ""
    return name.rpartition(".")[2] if name.startswith(_MODULES) else None


def _plain(value: object) -> Sb3Space | None:
    kind, state = _kind(value), attributes(value)
    dtype = _dtype(state.get("dtype"))
    if kind == "Discrete":
        size = count(state.get("n"))
        return Sb3Space(kind=kind, shape=(1,), dtype=dtype, num_values=(size,)) if size and dtype else None
    shape = _shape(state.get("_shape", state.get("shape")))
    if shape is None or not dtype:
        return None
    if kind == "Box":
        limits = as_array(state.get("low")), as_array(state.get("high"))
        return Sb3Space(kind=kind, shape=shape, dtype=dtype, is_byte_range=_are_bytes(*limits))
    if kind == "MultiDiscrete":
        sizes = as_array(state.get("nvec"))
        if sizes is None or sizes.dtype.kind not in "iu" or sizes.ndim != 1 or not (sizes > 0).all():
            return None
        return Sb3Space(kind=kind, shape=sizes.shape, dtype=dtype, num_values=tuple(map(int, sizes)))
    return Sb3Space(kind=kind, shape=shape, dtype=dtype) if kind == "MultiBinary" else None


def _are_bytes(low: NDArray[Any] | None, high: NDArray[Any] | None) -> bool:
    if low is None or high is None:
        return False
    return bool((low == 0).all() and (high == _MAX_BYTE).all())


def _shape(value: object) -> tuple[int, ...] | None:
    if not isinstance(value, tuple) or not all(type(size) is int and size >= 0 for size in value):
        return None
    return value


def _dtype(value: object) -> str:
    """As numpy names it; old versions keep the type instead of the dtype."""
    if isinstance(value, DType):
        return "" if value.real is None else value.real.name
    module, _, name = (class_name(value) or "").rpartition(".")
    return name if module == "numpy" else ""
