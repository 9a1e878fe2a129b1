"""InputLayerNorm: a layer norm of each slice of an observation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

from gradscope.errors import UsageError
from gradscope.remedy.columns import by_bar, checked_sequence_length, slice_columns, wide_type

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradscope.remedy.columns import Columns


class InputLayerNorm(nn.Module):
    """Layer norm (Ba et al., arXiv 1607.06450) over the columns of each slice in each bar.

    Helps: it cured the case, and is the most robust remedy in Lyle et al. (arXiv 2402.18762). It has no
    running statistics: nothing to warm up, freeze or copy, training and evaluation are the same.

    Cannot help:

    - With ``slices=None`` one norm runs over the whole bar, and that does **not** cure a run in which one
      column dominates the bar: the norm divides every column by that one's size, so the market part
      shrinks towards 0 as soon as the position is open. Give the slices.
    - The same holds within a slice: its largest column decides.
    - How large a slice is as a whole is lost: a profit of 1 and one of 1000 look alike. Where that
      matters, use ``SliceNormalizer``.
    - A slice smaller than about sqrt(eps) = 0.003 stays small; multiply it first.
    - Units that died already stay dead (see ``recycle_dead_units``).

    A slice at rest (all 0) becomes the bias, 0 in a fresh layer.

    Args:
        num_features: columns of one bar.
        slices: slice name to its columns of one bar; columns in none are a slice of their own. None: one
            norm over the whole bar.
        sequence_length: bars of a flat observation [..., bars * features], oldest first. None: the last
            axis is one bar.
        eps: added to the variance.
        affine: learn a weight (1 at first) and a bias (0) per column: ``weight``, ``bias`` [num_features].

    Raises:
        UsageError: columns are wrong, or a slice has one column only: its layer norm is always 0.
    """

    weight: nn.Parameter | None
    bias: nn.Parameter | None
    order: torch.Tensor
    place_of: torch.Tensor

    def __init__(
        self,
        num_features: int,
        slices: Mapping[str, Columns] | None = None,
        *,
        sequence_length: int | None = None,
        eps: float = 1e-5,
        affine: bool = True,
    ) -> None:
        super().__init__()
        self.num_features, self.eps = num_features, eps
        self.sequence_length = checked_sequence_length(sequence_length)
        self.slices = slice_columns(slices or {}, num_features)
        for name, columns in self.slices.items():
            if len(columns) == 1:
                message = (
                    f"slice {name!r}: the layer norm of a single column is always 0. "
                    "Join it to another slice, or use SliceNormalizer."
                )
                raise UsageError(message)
        order = torch.tensor([column for columns in self.slices.values() for column in columns])
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("place_of", order.argsort(), persistent=False)
        self.register_parameter("weight", nn.Parameter(torch.ones(num_features)) if affine else None)
        self.register_parameter("bias", nn.Parameter(torch.zeros(num_features)) if affine else None)

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """Same shape and type as ``observations`` (float32 for integers); NaN stays within its slice.

        Raises:
            UsageError: the last axis is not as wide as was said.
        """
        bars = by_bar(observations, self.num_features, self.sequence_length)
        # Squares of float16 values above 256 overflow.
        ordered = bars.to(wide_type(bars.dtype)).index_select(-1, self.order)
        parts = ordered.split_with_sizes([len(columns) for columns in self.slices.values()], dim=-1)
        normal = [functional.layer_norm(part, part.shape[-1:], eps=self.eps) for part in parts]
        joined = torch.cat(normal, dim=-1).index_select(-1, self.place_of)
        if self.weight is not None and self.bias is not None:
            joined = joined * self.weight + self.bias
        kept = bars.dtype if bars.is_floating_point() else joined.dtype
        return joined.to(kept).reshape(observations.shape)

    def extra_repr(self) -> str:
        """The slices, as torch prints a module."""
        counts = ", ".join(f"{name}={len(columns)}" for name, columns in self.slices.items())
        affine = self.weight is not None
        return f"{self.num_features}, {counts}, sequence_length={self.sequence_length}, affine={affine}"
