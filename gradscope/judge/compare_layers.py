"""Layers of both runs, matched by name, over the common steps."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Final

from gradscope.judge.compare_zeros import MARGIN, NO_COMMON_STEP, which, zero_difference
from gradscope.judge.status import deciding_layers, unexpected_layer_fraction
from gradscope.records import (
    ALL_LAYERS,
    ComparedCrossing,
    ComparedGradient,
    ComparedLayer,
    CompareVerdict,
    CrossedAt,
    LayerPoint,
    Status,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gradscope.judge.compare_steps import Pair
    from gradscope.records import Crossing, LayerGradient, Report, SnapshotGradient

LIMIT_ORDER: Final = (Status.COLLAPSE, Status.CRITICAL, Status.WARN)
NO_LAYER: Final = "no such layer"
NOT_REACHED: Final = "not reached"
NO_GRADIENTS: Final = "no gradients"
NEVER_BOTH: Final = "at no common step is it known in both"
NEVER_PARTS: Final = f"at the last of these steps neither is worse by {100 * MARGIN:g} points"
GRADIENT_FIELDS: Final = frozenset(each.name for each in fields(ComparedGradient))
WORSE: Final = (CompareVerdict.A_WORSE, CompareVerdict.B_WORSE)


def compared_layers(a: Report, b: Report, pairs: Sequence[Pair]) -> tuple[ComparedLayer, ...]:
    """Every layer of either run, in file order, those of B alone last."""
    in_a, in_b = _layers(a), _layers(b)
    deciding = {
        layer.name
        for report in (a, b)
        for snapshot in report.snapshots
        for layer in deciding_layers(snapshot.layers)
    }
    points: dict[str, list[LayerPoint]] = {}
    for pair in pairs:
        for point_name, point in layer_points(pair).items():
            points.setdefault(point_name, []).append(point)
    return tuple(
        _layer(name, in_a.get(name), in_b.get(name), points.get(name, []), decides=name in deciding)
        for name in dict.fromkeys([*in_a, *in_b])
    )


def layer_points(pair: Pair) -> dict[str, LayerPoint]:
    """Layers that both snapshots of a step have, by name."""
    if pair.a is None or pair.b is None:
        return {}
    others = {layer.name: layer for layer in pair.b.layers}
    points = {}
    for layer in pair.a.layers:
        if layer.name not in others:
            continue
        a = _gradient(layer, pair.a)
        b = _gradient(others[layer.name], pair.b)
        found = zero_difference(a, b)
        points[layer.name] = LayerPoint(
            step=pair.step,
            a=a,
            b=b,
            difference=found.difference,
            difference_beyond_fresh=found.difference_beyond_fresh,
            interval=found.interval,
            verdict=found.verdict,
            reasons={**found.reasons, **({} if pair.step is not None else {"step": NO_COMMON_STEP})},
        )
    return points


def compared_crossings(a: Report, b: Report) -> tuple[ComparedCrossing, ...]:
    """Every limit that a layer, or the pooled total "*", reached in either run: worst limit first."""
    in_a, in_b = _crossed(a), _crossed(b)
    keys = dict.fromkeys([*in_a, *in_b])
    found = [
        ComparedCrossing(
            layer=layer,
            limit=limit,
            a=_crossed_at(in_a.get((layer, limit))),
            b=_crossed_at(in_b.get((layer, limit))),
            reasons={
                side: _not_crossed(report, layer)
                for side, report, crossed in (("a", a, in_a), ("b", b, in_b))
                if (layer, limit) not in crossed
            },
        )
        for layer, limit in keys
    ]
    return tuple(sorted(found, key=lambda each: LIMIT_ORDER.index(Status(each.limit))))


def _layers(report: Report) -> dict[str, LayerGradient]:
    """Each layer as it was last seen."""
    return {layer.name: layer for snapshot in report.snapshots for layer in snapshot.layers}


def _layer(
    name: str,
    a: LayerGradient | None,
    b: LayerGradient | None,
    points: Sequence[LayerPoint],
    *,
    decides: bool,
) -> ComparedLayer:
    reasons = {f"shape_{side}": NO_LAYER for side, layer in (("a", a), ("b", b)) if layer is None}
    known = [point for point in points if point.difference is not None]
    last = known[-1] if known else None
    parted = _parted(known)
    if last is None:
        why = NEVER_BOTH if a and b else f"only {which(b, a)} has this layer"
        reasons |= dict.fromkeys(("step", "difference", "verdict", "parted_step"), why)
    elif parted is None:
        reasons["parted_step"] = NEVER_PARTS
    if last is not None and last.step is None:
        reasons |= dict.fromkeys(("step", "parted_step"), NO_COMMON_STEP)
    if last is not None and "verdict" in last.reasons:
        reasons["verdict"] = last.reasons["verdict"]
    return ComparedLayer(
        name=name,
        shape_a=a.shape if a else None,
        shape_b=b.shape if b else None,
        decides=decides,
        points=tuple(points),
        step=last.step if last else None,
        difference=last.difference if last else None,
        verdict=last.verdict if last else CompareVerdict.NOT_COMPARABLE,
        parted_step=parted.step if parted else None,
        reasons=reasons,
    )


def _parted(known: Sequence[LayerPoint]) -> LayerPoint | None:
    """The first of the points at the end in which the same run is worse."""
    first = None
    for point in reversed(known):
        if point.verdict not in WORSE or point.verdict is not known[-1].verdict:
            break
        first = point
    return first


def _gradient(layer: LayerGradient, snapshot: SnapshotGradient) -> ComparedGradient:
    reasons = {key: why for key, why in layer.reasons.items() if key in GRADIENT_FIELDS}
    unexpected = unexpected_layer_fraction(layer, snapshot.num_batches)
    if unexpected is None:
        why = layer.reasons.get("zero_fraction", "no finite value of its gradient")
        reasons["unexpected_zero_fraction"] = why
    if layer.interval is None:
        reasons.setdefault("interval", "one batch" if snapshot.num_batches == 1 else "no batches")
    return ComparedGradient(
        zero_fraction=layer.zero_fraction,
        unexpected_zero_fraction=unexpected,
        baseline_zero_fraction=layer.baseline_zero_fraction,
        interval=layer.interval,
        num_nonfinite=layer.num_nonfinite,
        norm=layer.norm,
        status=layer.status,
        reasons=reasons,
    )


def _crossed(report: Report) -> Mapping[tuple[str, str], Crossing]:
    return {(each.layer, each.limit): each for each in report.crossings}


def _crossed_at(crossing: Crossing | None) -> CrossedAt | None:
    return CrossedAt(step=crossing.step, zero_fraction=crossing.zero_fraction) if crossing else None


def _not_crossed(report: Report, layer: str) -> str:
    if all(snapshot.zero_fraction is None for snapshot in report.snapshots):
        return NO_GRADIENTS
    known = _layers(report)
    if layer != ALL_LAYERS and layer not in known:
        return NO_LAYER
    return NOT_REACHED
