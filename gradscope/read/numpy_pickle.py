"""numpy's dtype, array and scalar in pickles, rebuilt without numpy's own functions.

numpy's ``dtype.__setstate__`` lets a pickle turn bytes into pointers; the process dies.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from gradscope.read.file_bytes import Malformed
from gradscope.read.pickle_stubs import Buildable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

MAX_DIMENSIONS: Final = 32
_CODE: Final = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248]|c8|c16|[SU][0-9]{1,7})")
_MIN_STATE: Final = 5
"""Items of an array's state: version, shape, dtype, order, data."""


class DType(Buildable):
    """A dtype named by a pickle; ``real`` is None where it is not a plain one."""

    __slots__ = ("real",)

    def __init__(self, arguments: Sequence[object]) -> None:
        code = arguments[0] if arguments else None
        self.real: np.dtype[Any] | None = None
        if isinstance(code, str) and _CODE.fullmatch(code):
            self.real = np.dtype(code)

    def build(self, state: object) -> None:
        """Take the byte order; all other fields could make numpy do harm and are ignored."""
        if not isinstance(state, tuple) or len(state) < 3 or self.real is None:  # noqa: PLR2004
            return
        order, is_structured = state[1], any(part is not None for part in state[2:5])
        if is_structured or order not in {"<", ">", "|", "="}:
            self.real = None
        elif order in {"<", ">"}:
            self.real = self.real.newbyteorder(order)


class Rebuilt(Buildable):
    """An array of a pickle; ``array`` is None where its content is not plain numbers or text."""

    __slots__ = ("array",)

    def __init__(self, array: NDArray[Any] | None = None) -> None:
        self.array = array

    @property
    def num_bytes(self) -> int:
        """Of its array."""
        return 0 if self.array is None else self.array.nbytes

    def build(self, state: object) -> None:
        """Take shape, dtype and bytes."""
        if not isinstance(state, tuple) or len(state) < _MIN_STATE:
            raise Malformed("has an array without a state")
        _, shape, dtype, is_fortran, data = state[:_MIN_STATE]
        self.array = array_from(data, dtype, shape, "F" if is_fortran else "C")


def as_array(value: object) -> NDArray[Any] | None:
    """The array that a value of an unpickled file stands for; None where it stands for none."""
    return value.array if isinstance(value, Rebuilt) else None


def array_from(data: object, dtype: object, shape: object, order: object) -> NDArray[Any] | None:
    """A read-only view of ``data``; None where the dtype is not a plain one (objects, records).

    Raises:
        Malformed: shape and bytes do not fit together.
    """
    if not isinstance(dtype, DType):
        raise Malformed("has an array without a dtype")
    if dtype.real is None or not isinstance(data, (bytes, memoryview)):
        return None
    sizes = checked_shape(shape)
    if math.prod(sizes) * dtype.real.itemsize != len(data) or not dtype.real.itemsize:
        raise Malformed(f"has an array of shape {sizes} in {len(data)} bytes")
    if order not in {"C", "F"}:
        raise Malformed("has an array of unknown order")
    flat = np.frombuffer(data, dtype.real) if len(data) else np.empty(0, dtype.real)
    return flat.reshape(sizes, order="F" if order == "F" else "C")


def checked_shape(shape: object) -> tuple[int, ...]:
    """A tuple of sizes.

    Raises:
        Malformed: it is something else.
    """
    sizes = tuple(shape) if isinstance(shape, (tuple, list)) and len(shape) <= MAX_DIMENSIONS else None
    if sizes is None or not all(type(size) is int and 0 <= size < 1 << 62 for size in sizes):
        raise Malformed("has an array whose shape is no shape")
    return sizes


def _from_buffer(arguments: Sequence[object]) -> Rebuilt:
    data, dtype, shape, order, *axes = arguments
    if order != "K" or not axes or axes[0] is None:
        return Rebuilt(array_from(data, dtype, shape, order))
    # numpy 2.3 and later write transposed arrays (images that were turned) as they lie in memory.
    array = array_from(data, dtype, shape, "C")
    places = checked_shape(axes[0])
    if array is not None and sorted(places) != list(range(array.ndim)):
        raise Malformed("has an array whose axes are no axes")
    return Rebuilt(None if array is None else array.transpose(places))


def _empty(_: Sequence[object]) -> Rebuilt:
    return Rebuilt()


def _scalar(arguments: Sequence[object]) -> object:
    dtype, data = arguments
    array = array_from(data, dtype, (), "C")
    return None if array is None else array.item()


def _table() -> Mapping[tuple[str, str], Callable[[Sequence[object]], object]]:
    names: dict[tuple[str, str], Callable[[Sequence[object]], object]] = {("numpy", "dtype"): DType}
    for core in ("numpy._core", "numpy.core"):
        names[core + ".numeric", "_frombuffer"] = _from_buffer
        names[core + ".multiarray", "_reconstruct"] = _empty
        names[core + ".multiarray", "scalar"] = _scalar
    return names


NUMPY_TABLE: Final = _table()
"""Calls that rebuild arrays; numpy 1 says ``numpy.core``, numpy 2 ``numpy._core``."""
