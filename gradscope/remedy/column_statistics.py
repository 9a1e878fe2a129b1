"""Statistics of columns that hold many exact zeros, without a branch on data, for torch.compile."""

from __future__ import annotations

from typing import NamedTuple

import torch


class Moments(NamedTuple):
    """Of one batch, each [columns]; 0 where no row counts. A tuple, which torch.compile can trace."""

    num_rows: torch.Tensor
    mean: torch.Tensor
    var: torch.Tensor
    active_fraction: torch.Tensor
    num_active: torch.Tensor
    mean_square: torch.Tensor


def batch_moments(values: torch.Tensor) -> Moments:
    """Moments of [rows, columns], column by column, over the rows that can be squared.

    NaN and infinities count nowhere, nor do numbers so large that the sum of a trillion squares overflows
    (1e148 in float64, 2e13 in float32). The variance takes a second pass, which does not cancel.
    """
    largest = 1e-6 * torch.finfo(values.dtype).max ** 0.5
    is_usable = values.abs() < largest
    usable = values.where(is_usable, 0.0)
    num_rows = is_usable.sum(0).to(values.dtype)
    num_active = (usable != 0).sum(0).to(values.dtype)
    mean = usable.sum(0) / num_rows.clamp_min(1)
    away = (usable - mean).where(is_usable, 0.0)
    return Moments(
        num_rows=num_rows,
        mean=mean,
        var=away.square().sum(0) / num_rows.clamp_min(1),
        active_fraction=num_active / num_rows.clamp_min(1),
        num_active=num_active,
        mean_square=usable.square().sum(0) / num_active.clamp_min(1),
    )


def num_after(
    num_before: torch.Tensor, num_new: torch.Tensor, *, momentum: float | None, freeze_after: int | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows that count after a batch, and the batch's weight among them, 0..1; both [columns].

    With momentum m what was known before counts (1 - m) times: equal batches end up with weight m as in
    batch norm, and the first one has weight 1. A column that met no new row forgets nothing.
    """
    if freeze_after is not None:
        num_new = num_new.where(num_before < freeze_after, 0.0)
    kept = num_before if momentum is None else num_before.where(num_new == 0, num_before * (1 - momentum))
    total = kept + num_new
    return total, num_new / total.clamp_min(1)


def pooled(
    square: torch.Tensor, weight: torch.Tensor, slice_of: torch.Tensor, num_slices: int
) -> torch.Tensor:
    """Weighted mean of ``square`` over each slice, given back to each of its columns; 0 without weight."""
    zeros = square.new_zeros(num_slices)
    sums = zeros.index_add(0, slice_of, square * weight)
    weights = zeros.index_add(0, slice_of, weight)
    return (sums / weights.where(weights > 0, 1.0))[slice_of]
