"""Which columns of a tensor are which layer's units: behind them lie the next layer's weights."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SAME_SHAPE: Final = frozenset(
    {
        *("batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm"),
        *("dropout", "dropout1d", "dropout2d", "dropout3d", "feature_dropout", "alpha_dropout"),
        *("contiguous", "clone", "to", "float", "double", "half", "bfloat16", "cpu", "type"),
    }
)
"""Each unit stays where it was."""
_POOLING: Final = frozenset(
    {
        *("max_pool1d", "max_pool2d", "max_pool3d", "_max_pool1d", "_max_pool2d", "_max_pool3d"),
        *("avg_pool1d", "avg_pool2d", "avg_pool3d"),
        *("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d"),
    }
)
"""Channels stay, positions become fewer."""
_FLATTENING: Final = frozenset({"flatten", "view", "reshape"})
_JOINING: Final = frozenset({"cat", "concat", "concatenate"})
_MATRIX: Final = 2


@dataclass(frozen=True, kw_only=True)
class Span:
    """Neighbouring columns that come from one layer: of these, unit i's are ``[:, i, :]``."""

    layer: str
    start: int
    before: int
    num_units: int
    after: int

    @property
    def width(self) -> int:
        """Columns."""
        return self.before * self.num_units * self.after

    def columns(self, weight: torch.Tensor) -> torch.Tensor:
        """Of a layer that takes these columns, [out, in, ...]: its weights [out, before, units, after]."""
        part = weight[:, self.start : self.start + self.width]
        return part.reshape(len(weight), self.before, self.num_units, -1)


@dataclass(frozen=True, kw_only=True)
class Flow:
    """Where units are in a tensor."""

    axis: int
    """Of the columns, counted from the end."""
    spans: tuple[Span, ...]


def layer_flow(layer: str, num_units: int, axis: int) -> Flow:
    """Of a layer's own outputs."""
    return Flow(axis=axis, spans=(Span(layer=layer, start=0, before=1, num_units=num_units, after=1),))


def is_kept(function: str) -> bool:
    """Whether a function leaves units where they are."""
    return function in _SAME_SHAPE or function in _POOLING


def behind(function: str, before: torch.Tensor, flow: Flow, after: Any) -> Flow | None:
    """Where units are after a call with one tensor; None where that is not known."""
    if not isinstance(after, torch.Tensor):
        return None
    is_pooled = function in _POOLING and before.dim() == after.dim()
    if is_pooled or before.shape == after.shape:
        return flow if is_kept(function) or function in _FLATTENING else None
    if function not in _FLATTENING or after.dim() != _MATRIX or len(before) != len(after):
        return None
    return _flattened(before, flow)


def _flattened(before: torch.Tensor, flow: Flow) -> Flow | None:
    """[rows, ..., units, ...] becomes [rows, columns]."""
    place = flow.axis % before.dim()
    if len(flow.spans) != 1 or flow.spans[0].num_units != before.shape[place] or not place:
        return None
    shape = before.shape
    span = replace(flow.spans[0], before=math.prod(shape[1:place]), after=math.prod(shape[place + 1 :]))
    return Flow(axis=-1, spans=(span,))


def joined(
    function: str,
    parts: Sequence[torch.Tensor],
    flows: Mapping[int, Flow],
    after: torch.Tensor,
    axis: int,
) -> Flow | None:
    """Where units are in tensors that were joined; None where they were not side by side.

    Args:
        function: that was called.
        parts: tensors it joined.
        flows: of some of them, by their place.
        after: what it gave.
        axis: along which.
    """
    axis = axis - after.dim() if axis >= 0 else axis
    if function not in _JOINING or any(each.axis != axis for each in flows.values()):
        return None
    spans: list[Span] = []
    start = 0
    for place, part in enumerate(parts):
        if place in flows:
            spans += [replace(span, start=start + span.start) for span in flows[place].spans]
        start += part.shape[axis]
    return Flow(axis=axis, spans=tuple(spans))
