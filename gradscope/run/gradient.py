"""A moment of a run becomes a measured and judged snapshot."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from gradscope.judge import layer_status, snapshot_status
from gradscope.measure import zero_count
from gradscope.records import Layer, LayerGradient, Origin, SnapshotGradient, Status, ZeroCount

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gradscope.records import Snapshot
    from gradscope.run.inputs import Activity
    from gradscope.run.join import Moment
    from gradscope.settings import Settings

NO_GRADIENT: Final = (
    "no gradient is stored beside this checkpoint; record it with gradscope.record.GradscopeCallback"
)
NO_BASELINE: Final = "no fresh network to compare with: the recorder's first update was not seen"
ONE_BATCH: Final = "one batch"
NO_OPTIMIZER_EVIDENCE: Final = "optimizer evidence is not measured by this version"
_MEASURES: Final = (
    "num_zero",
    "num_exact_zero",
    "num_nonfinite",
    "zero_fraction",
    "exact_zero_fraction",
    "interval",
    "baseline_zero_fraction",
    "norm",
    "max_abs",
    "anatomy",
)


def snapshot_gradient(
    moment: Moment, settings: Settings, activity: Activity, names: Mapping[str, str | None]
) -> SnapshotGradient:
    """Measure every wanted layer of a moment; ``names`` are its files as reports show them."""
    layers = tuple(
        layer_gradient(layer, settings) for layer in _joined(moment) if settings.wants_layer(layer.name)
    )
    measured = [layer for layer in layers if layer.origin is not Origin.NONE]
    stored = (moment.recorded or moment.main) if measured else None
    totals = _totals(measured)
    reasons = dict(moment.main.reasons)
    reasons |= dict.fromkeys((key for key, value in totals.items() if value is None), _why_none(measured))
    clipping = _clipping(stored, reasons)
    batch = _batch(stored, reasons)
    reasons |= activity.reasons
    return SnapshotGradient(
        run=moment.run,
        step=moment.step,
        step_from=moment.main.step_from,
        source=str(names["source"]),
        gradient_source=names["gradient_source"],
        format=moment.main.format,
        origin=measured[0].origin if measured else Origin.NONE,
        num_elements=sum(layer.num_elements for layer in measured or layers),
        status=snapshot_status(layers),
        position_activity=activity.fraction,
        num_open_positions=activity.num_active,
        reasons={key: value for key, value in reasons.items() if value},
        layers=layers,
        notes=(*moment.main.notes, *moment.notes, *_recorder_notes(moment)),
        **totals,
        **clipping,
        **batch,
    )


def layer_gradient(layer: Layer, settings: Settings) -> LayerGradient:
    """Count, measure and judge one layer; without a gradient every measure is None with its reason."""
    size = math.prod(layer.shape)
    problem = _problem(layer, size)
    if problem or layer.gradient is None:
        reasons = dict.fromkeys((*_MEASURES, "status"), problem or NO_GRADIENT)
        reasons["optimizer"] = NO_OPTIMIZER_EVIDENCE
        return LayerGradient(
            name=layer.name,
            shape=layer.shape,
            dtype=layer.dtype,
            origin=Origin.NONE,
            num_elements=size,
            reasons=reasons,
        )
    count = zero_count(
        layer.gradient, name=layer.name, module=layer.module, tolerance=settings.zero_tolerance
    )
    return _judged(layer, count, settings)


def _judged(layer: Layer, count: ZeroCount, settings: Settings) -> LayerGradient:
    unexpected = (count.num_zero - count.anatomy.expected) / count.num_elements
    baseline = layer.baseline_zero_fraction
    reasons = {"interval": ONE_BATCH, "optimizer": NO_OPTIMIZER_EVIDENCE}
    if baseline is None:
        reasons["baseline_zero_fraction"] = layer.reasons.get("baseline_zero_fraction", NO_BASELINE)
    if count.norm is None:
        reasons["norm"] = reasons["max_abs"] = "no finite value"
    status = layer_status(unexpected, baseline, settings.limits_of(layer.name))
    if count.num_nonfinite and status.rank <= Status.OK.rank:
        # Zeros among the finite values say nothing of a gradient that holds NaN: never green.
        status = Status.UNKNOWN
        reasons["status"] = f"{count.num_nonfinite:,} of {count.num_elements:,} values are not finite"
    return LayerGradient(
        name=layer.name,
        shape=layer.shape,
        dtype=layer.dtype,
        origin=layer.origin,
        num_elements=count.num_elements,
        num_zero=count.num_zero,
        num_exact_zero=count.num_exact_zero,
        num_nonfinite=count.num_nonfinite,
        zero_fraction=count.num_zero / count.num_elements,
        exact_zero_fraction=count.num_exact_zero / count.num_elements,
        baseline_zero_fraction=baseline,
        norm=count.norm,
        max_abs=count.max_abs,
        status=status,
        anatomy=count.anatomy,
        reasons=reasons,
    )


def _problem(layer: Layer, size: int) -> str | None:
    if layer.gradient is None:
        return layer.reasons.get("gradient", NO_GRADIENT)
    if layer.gradient.shape != layer.shape:
        return f"gradient of shape {list(layer.gradient.shape)} for a parameter of shape {list(layer.shape)}"
    return "no elements" if size == 0 else None


def _joined(moment: Moment) -> Iterator[Layer]:
    """Layers in file order: the checkpoint's with the recorder's gradients, then what only it has."""
    if moment.checkpoint is None or moment.recorded is None:
        yield from moment.main.layers.values()
        return
    recorded = moment.recorded.layers
    for name, layer in moment.checkpoint.layers.items():
        yield _with_gradient(layer, recorded[name]) if name in recorded else layer
    yield from (layer for name, layer in recorded.items() if name not in moment.checkpoint.layers)


def _with_gradient(layer: Layer, recorded: Layer) -> Layer:
    return Layer(
        name=layer.name,
        shape=layer.shape,
        dtype=layer.dtype,
        gradient=recorded.gradient,
        origin=recorded.origin,
        module=recorded.module,
        baseline_zero_fraction=recorded.baseline_zero_fraction,
        reasons=recorded.reasons,
    )


def _totals(layers: list[LayerGradient]) -> dict[str, Any]:
    if not layers:
        keys = ("num_zero", "num_exact_zero", "num_nonfinite", "zero_fraction", "exact_zero_fraction", "norm")
        return dict.fromkeys(keys)
    elements = sum(layer.num_elements for layer in layers)
    zeros = sum(layer.num_zero or 0 for layer in layers)
    exact = sum(layer.num_exact_zero or 0 for layer in layers)
    norms = [layer.norm for layer in layers if layer.norm is not None]
    return {
        "num_zero": zeros,
        "num_exact_zero": exact,
        "num_nonfinite": sum(layer.num_nonfinite or 0 for layer in layers),
        "zero_fraction": zeros / elements,
        "exact_zero_fraction": exact / elements,
        "norm": math.hypot(*norms) if norms else None,
    }


def _why_none(measured: list[LayerGradient]) -> str:
    return "no finite value" if measured else NO_GRADIENT


def _clipping(stored: Snapshot | None, reasons: dict[str, str]) -> dict[str, Any]:
    values: dict[str, float | None] = {"norm_before_clip": None, "clip_coefficient": None}
    if stored is not None:
        values = {key: getattr(stored.clipping, key) for key in values}
        reasons |= stored.clipping.reasons
    for key, value in values.items():
        if value is None:
            default = NO_GRADIENT if stored is None else "only the recorder sees the norm before clipping"
            reasons.setdefault(key, default)
    return values


def _batch(stored: Snapshot | None, reasons: dict[str, str]) -> dict[str, Any]:
    keys = ("num_batches", "batch_size", "seed")
    values = {key: getattr(stored, key) if stored else None for key in keys}
    missing = NO_GRADIENT if stored is None else "the file does not say which batch its gradient is of"
    reasons |= {key: missing for key, value in values.items() if value is None}
    if stored is not None and stored.format == "gradscope" and values["seed"] is None:
        reasons["seed"] = "a batch of the training itself, not drawn by gradscope"
    return values


def _recorder_notes(moment: Moment) -> tuple[str, ...]:
    return moment.recorded.notes if moment.checkpoint and moment.recorded else ()
