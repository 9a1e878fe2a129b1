"""Population stability index that holds for columns which rest most of the time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]

NUM_QUANTILES: Final = 10
"""Bins beside the resting value: the usual deciles."""
SMOOTHING: Final = 0.5
"""Added to each bin's count (Jeffreys), so that an empty bin gives a finite index."""


def stability_index(reference: Floats, current: Floats, resting: Floats) -> Floats:
    """PSI = sum over bins of (q - p) ln(q / p), p and q the reference's and the current shares.

    Bins fit for columns that rest most of the time: the resting value alone, and the deciles of the
    reference's other values, the outer two open. Bins empty on both sides do not exist; shares are
    ``(count + 1/2) / (n + bins / 2)``.

    Args:
        reference: [columns, rows], NaN left out.
        current: the same columns, [columns, rows].
        resting: [columns].

    Returns:
        [columns]; NaN where either side has no value.
    """
    num_reference, num_current = np.isfinite(reference).sum(axis=1), np.isfinite(current).sum(axis=1)
    edges = _edges(reference, resting)
    p = _bin_counts(reference, resting, edges)
    q = _bin_counts(current, resting, edges)
    used = (p + q) > 0
    smoothing = SMOOTHING * used.sum(axis=0)
    p = (p + SMOOTHING) / (num_reference + smoothing)
    q = (q + SMOOTHING) / (num_current + smoothing)
    index = np.where(used, (q - p) * np.log(q / p), 0).sum(axis=0)
    return np.where((num_reference > 0) & (num_current > 0), index, np.nan)


def _edges(reference: Floats, resting: Floats) -> Floats:
    """Inner deciles of the values away from rest, [9, columns]; the resting value where there are none."""
    away = np.sort(np.where(reference == resting[:, None], np.nan, reference), axis=1)
    number = np.isfinite(away).sum(axis=1)
    places = np.arange(1, NUM_QUANTILES)[:, None] * number // NUM_QUANTILES
    if not away.shape[1]:
        return np.tile(resting, (NUM_QUANTILES - 1, 1))
    edges = np.take_along_axis(away.T, (places - 1).clip(min=0), axis=0)
    return np.where(number > 0, edges, resting)


def _bin_counts(values: Floats, resting: Floats, edges: Floats) -> Floats:
    """Values per bin, [1 + 10, columns]: at rest, then between the edges."""
    at_rest = (values == resting[:, None]).sum(axis=1)
    below = [(values <= edge[:, None]).sum(axis=1) - at_rest * (resting <= edge) for edge in edges]
    total = np.isfinite(values).sum(axis=1) - at_rest
    return np.stack([at_rest, *np.diff([np.zeros_like(total), *below, total], axis=0)]).astype(np.float64)
