"""Which whole rows and columns of a gradient are zero, and how its zeros divide by kind."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from gradscope.measure.layer_facts import block_names, is_gated, is_swapped
from gradscope.records import ZeroAnatomy

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gradscope.measure.layer_facts import LayerFacts

    Array: TypeAlias = NDArray[Any]
    Flags: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, eq=False)
class ZeroLines:
    """Units and inputs of one gradient that are zero as a whole; those expected to be are not among them."""

    units: Flags
    """[units]; in one-dimensional parameters [elements]."""
    inputs: Flags | None
    """[inputs]; None in one-dimensional parameters."""
    blocks: tuple[str, ...] = ()
    """Stacked parts that are zero as a whole: query, forget gate, ..."""
    num_dust: int | None = None
    """Expected elements with rounding above the tolerance; None where none is, or all are expected."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RawLines:
    """Index 0 (rows) and index 1 (columns) as they lie in the file, expected elements taken for zeros."""

    rows: Flags
    columns: Flags
    num_zero: int
    num_expected_zero: int
    expected: Flags | None
    """Places, of the gradient's shape."""


def zero_lines(
    gradient: Array, name: str, facts: LayerFacts, raw: RawLines, num_dust: int | None
) -> ZeroLines:
    """Dead units and inputs: the raw rows and columns, turned and stacked as the layer's type says."""
    rows, columns = _with_something(raw, gradient)
    blocks = block_names(gradient, name, facts)
    height = len(raw.rows) // max(1, len(blocks))
    stacked = raw.rows[: height * max(1, len(blocks))].reshape(max(1, len(blocks)), height)
    dead = tuple(block for block, flags in zip(blocks, stacked, strict=False) if flags.all() and height)
    if blocks and is_gated(name):
        rows = np.all(stacked, axis=0) & np.any(rows.reshape(stacked.shape), axis=0)
    if gradient.ndim < 2:  # noqa: PLR2004 - a vector has no columns
        return ZeroLines(units=rows, inputs=None, blocks=_free(dead, raw), num_dust=num_dust)
    if is_swapped(gradient, facts):
        return ZeroLines(units=columns, inputs=rows)
    return ZeroLines(units=rows, inputs=columns, blocks=dead)


def zero_anatomy(gradient: Array, name: str, facts: LayerFacts, raw: RawLines) -> ZeroAnatomy:
    """Each zero once: expected, whole layer, dead input, dead unit, scattered; they add up to num_zero."""
    expected = raw.num_expected_zero
    num_free = gradient.size - (0 if raw.expected is None else int(np.count_nonzero(raw.expected)))
    free_zeros = raw.num_zero - expected
    if free_zeros == num_free:
        return ZeroAnatomy(expected=expected, whole_layer=free_zeros)
    if gradient.ndim < 2:  # noqa: PLR2004 - a vector has no columns
        return ZeroAnatomy(expected=expected, dead_unit=free_zeros)
    rows, columns = _with_something(raw, gradient)
    axis = 0 if is_swapped(gradient, facts) else 1
    units = columns if axis == 0 else _whole_units(gradient, name, facts, rows, raw.rows)
    inputs = rows if axis == 0 else columns
    dead_input = _num_free(gradient.shape, raw.expected, axis, inputs)
    dead_unit = _num_free(gradient.shape, raw.expected, 1 - axis, units) - _num_free_both(
        gradient.shape, raw.expected, axis, inputs, units
    )
    return ZeroAnatomy(
        expected=expected,
        dead_input=dead_input,
        dead_unit=dead_unit,
        scattered=free_zeros - dead_input - dead_unit,
    )


def _whole_units(gradient: Array, name: str, facts: LayerFacts, rows: Flags, raw_rows: Flags) -> Flags:
    """Rows of the units that are dead; of gated units only where every gate's row is."""
    blocks = block_names(gradient, name, facts)
    if not blocks or not is_gated(name):
        return rows
    return np.tile(raw_rows.reshape(len(blocks), -1).all(axis=0), len(blocks))


def _with_something(raw: RawLines, gradient: Array) -> tuple[Flags, Flags]:
    """Zero rows and columns that hold at least one element which is not expected to be zero."""
    if raw.expected is None:
        return raw.rows, raw.columns
    if gradient.ndim < 2:  # noqa: PLR2004 - a vector has no columns
        return raw.rows & ~raw.expected.reshape(-1), raw.columns
    kernel = tuple(range(2, gradient.ndim))
    free_rows = ~raw.expected.all(axis=(1, *kernel))
    free_columns = ~raw.expected.all(axis=(0, *kernel))
    return raw.rows & free_rows, raw.columns & free_columns


def _free(blocks: tuple[str, ...], raw: RawLines) -> tuple[str, ...]:
    """Zero blocks that are not the expected one: the key third of a bias."""
    return blocks if raw.expected is None else tuple(each for each in blocks if each != "key")


def _num_free(shape: tuple[int, ...], expected: Flags | None, axis: int, lines: Flags) -> int:
    """Elements of these lines along ``axis`` that are not expected to be zero."""
    count = int(np.count_nonzero(lines)) * (math.prod(shape) // max(1, shape[axis]))
    if expected is None or not count:
        return count
    return count - int(np.count_nonzero(expected.compress(lines, axis=axis)))


def _num_free_both(
    shape: tuple[int, ...], expected: Flags | None, axis: int, inputs: Flags, units: Flags
) -> int:
    """Elements that belong to a dead input and to a dead unit, and are not expected to be zero."""
    kernel = math.prod(shape[2:])
    count = int(np.count_nonzero(inputs)) * int(np.count_nonzero(units)) * kernel
    if expected is None or not count:
        return count
    both = expected.compress(inputs, axis=axis).compress(units, axis=1 - axis)
    return count - int(np.count_nonzero(both))
