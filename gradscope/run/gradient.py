"""A moment of a run becomes a measured and judged snapshot, from the best origin that it has."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from gradscope.judge import snapshot_status
from gradscope.read.stored_tensor import OnDemand
from gradscope.records import Clipping, Layer, Origin, SnapshotGradient
from gradscope.records.wrapped import names_as
from gradscope.run.action_heads import taken_in_buffer, with_untaken
from gradscope.run.activity import activity
from gradscope.run.layer import NO_GRADIENT, layer_gradient, stored_counts
from gradscope.run.named_inputs import named_inputs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gradscope.records import LayerGradient
    from gradscope.run.counted import Counted
    from gradscope.run.given import Means
    from gradscope.run.inputs import RunSlices
    from gradscope.run.join import Moment
    from gradscope.settings import Settings

ASKED_FOR_EVIDENCE: Final = "optimizer evidence was asked for: moments are no gradients"
NOT_STORED: Final = "no gradient is stored beside this checkpoint, and only stored ones were asked for"
DOUBTS: Final = ("replay", "rollout", "learning_rate")
"""Reasons of a recomputation that a user has to see."""
TOTALS: Final = (
    "num_zero",
    "num_exact_zero",
    "num_nonfinite",
    "zero_fraction",
    "exact_zero_fraction",
    "norm",
)


@dataclass(frozen=True, kw_only=True)
class _Chosen:
    """Where the gradients of one moment come from."""

    origin: Origin
    why_none: str = NO_GRADIENT
    recomputed: Counted | None = None
    clipping: Clipping = field(default_factory=Clipping)
    batch: Mapping[str, int | None] = field(default_factory=dict)
    batch_reasons: Mapping[str, str] = field(default_factory=dict)


def snapshot_gradient(
    moment: Moment, means: Means, known: RunSlices, names: Mapping[str, str | None]
) -> SnapshotGradient:
    """Measure every wanted layer of a moment; ``names`` are its files as reports show them.

    Raises:
        UnreadableFile: a file changed or broke since it was opened.
    """
    settings = means.settings
    chosen = _chosen(moment, means, known)
    wanted = (layer for layer in _joined(moment) if settings.wants_layer(layer.name))
    beside = _recorded_layers(moment) if moment.recorded else moment.main.layers
    found = tuple(_layer(layer, chosen, settings, beside) for layer in wanted)
    taken = chosen.recomputed.taken if chosen.recomputed else taken_in_buffer(moment, found)
    layers = named_inputs(with_untaken(found, taken), known)
    measured = [layer for layer in layers if layer.num_zero is not None]
    totals = _totals(measured, chosen)
    active = (chosen.recomputed.activity if chosen.recomputed else None) or activity(moment, known)
    reasons = {**_reasons(moment, chosen, totals, measured), **active.reasons}
    return SnapshotGradient(
        run=moment.run,
        step=moment.step,
        step_from=moment.main.step_from,
        source=str(names["source"]),
        gradient_source=names["gradient_source"] if chosen.origin is Origin.STORED else None,
        format=moment.main.format,
        origin=_origin(layers, measured),
        num_elements=sum(layer.num_elements for layer in measured or layers),
        status=snapshot_status(layers),
        position_activity=active.fraction,
        num_open_positions=active.num_active,
        norm_before_clip=chosen.clipping.norm_before_clip,
        clip_coefficient=chosen.clipping.clip_coefficient,
        reasons=reasons,
        layers=layers,
        double_of=names["double_of"],
        notes=(*moment.main.notes, *moment.notes, *_notes(moment, chosen)),
        **totals,
        **{key: chosen.batch.get(key) for key in ("num_batches", "batch_size", "seed")},
    )


def has_stored(moment: Moment) -> bool:
    """Whether a file of this moment holds gradients."""
    return moment.recorded is not None or moment.main.num_batches is not None


def _chosen(moment: Moment, means: Means, known: RunSlices) -> _Chosen:
    source = means.settings.source
    if source == "optimizer":
        return _Chosen(origin=Origin.OPTIMIZER, why_none=ASKED_FOR_EVIDENCE)
    if source == "stored" or (source == "auto" and has_stored(moment)):
        return _stored(moment) if has_stored(moment) else _Chosen(origin=Origin.NONE, why_none=NOT_STORED)
    from gradscope.run.recomputed import recomputed  # noqa: PLC0415  leads to torch

    found = recomputed(moment, known, means)
    if isinstance(found, str):
        return _Chosen(origin=Origin.NONE, why_none=found)
    batch = {"num_batches": found.num_batches, "batch_size": found.batch_size, "seed": found.seed}
    return _Chosen(origin=Origin.RECOMPUTED, recomputed=found, clipping=found.clipping, batch=batch)


def _stored(moment: Moment) -> _Chosen:
    stored = moment.recorded or moment.main
    batch = {key: getattr(stored, key) for key in ("num_batches", "batch_size", "seed")}
    missing = "the file does not say which batch its gradient is of"
    reasons = {key: missing for key, value in batch.items() if value is None}
    if stored.format == "gradscope" and batch["seed"] is None:
        reasons["seed"] = "a batch of the training itself, not drawn by gradscope"
    return _Chosen(origin=Origin.STORED, clipping=stored.clipping, batch=batch, batch_reasons=reasons)


def _layer(layer: Layer, chosen: _Chosen, settings: Settings, beside: Mapping[str, Layer]) -> LayerGradient:
    if chosen.origin is Origin.STORED:
        return layer_gradient(layer, stored_counts(layer, settings, beside), settings)
    if chosen.recomputed is None:
        return layer_gradient(layer, chosen.why_none, settings, chosen.origin)
    counts = chosen.recomputed.layers.get(layer.name)
    why_none = chosen.recomputed.layer_reasons.get(layer.name, "no loss of this algorithm reaches it")
    return layer_gradient(layer, counts or why_none, settings, Origin.RECOMPUTED)


def _origin(layers: tuple[LayerGradient, ...], measured: list[LayerGradient]) -> Origin:
    if measured:
        return measured[0].origin
    is_evidence = any(layer.origin is Origin.OPTIMIZER for layer in layers)
    return Origin.OPTIMIZER if is_evidence else Origin.NONE


def _recorded_layers(moment: Moment) -> Mapping[str, Layer]:
    """Of the recorder file, as the checkpoint names them: one may have been wrapped, the other not."""
    assert moment.recorded is not None
    layers = moment.recorded.layers
    called = names_as(layers, moment.checkpoint.layers if moment.checkpoint is not None else ())
    if all(name == own for own, name in called.items()):
        return layers
    return OnDemand({name: partial(layers.__getitem__, own) for own, name in called.items()})


def _joined(moment: Moment) -> Iterator[Layer]:
    """Layers in file order: the checkpoint's with the recorder's gradients, then what only it has."""
    if moment.checkpoint is None or moment.recorded is None:
        yield from moment.main.layers.values()
        return
    recorded = _recorded_layers(moment)
    for name, layer in moment.checkpoint.layers.items():
        yield _with_gradient(layer, recorded[name]) if name in recorded else layer
    yield from (layer for name, layer in recorded.items() if name not in moment.checkpoint.layers)


def _with_gradient(layer: Layer, recorded: Layer) -> Layer:
    return Layer(
        name=layer.name,
        shape=layer.shape,
        dtype=layer.dtype,
        gradient=recorded.gradient,
        moments=layer.moments,
        moment_settings=layer.moment_settings,
        origin=recorded.origin,
        module=recorded.module,
        baseline_zero_fraction=recorded.baseline_zero_fraction,
        reasons={**layer.reasons, **recorded.reasons},
    )


def _totals(layers: list[LayerGradient], chosen: _Chosen) -> dict[str, Any]:
    if not layers:
        return dict.fromkeys(TOTALS)
    seen = sum(layer.num_elements for layer in layers)
    seen *= chosen.recomputed.num_batches if chosen.recomputed else 1
    zeros = sum(layer.num_zero or 0 for layer in layers)
    exact = sum(layer.num_exact_zero or 0 for layer in layers)
    norms = [layer.norm for layer in layers if layer.norm is not None]
    stored_norm = math.hypot(*norms) if norms else None
    return {
        "num_zero": zeros,
        "num_exact_zero": exact,
        "num_nonfinite": sum(layer.num_nonfinite or 0 for layer in layers),
        "zero_fraction": zeros / seen,
        "exact_zero_fraction": exact / seen,
        "norm": chosen.recomputed.norm if chosen.recomputed else stored_norm,
    }


def _reasons(
    moment: Moment, chosen: _Chosen, totals: Mapping[str, Any], measured: list[LayerGradient]
) -> dict[str, str]:
    """Why a number is missing, and what else to know of a recomputation."""
    why_none = "no finite value" if measured else chosen.why_none
    reasons = dict(moment.main.reasons)
    reasons |= dict.fromkeys((key for key, value in totals.items() if value is None), why_none)
    reasons |= (
        chosen.batch_reasons
        if chosen.batch
        else dict.fromkeys(("num_batches", "batch_size", "seed"), why_none)
    )
    reasons |= chosen.clipping.reasons
    for key in ("norm_before_clip", "clip_coefficient"):
        if getattr(chosen.clipping, key) is None:
            missing = "only the recorder sees the norm before clipping" if measured else why_none
            reasons.setdefault(key, missing)
    if chosen.recomputed is not None:
        reasons |= chosen.recomputed.reasons
    return {key: value for key, value in reasons.items() if value}


def _notes(moment: Moment, chosen: _Chosen) -> tuple[str, ...]:
    """Doubts about a recomputation; what a joined recorder file noted, where its gradients are shown."""
    if chosen.recomputed is not None:
        return tuple(chosen.recomputed.reasons[key] for key in DOUBTS if key in chosen.recomputed.reasons)
    if chosen.origin is not Origin.STORED or moment.checkpoint is None or moment.recorded is None:
        return ()
    return moment.recorded.notes
