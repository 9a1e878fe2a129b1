"""Which columns of an observation are a slice's, counted in the flattened observation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradscope.records import Slice

_NUM_BAR_DIMENSIONS: Final = 2


@dataclass(frozen=True, kw_only=True)
class SliceColumns:
    """Columns of the flattened observation (those of its newest bar), and what they are called."""

    key: str
    columns: tuple[int, ...]
    names: tuple[str, ...] | None


def flat_columns(
    chosen: Slice,
    shape: tuple[int, ...],
    *,
    sequence_length: int | None = None,
    feature_names: Sequence[str] | None = None,
) -> SliceColumns:
    """A slice's columns where a flattened observation of ``shape`` has them.

    Args:
        chosen: as ``measure.resolve_slices`` made it.
        shape: of one observation (entry ``chosen.key``), without the row axis.
        sequence_length: bars of a flat observation, oldest first.
        feature_names: names of one bar's columns, of a plain space.
    """
    size = math.prod(shape)
    bars = shape[0] if len(shape) == _NUM_BAR_DIMENSIONS else 1
    if len(shape) == 1 and not chosen.key and sequence_length:
        bars = sequence_length
    width = size // bars
    offset = 0 if chosen.flat else size - width
    names = None if feature_names is None or chosen.key else feature_names
    return SliceColumns(
        key=chosen.key,
        columns=tuple(offset + column for column in chosen.columns),
        names=None if names is None else tuple(names[column % width] for column in chosen.columns),
    )
