"""One layer of a moment, counted and judged; without a gradient every measure is None with its reason."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from gradscope.judge import layer_status
from gradscope.measure import fraction_interval, summed, unexpected_fraction
from gradscope.measure.columns import bias_name, parallel_inputs
from gradscope.measure.zero_details import DetailTally
from gradscope.measure.zeros import counted_lines
from gradscope.records import LayerGradient, Origin, Status
from gradscope.run.counted import LayerCounts
from gradscope.run.evidence import layer_evidence
from gradscope.run.siblings import stored_facts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradscope.records import Layer
    from gradscope.settings import Settings

NO_GRADIENT: Final = (
    "no gradient is stored beside this checkpoint; record it with gradscope.record.GradscopeCallback"
)
NO_BASELINE: Final = "no fresh network to compare with: the recorder's first update was not seen"
ONE_BATCH: Final = "one batch"
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
    "details",
)


def stored_counts(
    layer: Layer, settings: Settings, beside: Mapping[str, Layer] | None = None
) -> LayerCounts | str:
    """The stored gradient's count, or why there is none; ``beside`` are the other layers of its file.

    Raises:
        UnreadableFile: the file changed since it was opened.
    """
    size = math.prod(layer.shape)
    if layer.gradient is None:
        return layer.reasons.get("gradient", NO_GRADIENT)
    if layer.gradient.shape != layer.shape:
        return f"gradient of shape {list(layer.gradient.shape)} for a parameter of shape {list(layer.shape)}"
    if not size:
        return "no elements"
    others = beside or {}
    facts = stored_facts(layer, others)
    count, lines = counted_lines(
        layer.gradient, name=layer.name, facts=facts, tolerance=settings.zero_tolerance
    )
    bias = others.get(bias_name(layer.name) or "")
    details = DetailTally()
    details.add(lines, parallel_inputs(layer.gradient, bias.gradient if bias else None, facts))
    baseline = layer.baseline_zero_fraction
    reason = layer.reasons.get("baseline_zero_fraction", NO_BASELINE)
    reasons = {} if baseline is not None else {"baseline_zero_fraction": reason}
    return LayerCounts(
        counts=[count], baseline_zero_fraction=baseline, details=details.details(), reasons=reasons
    )


def layer_gradient(
    layer: Layer, found: LayerCounts | str, settings: Settings, origin: Origin = Origin.STORED
) -> LayerGradient:
    """Counts of a layer become its fractions, interval and status; or the reason why there are none."""
    sample = found.sample if isinstance(found, LayerCounts) else None
    evidence, why_none = layer_evidence(layer, sample)
    bare = LayerGradient(
        name=layer.name,
        shape=layer.shape,
        dtype=layer.dtype,
        origin=origin,
        num_elements=math.prod(layer.shape),
        optimizer=evidence,
        reasons={} if evidence is not None else {"optimizer": why_none or ""},
    )
    if isinstance(found, LayerCounts):
        return _judged(bare, found, settings)
    is_evidence = origin is Origin.OPTIMIZER and evidence is not None
    return replace(
        bare,
        origin=Origin.OPTIMIZER if is_evidence else Origin.NONE,
        reasons=dict.fromkeys((*_MEASURES, "status"), found) | dict(bare.reasons),
    )


def _judged(bare: LayerGradient, found: LayerCounts, settings: Settings) -> LayerGradient:
    count, num_batches = summed(found.counts), len(found.counts)
    seen = bare.num_elements * num_batches
    interval = fraction_interval(found.counts)
    reasons = {**bare.reasons, **found.reasons}
    if interval is None:
        reasons["interval"] = ONE_BATCH
    if found.details is None:
        reasons["details"] = "only counts are known"
    if count.norm is None:
        reasons["norm"] = reasons["max_abs"] = "no finite value"
    unexpected = unexpected_fraction(count, num_batches) or 0.0
    status = layer_status(unexpected, found.baseline_zero_fraction, settings.limits_of(bare.name))
    if count.num_nonfinite and status.rank <= Status.OK.rank:
        # Zeros among the finite values say nothing of a gradient that holds NaN: never green.
        status = Status.UNKNOWN
        reasons["status"] = f"{count.num_nonfinite:,} of {seen:,} values are not finite"
    return replace(
        bare,
        num_zero=count.num_zero,
        num_exact_zero=count.num_exact_zero,
        num_nonfinite=count.num_nonfinite,
        zero_fraction=count.num_zero / seen,
        exact_zero_fraction=count.num_exact_zero / seen,
        interval=interval,
        baseline_zero_fraction=found.baseline_zero_fraction,
        norm=count.norm,
        max_abs=count.max_abs,
        status=status,
        anatomy=count.anatomy,
        details=found.details,
        reasons=reasons,
    )
