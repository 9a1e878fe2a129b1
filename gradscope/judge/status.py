"""Zero fractions against limits: the status of layers and snapshots, and who crossed first."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

from gradscope.records import ALL_LAYERS, Crossing, LayerGradient, SnapshotGradient, Status
from gradscope.settings import BASELINE_MARGIN, SMALL_LAYER_SHARE, Limits, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LIMIT_NAMES: Final = (Status.COLLAPSE, Status.CRITICAL, Status.WARN)
"""The limits, worst first."""
_ROUNDING: Final = 1e-12
"""0.25 - 0.20 is 0.04999... in floats and must still count as 0.05; far below one element's share."""


def layer_status(
    zero_fraction_without_expected: float | None, baseline: float | None, limits: Limits
) -> Status:
    """Worst limit that the fraction reaches while it exceeds the baseline by 0.05; else ok.

    Args:
        zero_fraction_without_expected: 0..1; None gives unknown.
        baseline: the same fraction of a fresh network, or None where it is not known.
        limits: of this layer.
    """
    if zero_fraction_without_expected is None:
        return Status.UNKNOWN
    for limit in LIMIT_NAMES:
        if _reaches(zero_fraction_without_expected, baseline, _limit(limits, limit)):
            return limit
    return Status.OK


def snapshot_status(layers: Sequence[LayerGradient]) -> Status:
    """Worst status of the layers that hold at least 1 % of the elements that have a gradient.

    Where every layer is smaller than that (hundreds of equal ones), all of them decide. Unknown is
    never ok: one such layer that is unknown leaves a snapshot without a worse one unknown, and so does
    no layer at all.
    """
    statuses = [layer.status for layer in deciding_layers(layers)]
    worst = max(statuses, key=lambda status: status.rank, default=Status.UNKNOWN)
    is_clouded = worst is Status.OK and Status.UNKNOWN in statuses
    return Status.UNKNOWN if is_clouded else worst


def deciding_layers(layers: Sequence[LayerGradient]) -> list[LayerGradient]:
    """Layers with a gradient that hold at least 1 % of the elements that have one; all where none does."""
    with_gradient = [layer for layer in layers if layer.num_zero is not None]
    needed = SMALL_LAYER_SHARE * sum(layer.num_elements for layer in with_gradient) - _ROUNDING
    return [layer for layer in with_gradient if layer.num_elements >= needed] or with_gradient


def crossings(snapshots: Sequence[SnapshotGradient], settings: Settings) -> tuple[Crossing, ...]:
    """First step of each run at which each layer, and the pooled total "*", reached each limit.

    The rule is that of the status (expected zeros left out, baseline exceeded); ``zero_fraction`` is the
    plain one, as every table shows it. The pooled baseline is the mean over elements, a layer without
    one counting as 0. Order: run as first met, step (unknown last), worst limit first, layers in file
    order with "*" last: the first entry of a step is the worst news of that step. Doubles do not count.
    """
    limits_of = cache(settings.limits_of)
    first: dict[tuple[str, str, Status], Crossing] = {}
    counted = (one for one in snapshots if one.double_of is None)
    for snapshot in sorted(counted, key=lambda one: (one.step is None, one.step or 0)):
        for layer, plain, unexpected, baseline in judged_fractions(snapshot):
            for limit in LIMIT_NAMES:
                key = (snapshot.run, layer, limit)
                if key not in first and _reaches(unexpected, baseline, _limit(limits_of(layer), limit)):
                    first[key] = Crossing(
                        run=snapshot.run, layer=layer, limit=limit, step=snapshot.step, zero_fraction=plain
                    )
    runs = {run: place for place, run in enumerate(dict.fromkeys(one.run for one in snapshots))}
    return tuple(sorted(first.values(), key=lambda crossing: _order(crossing, runs)))


def unexpected_layer_fraction(layer: LayerGradient, num_batches: int | None) -> float | None:
    """Zeros of one measured layer without the expected ones, 0..1; None where there is nothing to judge."""
    seen = layer.num_elements * (num_batches or 1)
    if layer.num_zero is None or seen == (layer.num_nonfinite or 0):
        return None
    return (layer.num_zero - (layer.anatomy.expected if layer.anatomy else 0)) / seen


def judged_fractions(snapshot: SnapshotGradient) -> Iterator[tuple[str, float, float, float | None]]:
    """Name, plain fraction, fraction without expected zeros, baseline: of each layer, then pooled."""
    num_batches = snapshot.num_batches or 1
    elements, zeros, unexpected_zeros, baseline_zeros = 0, 0, 0.0, 0.0
    baseline_known = False
    for layer in snapshot.layers:
        unexpected = unexpected_layer_fraction(layer, num_batches)
        if unexpected is None or layer.num_zero is None:
            continue
        yield (
            layer.name,
            layer.num_zero / (layer.num_elements * num_batches),
            unexpected,
            layer.baseline_zero_fraction,
        )
        elements += layer.num_elements
        zeros += layer.num_zero
        unexpected_zeros += layer.num_zero - (layer.anatomy.expected if layer.anatomy else 0)
        baseline_known |= layer.baseline_zero_fraction is not None
        baseline_zeros += (layer.baseline_zero_fraction or 0.0) * layer.num_elements
    if elements:
        seen = elements * num_batches
        baseline = baseline_zeros / elements if baseline_known else None
        yield ALL_LAYERS, zeros / seen, unexpected_zeros / seen, baseline


def _reaches(fraction: float, baseline: float | None, limit: float) -> bool:
    beyond_baseline = baseline is None or fraction - baseline >= BASELINE_MARGIN - _ROUNDING
    return beyond_baseline and fraction >= limit - _ROUNDING


def _limit(limits: Limits, status: Status) -> float:
    return {
        Status.WARN: limits.warn,
        Status.CRITICAL: limits.critical,
        Status.COLLAPSE: limits.collapse,
    }[status]


def _order(crossing: Crossing, runs: dict[str, int]) -> tuple[int, bool, int, int, bool]:
    severity = LIMIT_NAMES.index(Status(crossing.limit))
    pooled = crossing.layer == ALL_LAYERS
    return runs[crossing.run], crossing.step is None, crossing.step or 0, severity, pooled
