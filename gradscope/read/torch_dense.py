"""Quantised and sparse tensors as the arrays they stand for, made when they are asked for.

Formulas are torch's: aten/src/ATen/native/quantized (dequantize_val), torch.sparse (compressed layouts).
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from gradscope.read.file_bytes import Malformed
from gradscope.read.numpy_pickle import checked_shape
from gradscope.read.pickle_stubs import Global, Stub
from gradscope.read.stored_tensor import ITEM_BYTES, AbsentTensor, StoredTensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Array = NDArray[Any]
    Tensor = StoredTensor | AbsentTensor

DENSE_BYTES: Final = 64 << 20
"""A sparse tensor may take as much when dense, or as much as its whole file if that is more."""
_QUANTISED: Final = {"int8": "qint8", "uint8": "quint8", "int32": "qint32"}
_BY_COLUMN: Final = ("torch.sparse_csc", "torch.sparse_bsc")


def dequantised(raw: object, parameters: object) -> Tensor:
    """The real values of a quantised tensor, float32: scale * (element - zero point).

    Raises:
        Malformed: scales do not fit the shape.
    """
    if not isinstance(raw, StoredTensor):
        assert isinstance(raw, AbsentTensor)
        return raw
    name = _QUANTISED.get(raw.dtype, raw.dtype)
    match parameters:
        case (Global(name="per_tensor_affine"), float() | int() as scale, int() as zero):
            made = lambda: _scaled(raw.array(), np.float32(scale), np.asarray(zero))  # noqa: E731
        case (
            Global(name="per_channel_affine"),
            StoredTensor() as scales,
            StoredTensor() as zeros,
            int() as axis,
        ):
            if not 0 <= axis < len(raw.shape) or {scales.shape, zeros.shape} != {(raw.shape[axis],)}:
                raise Malformed("has a quantised tensor whose scales do not fit its shape")
            places = tuple(-1 if each == axis else 1 for each in range(len(raw.shape)))
            made = lambda: _scaled(  # noqa: E731
                raw.array(), scales.array().astype("f4").reshape(places), zeros.array().reshape(places)
            )
        case _:
            reason = "is quantised in a way that is not read"
            return AbsentTensor(reason=reason, shape=raw.shape, dtype=name)
    if not raw.is_bounded:
        return AbsentTensor(reason="is a view larger than its file", shape=raw.shape, dtype=name)
    return replace(raw, dtype=name, made=made)


def _scaled(elements: Array, scale: Array | np.float32, zero: Array) -> Array:
    whole = np.int64 if zero.dtype.kind in "iu" else np.float32
    with np.errstate(over="ignore", invalid="ignore"):
        moved: Array = (elements.astype(whole) - zero.astype(whole)).astype(np.float32)
        return moved * scale


def densified(given: Sequence[object]) -> Tensor:
    """A sparse tensor with zeros wherever it says nothing; COO entries of one place are summed.

    Raises:
        Malformed: its parts are no tensors, or do not fit each other.
    """
    layout, data = given[:2]
    name = layout.arguments[0] if isinstance(layout, Stub) and isinstance(layout.arguments, tuple) else None
    is_coo = name == "torch.sparse_coo"
    parts = list(data) if isinstance(data, tuple) else []
    tensors = parts[: 2 if is_coo else 3]
    if not isinstance(name, str) or len(parts) <= len(tensors):
        raise Malformed("has a sparse tensor without its parts")
    shape = checked_shape(parts[len(tensors)])
    if not all(isinstance(each, StoredTensor) and each.is_bounded for each in tensors):
        return AbsentTensor(reason="is sparse, and a part of it cannot be read", shape=shape)
    *indices, values = [each for each in tensors if isinstance(each, StoredTensor)]
    size = math.prod(shape) * ITEM_BYTES.get(values.dtype, 4)
    if size > max(DENSE_BYTES, values.room):
        reason = f"is sparse: it would take {size} bytes when dense, its file has {values.room}"
        return AbsentTensor(reason=reason, shape=shape, dtype=values.dtype)
    if any(each.dtype not in {"int64", "int32"} for each in indices):
        raise Malformed("has a sparse tensor whose indices are no integers")
    if is_coo:
        made = _coo(indices[0], values, shape)
    elif len(shape) != 2 or len(values.shape) not in {1, 3}:  # noqa: PLR2004  rows and columns; blocks
        reason = "is a batch of compressed sparse matrices, which is not read"
        return AbsentTensor(reason=reason, shape=shape, dtype=values.dtype)
    else:
        made = _compressed(indices, values, shape, is_by_column=name in _BY_COLUMN)
    return replace(values, shape=shape, strides=None, made=made, key=f"{values.key} sparse")


def _coo(indices: StoredTensor, values: StoredTensor, shape: tuple[int, ...]) -> Any:
    depth, count = indices.shape if len(indices.shape) == 2 else (-1, -1)  # noqa: PLR2004
    if not 0 <= depth <= len(shape) or values.shape != (count, *shape[depth:]):
        raise Malformed(f"has a sparse tensor of shape {shape} whose parts do not fit")

    def made() -> Array:
        places, entries = indices.array(), values.array()
        if any(np.any((row < 0) | (row >= size)) for row, size in zip(places, shape, strict=False)):
            raise Malformed("has a sparse tensor with indices out of its shape")
        dense = np.zeros((math.prod(shape[:depth]), *shape[depth:]), entries.dtype)
        flat = np.zeros(count, np.int64)
        for row, size in zip(places, shape, strict=False):
            flat = flat * size + row
        if len(np.unique(flat)) == count:
            dense[flat] = entries
        else:
            np.add.at(dense, flat, entries)
        return dense.reshape(shape)

    return made


def _compressed(
    indices: Sequence[StoredTensor], values: StoredTensor, shape: tuple[int, ...], *, is_by_column: bool
) -> Any:
    starts, others = indices
    count, block = values.shape[0], values.shape[1:] or (1, 1)
    grid = [size // max(each, 1) for size, each in zip(shape, block, strict=True)]
    major, minor = grid[::-1] if is_by_column else grid
    fits = [each * step for each, step in zip(grid, block, strict=True)] == list(shape)
    if not fits or starts.shape != (major + 1,) or others.shape != (count,):
        raise Malformed(f"has a sparse tensor of shape {shape} whose parts do not fit")

    def made() -> Array:
        bounds, inner, entries = starts.array(), others.array(), values.array()
        steps = np.diff(bounds)
        if bounds[0] != 0 or bounds[-1] != count or np.any(steps < 0):
            raise Malformed("has a sparse tensor whose rows overlap")
        if np.any((inner < 0) | (inner >= minor)):
            raise Malformed("has a sparse tensor with indices out of its shape")
        outer = np.repeat(np.arange(major), steps)
        rows, columns = (inner, outer) if is_by_column else (outer, inner)
        dense = np.zeros((grid[0], block[0], grid[1], block[1]), entries.dtype)
        dense[rows, :, columns, :] = entries.reshape(count, *block)
        return dense.reshape(shape)

    return made
