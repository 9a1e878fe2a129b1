"""Which weights are a slice's own: those that take its columns of the observation directly."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from gradscope.records import Slice

    Array: TypeAlias = NDArray[Any]
    Booleans: TypeAlias = NDArray[np.bool_]

MATRIX: Final = 2
MOST_OTHERS: Final = 0.1
"""Share of other columns that may fall silent too: an input that is rarely not 0 may lose its only row."""
_BARS: Final = 2
"""Dimensions of an observation of several bars."""


def slice_mask(columns: Slice, shape: tuple[int, ...], sequence_length: int | None = None) -> Booleans:
    """Where a slice lies in one observation (one entry of a Dict), in all its bars: booleans of ``shape``.

    Args:
        columns: the slice; ``flat`` ones are columns of the flat observation.
        shape: of the observation, [bars, columns] or any other, which is one bar.
        sequence_length: bars of a flat observation in a plain space.
    """
    mask = np.zeros(math.prod(shape), dtype=bool)
    if columns.flat:
        mask[list(columns.columns)] = True
        return mask.reshape(shape)
    length = sequence_length if not columns.key and len(shape) == 1 else None
    num_bars = shape[0] if len(shape) == _BARS else length or 1
    mask.reshape(num_bars, -1)[:, list(columns.columns)] = True
    return mask.reshape(shape)


def own_columns(
    masks: Mapping[str, Booleans], before: Mapping[str, Booleans], silenced: Mapping[str, Booleans]
) -> dict[str, Booleans]:
    """Columns of each layer that take the slice directly; layers without any are left out.

    A layer's columns are the slice's where its width fits the observation (one bar, the whole flat
    observation, both also before or behind other inputs such as a critic's actions, or the slice alone), and
    gradients of these columns, and hardly any others, turn to exactly 0 once the slice is exactly 0.

    Args:
        masks: the slice in each entry of the observation, [bars, columns] or of its shape, False where it is
            not; in the order in which a network lays entries side by side.
        before: by layer, which columns (index 1; of a vector, elements) were ever not 0, over batches.
        silenced: the same of the same batches with the slice exactly 0.
    """
    layouts = _layouts(masks)
    found = {}
    for name, alive in before.items():
        quiet = silenced.get(name)
        if quiet is None:
            continue
        # A layer that falls silent as a whole took the slice alone, or lies behind it.
        ways = layouts if quiet.any() else [(each, False) for each, _ in layouts if each.all()]
        fits = (each for each in _fitting(ways, len(alive)) if _is_own(each, alive, quiet))
        if (own := next(fits, None)) is not None:
            found[name] = own
    return found


def _is_own(own: Booleans, alive: Booleans, quiet: Booleans) -> bool:
    if quiet[own].any():
        return False
    if not alive.any():
        # Where nothing learned before, no column can show that it did.
        return True
    others = alive & ~own
    lost = np.count_nonzero(others & ~quiet)
    return bool(alive[own].any() and lost <= MOST_OTHERS * np.count_nonzero(others))


def _fitting(layouts: Sequence[tuple[Booleans, bool]], width: int) -> Iterator[Booleans]:
    """The slice's columns among ``width`` inputs, the likeliest first."""
    for mask, takes_more in layouts:
        more = np.zeros(max(width - len(mask), 0), dtype=bool)
        if len(mask) == width:
            yield mask
        elif len(mask) < width and takes_more:
            yield np.concatenate([mask, more])
            yield np.concatenate([more, mask])


def _layouts(masks: Mapping[str, Booleans]) -> list[tuple[Booleans, bool]]:
    """Ways in which networks read an observation, widest first, and whether other inputs may stand beside."""
    parts = list(masks.values())
    found = [np.concatenate([mask.ravel() for mask in parts])]
    for mask in parts:
        if mask.any():
            found.append(mask.ravel())
            if mask.ndim == MATRIX:
                found.append(np.asarray(mask.any(axis=0)))
            if mask.ndim >= MATRIX:
                found.append(np.asarray(mask.any(axis=tuple(range(1, mask.ndim)))))
    alone = [np.ones(np.count_nonzero(mask), dtype=bool) for mask in found]
    ways = [(mask, True) for mask in found] + [(mask, False) for mask in alone]
    return sorted(ways, key=lambda each: -len(each[0]))
