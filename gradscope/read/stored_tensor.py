"""A tensor that lies in a file: its shape and dtype are known, its bytes are read when asked for."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

import numpy as np

from gradscope.read.file_bytes import Malformed, reading

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

ITEM_BYTES: Final[Mapping[str, int]] = {
    "bool": 1,
    "uint8": 1,
    "int8": 1,
    "uint16": 2,
    "int16": 2,
    "uint32": 4,
    "int32": 4,
    "uint64": 8,
    "int64": 8,
    "float16": 2,
    "float32": 4,
    "float64": 8,
    "complex32": 4,
    "complex64": 8,
    "complex128": 16,
    "bfloat16": 2,
    "float8_e4m3fn": 1,
    "float8_e4m3fnuz": 1,
    "float8_e5m2": 1,
    "float8_e5m2fnuz": 1,
    "float8_e8m0fnu": 1,
}
"""Bytes an element takes, for every dtype that is read."""
_OF_ML_DTYPES: Final = ("bfloat16", "float8_")


class Readable(Protocol):
    """Bytes by range."""

    @property
    def size(self) -> int:
        """Bytes there are."""

    def read(self, start: int, size: int) -> bytes:
        """Exactly these bytes."""


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredTensor:
    """Where a tensor's elements lie; bounds have been checked against the bytes there are."""

    path: Path
    bytes: Readable
    key: str
    """Which bytes: two tensors of one key, offset and shape are one tensor."""
    dtype: str
    shape: tuple[int, ...]
    offset: int = 0
    """In elements."""
    strides: tuple[int, ...] | None = None
    """In elements; None where contiguous in C order."""
    is_big_endian: bool = False
    is_conjugated: bool = False
    is_negated: bool = False
    requires_grad: bool = False
    """As the file says; state dicts are saved detached and never say so."""
    room: int = 0
    """Bytes of the whole file: an expanded view may take as many."""
    made: Callable[[], NDArray[Any]] | None = None
    """How its elements are made where they do not lie in the file as they are (quantised, sparse)."""

    @property
    def is_floating(self) -> bool:
        """Whether its elements can be trained; quantised ones stand for such."""
        return self.dtype.startswith(("float", "bfloat", "complex", "qint", "quint"))

    @property
    def is_bounded(self) -> bool:
        """Whether it has no more elements than the file has bytes for (an expanded view can)."""
        return self.made is not None or self.num_bytes <= max(self.bytes.size, self.room)

    @property
    def num_bytes(self) -> int:
        """Bytes that its elements take in memory."""
        return math.prod(self.shape) * ITEM_BYTES.get(self.dtype, 4)

    @property
    def identity(self) -> tuple[object, ...]:
        """Equal for names of one and the same tensor."""
        return self.key, self.offset, self.shape, self.strides

    def array(self) -> NDArray[Any]:
        """The elements, ``shape``, read now.

        Raises:
            UnreadableFile: the file changed, or cannot be opened any more.
        """
        with reading(self.path):
            return self._read()

    def _read(self) -> NDArray[Any]:
        if self.made is not None:
            return self.made()
        width = ITEM_BYTES[self.dtype]
        strides = self.strides or contiguous_strides(self.shape)
        span = spanned(self.shape, strides)
        if not self.is_bounded:
            raise Malformed(f"has a tensor of shape {self.shape} over {self.bytes.size} bytes")
        content = self.bytes.read(self.offset * width, span * width) if span else b""
        flat = _elements(content, self.dtype, is_big_endian=self.is_big_endian)
        if not span or strides == contiguous_strides(self.shape):
            array = flat.reshape(self.shape)
        else:
            steps = tuple(stride * flat.itemsize for stride in strides)
            # Not as_strided: it goes by the dtype's text, and float8_e5m2's means nothing to numpy.
            array = np.ndarray(self.shape, flat.dtype, flat, strides=steps).copy()
        array = np.conjugate(array) if self.is_conjugated else array
        return np.negative(array) if self.is_negated else array


@dataclass(frozen=True, kw_only=True, eq=False)
class AbsentTensor:
    """A tensor whose elements cannot be had, and what is known of it."""

    reason: str
    shape: tuple[int, ...] | None = None
    dtype: str | None = None


def contiguous_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides in elements of an array in C order."""
    strides = [1] * len(shape)
    for index in range(len(shape) - 2, -1, -1):
        strides[index] = strides[index + 1] * max(shape[index + 1], 1)
    return tuple(strides)


def spanned(shape: tuple[int, ...], strides: tuple[int, ...]) -> int:
    """Elements of storage from a tensor's first to its last, inclusive; 0 for an empty tensor."""
    if 0 in shape:
        return 0
    return 1 + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))


def _elements(content: bytes, dtype: str, *, is_big_endian: bool) -> NDArray[Any]:
    """Numpy has no complex32: its pairs of float16 become complex64, which holds each of them exactly."""
    flat = np.frombuffer(content, "float16" if dtype == "complex32" else _real_dtype(dtype))
    if is_big_endian != (sys.byteorder == "big"):
        flat = flat.byteswap()
    return flat.astype(np.float32).view(np.complex64) if dtype == "complex32" else flat


def _real_dtype(name: str) -> np.dtype[Any]:
    if name.startswith(_OF_ML_DTYPES):
        import ml_dtypes  # noqa: PLC0415  only where such a tensor is met

        small: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
        return small
    return np.dtype(name)


Value = TypeVar("Value")


class OnDemand(Mapping[str, Value], Generic[Value]):
    """A mapping whose values are made each time they are asked for, and not kept."""

    def __init__(self, makers: Mapping[str, Callable[[], Value]]) -> None:
        self._makers = dict(makers)

    def __getitem__(self, name: str) -> Value:
        """Make one value."""
        return self._makers[name]()

    def __iter__(self) -> Iterator[str]:
        """Names in file order."""
        return iter(self._makers)

    def __len__(self) -> int:
        """Number of values."""
        return len(self._makers)

    def __contains__(self, name: object) -> bool:
        """Whether there is such a value; makes none."""
        return name in self._makers
