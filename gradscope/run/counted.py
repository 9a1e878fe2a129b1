"""Gradients of one moment, counted batch by batch, whatever their origin."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gradscope.measure import mean, unexpected_fraction, zero_count
from gradscope.records import Clipping

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from gradscope.records import ZeroCount
    from gradscope.run.activity import Activity
    from gradscope.run.inputs import Array


@dataclass(frozen=True, kw_only=True)
class LayerCounts:
    """Zeros of one layer, one count a batch."""

    counts: Sequence[ZeroCount]
    baseline_zero_fraction: float | None
    sample: Array | None = None
    """The first batch's gradient, to compare the optimizer's memory with."""
    reasons: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Counted:
    """What was recomputed for one snapshot."""

    layers: Mapping[str, LayerCounts]
    layer_reasons: Mapping[str, str]
    """Layers that got no gradient, and why."""
    num_batches: int
    batch_size: int | None
    seed: int
    norm: float | None
    """Of all layers together, mean over batches."""
    clipping: Clipping
    activity: Activity | None
    """Of the batches' own rows; None where their resting values are not known."""
    reasons: Mapping[str, str] = field(default_factory=dict)


@dataclass(kw_only=True)
class Tally:
    """Counts of layers over batches, filled batch by batch."""

    tolerance: float
    modules: Mapping[str, str]
    counts: dict[str, list[ZeroCount]] = field(default_factory=dict)
    norms: list[float | None] = field(default_factory=list)
    samples: dict[str, Array] = field(default_factory=dict)
    """The first batch's gradients; no other is kept."""

    def add(self, gradients: Iterable[tuple[str, Array]]) -> None:
        """Count one batch."""
        norms = []
        for name, gradient in gradients:
            count = zero_count(gradient, name=name, module=self.modules.get(name), tolerance=self.tolerance)
            self.counts.setdefault(name, []).append(count)
            self.samples.setdefault(name, gradient)
            norms.append(count.norm)
        known = [each for each in norms if each is not None]
        self.norms.append(math.hypot(*known) if known else None)

    def norm(self) -> float | None:
        """Of all layers together, mean over batches."""
        return mean(self.norms)

    def unexpected(self, name: str) -> float | None:
        """Mean share of zeros without the expected ones; None where nothing could be judged."""
        return mean([unexpected_fraction(each) for each in self.counts.get(name, ())])


def mean_clipping(clippings: Sequence[Clipping]) -> Clipping:
    """Means over batches; a value that one batch lacks stays unknown, with that batch's reason."""
    reasons = {key: reason for each in clippings for key, reason in each.reasons.items()}
    means: dict[str, float | None] = {}
    for key in ("norm_before_clip", "clip_coefficient"):
        values = [getattr(each, key) for each in clippings]
        means[key] = None if None in values else mean(values)
    return Clipping(reasons={key: reasons[key] for key in reasons if means.get(key) is None}, **means)
