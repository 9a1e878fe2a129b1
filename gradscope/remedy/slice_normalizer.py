"""SliceNormalizer: each slice of an observation by its own statistics, so that neither drowns the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import torch
from torch import nn

from gradscope.errors import UsageError
from gradscope.remedy.column_statistics import batch_moments, num_after, pooled
from gradscope.remedy.columns import (
    REST,
    SECOND_REST,
    by_bar,
    checked_sequence_length,
    slice_columns,
    wide_type,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from gradscope.remedy.columns import Columns

POSITION: Final = "position"
POSITION_MIX: Final = 0.1
"""The case's first fix: the position part is mixed in with a tenth of its size."""
CLIP: Final = 10.0
"""As VecNormalize's ``clip_obs``, in the units of the normalised value."""
FLAT_FRACTION: Final = 0.5
"""A column away from 0 in at most this share of rows rests at 0, and is not centered."""


class SliceNormalizer(nn.Module):
    """Normalises each column by running statistics of its own; what rests at 0 stays exactly 0.

    A column that rests at 0 most of the time (a closed position) is divided by the root mean square of its
    **active** rows and not centered. A mean over all rows would move its rest away from 0, where its gradient
    column is a copy of the bias gradient, and a deviation over all rows would make a rare value an outlier:
    active in 1 % of rows is 10 deviations, in 0.1 % it is 31.6 (SCIENCE sections 2 and 5; wanted in SB3
    PR#631). Columns of ``centered`` slices that are alive most of the time become (x - mean) / deviation.
    Then values are clipped and each slice is multiplied by its ``mix``.

    Helps: against a scale mismatch in the first layer's input, and a slice that wakes up at values the
    layer never saw. In training mode the statistics take in a batch before it is normalised, so no
    gradient is computed on values of an unknown scale.

    Cannot help: behind VecNormalize, which centers every column, so that nothing rests at 0 (use
    ``norm_obs=False``); where units died already (see ``recycle_dead_units``); where the first batch with
    an active slice is met in evaluation mode: it is only clipped. The statistics move while training, so
    PPO's ratio starts a little away from 1; ``freeze_after`` stops that. Stable-Baselines3 copies buffers
    called ``running_`` to target networks at their updates only: DQN's target normalises by statistics
    up to ``target_update_interval`` steps old, and only ``clip`` keeps a slice that woke up in between
    small there. Under DistributedDataParallel the statistics are the first process's. A column near half
    active in a ``centered`` slice jumps as it becomes centered.

    Args:
        num_features: columns of one bar.
        slices: slice name to its columns of one bar; columns in none are ``market`` (``other`` where that
            name is taken).
        sequence_length: bars of a flat observation [..., bars * features], oldest first. None: the last
            axis is one bar, as in [rows, features] and [rows, bars, features]; each bar counts as a row.
        mix: slice name to factor; 0.1 for ``position`` and 1 for all others where None.
        centered: slices whose live columns are centered; None: ``market`` and ``other``.
        per: "column", or "slice" for one common spread of all columns in a slice.
        momentum: share of the newest batch in the running statistics in the long run, as in batch norm.
            None: every row counts the same.
        freeze_after: rows (for the spread of a resting column: active rows) after which a column's
            statistics move no more; None: never.
        clip: largest size of a normalised value before ``mix``; None: none. NaN stays NaN.
        eps: columns with a smaller spread are not scaled (relative to the mean, where that is above 1).
        dtype: of the statistics; float32 for devices without float64.

    Buffers ``running_*`` are [num_features]. Rows that are not finite, or too large to be squared in
    ``dtype``, count in no statistic.

    Raises:
        UsageError: an argument is out of range, or names no slice.
    """

    running_num_rows: torch.Tensor
    """Finite rows; a float, as Stable-Baselines3 cannot copy integers to target networks."""
    running_mean: torch.Tensor
    running_var: torch.Tensor
    """About the mean, over all finite rows."""
    running_active_fraction: torch.Tensor
    """Share of finite rows that are not 0."""
    running_num_active: torch.Tensor
    running_mean_square: torch.Tensor
    """Over active rows."""
    mix: torch.Tensor
    may_center: torch.Tensor
    slice_of: torch.Tensor

    def __init__(
        self,
        num_features: int,
        slices: Mapping[str, Columns],
        *,
        sequence_length: int | None = None,
        mix: Mapping[str, float] | None = None,
        centered: Collection[str] | None = None,
        per: Literal["column", "slice"] = "column",
        momentum: float | None = None,
        freeze_after: int | None = None,
        clip: float | None = CLIP,
        eps: float = 1e-8,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__()
        _check_numbers(momentum, freeze_after, clip, eps)
        if per not in {"column", "slice"}:
            raise UsageError(f"per={per!r}: unknown. It is 'column' or 'slice'.")
        self.num_features = num_features
        self.sequence_length = checked_sequence_length(sequence_length)
        self.slices = slice_columns(slices, num_features)
        self.per, self.momentum, self.freeze_after = per, momentum, freeze_after
        self.clip, self.eps = clip, eps
        self._register_choices(mix, centered)
        for name in ("num_rows", "mean", "var", "active_fraction", "num_active", "mean_square"):
            self.register_buffer(f"running_{name}", torch.zeros(num_features, dtype=dtype))

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """Same shape and type as ``observations`` (float32 for integers).

        Raises:
            UsageError: the last axis is not as wide as was said.
        """
        bars = by_bar(observations, self.num_features, self.sequence_length)
        if self.training:
            with torch.no_grad():
                self._take_in(bars.detach())
        wide = wide_type(bars.dtype)
        center, scale = self._center_and_scale()
        normal = (bars.to(wide) - center.to(wide)) * scale.to(wide)
        if self.clip is not None:
            normal = normal.clamp(-self.clip, self.clip)
        normal = (normal * self.mix.to(wide)).to(bars.dtype if bars.is_floating_point() else wide)
        return normal.reshape(observations.shape)

    def extra_repr(self) -> str:
        """The slices and how each is treated, as torch prints a module."""
        counts = ", ".join(f"{name}={len(columns)}" for name, columns in self.slices.items())
        return f"{self.num_features}, {counts}, sequence_length={self.sequence_length}, per={self.per}"

    def _register_choices(self, mix: Mapping[str, float] | None, centered: Collection[str] | None) -> None:
        mixed = {POSITION: POSITION_MIX} if mix is None else mix
        centers = {REST, SECOND_REST} if centered is None else set(centered)
        for name in {*(mix or {}), *(centered or ())} - set(self.slices):
            raise UsageError(f"{name!r}: no such slice. There are {', '.join(map(repr, self.slices))}.")
        names = {column: name for name, columns in self.slices.items() for column in columns}
        owners = [names[column] for column in range(self.num_features)]
        # Not persistent: they are in the constructor's arguments, and a state dict must not overrule them.
        choices: Mapping[str, Sequence[float | bool | int]] = {
            "mix": [float(mixed.get(name, 1.0)) for name in owners],
            "may_center": [name in centers for name in owners],
            "slice_of": [list(self.slices).index(name) for name in owners],
        }
        for name, values in choices.items():
            self.register_buffer(name, torch.tensor(values), persistent=False)

    def _take_in(self, bars: torch.Tensor) -> None:
        values = bars.reshape(-1, self.num_features).to(self.running_mean.dtype)
        batch = batch_moments(values)
        num_rows, rows_weight = num_after(
            self.running_num_rows, batch.num_rows, momentum=self.momentum, freeze_after=self.freeze_after
        )
        num_active, active_weight = num_after(
            self.running_num_active, batch.num_active, momentum=self.momentum, freeze_after=self.freeze_after
        )
        # Chan, Golub and LeVeque (1983): two groups' variances are joined without cancellation.
        change = batch.mean - self.running_mean
        spread = change.square() * rows_weight * (1 - rows_weight)
        # In place: Stable-Baselines3 keeps references to these tensors.
        self.running_var.add_((batch.var - self.running_var) * rows_weight + spread)
        self.running_mean.add_(change * rows_weight)
        self.running_active_fraction.add_(
            (batch.active_fraction - self.running_active_fraction) * rows_weight
        )
        self.running_mean_square.add_((batch.mean_square - self.running_mean_square) * active_weight)
        self.running_num_rows.copy_(num_rows)
        self.running_num_active.copy_(num_active)

    def _center_and_scale(self) -> tuple[torch.Tensor, torch.Tensor]:
        """What is subtracted and then multiplied, [num_features]; 0 and 1 for columns never seen."""
        centers = self.may_center & (self.running_active_fraction > FLAT_FRACTION)
        center = self.running_mean.where(centers, 0.0)
        square = self.running_var.where(centers, self.running_mean_square)
        if self.per == "slice":
            weight = self.running_num_rows.where(centers, self.running_num_active)
            square = pooled(square, weight, self.slice_of, len(self.slices))
        spread = square.sqrt()
        # A constant column has only rounding to divide by.
        is_spread = spread > self.eps * center.abs().clamp_min(1)
        return center, spread.where(is_spread, 1.0).reciprocal()


def _check_numbers(momentum: float | None, freeze_after: int | None, clip: float | None, eps: float) -> None:
    if momentum is not None and not 0 < momentum <= 1:
        raise UsageError(f"momentum={momentum}: not within 0..1. Leave it out to count every row the same.")
    if momentum is not None and freeze_after is not None:
        raise UsageError("momentum and freeze_after: with momentum rows are forgotten. Give one of them.")
    if freeze_after is not None and freeze_after < 1:
        raise UsageError(f"freeze_after={freeze_after}: at least 1 row. Leave it out to go on for ever.")
    if (clip is not None and not clip > 0) or not eps >= 0:
        raise UsageError(f"clip={clip}, eps={eps}: clip must be above 0, eps not below. Leave them out.")
