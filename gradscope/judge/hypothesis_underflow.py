"""Zeros that a type with more range would hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gradscope.judge.hypothesis_facts import (
    LIMIT_SOURCE,
    NO_BAD_LAYER,
    not_testable,
    rejected,
    share,
    supported,
    weighty,
    why_no_zeros,
    words_of,
    zero_layers,
)
from gradscope.judge.hypothesis_units import dead_zeros, saturated_zeros
from gradscope.records import Evidence

if TYPE_CHECKING:
    from gradscope.judge.hypothesis_facts import Facts
    from gradscope.records import Finding, LayerGradient

UNDERFLOW: Final = "underflow"
SMALL_TYPES: Final = ("float16", "float8")
"""float16 rounds to 0 below 3e-8; bfloat16 reaches as low as float32."""
FAR_ABOVE: Final = 1e-30
"""Largest gradient of a float32 layer above which its zeros are no underflow: 15 decades above 1e-45."""
GET_FLOAT64: Final = "Repeat the batch in float64 on your own model, or train a few steps without autocast."
DO_UNDERFLOW: Final = (
    "Scale the loss before backward (torch.amp.GradScaler), or train these layers in float32."
)


def underflow(facts: Facts) -> Finding:
    """Zeros that a type with more range would hold."""
    problem = why_no_zeros(facts)
    if problem is not None:
        return not_testable(UNDERFLOW, problem)
    bad = zero_layers(facts)
    if not bad:
        return rejected(UNDERFLOW, NO_BAD_LAYER)
    found = {layer.name: _underflown(facts, layer) for layer in bad}
    known = {name: zeros for name, zeros in found.items() if zeros}
    evidence = [
        _type_evidence(facts, layer, found[layer.name]) for layer in bad if layer.name in weighty(facts)
    ]
    if any((found[layer.name] or 0) >= facts.warn(layer) * facts.seen(layer) for layer in bad):
        reason = f"zeros of {words_of(list(known))} {_small_words(facts)}"
        return supported(UNDERFLOW, facts, known, reason, evidence=evidence, what_to_do=DO_UNDERFLOW)
    unknown = [name for name, zeros in found.items() if zeros is None]
    if unknown:
        reason = f"nothing but zeros in {words_of(unknown)}: only repeating it in float64 tells underflow"
        return not_testable(UNDERFLOW, reason, GET_FLOAT64, evidence)
    return rejected(UNDERFLOW, _large_words(facts), evidence, share(facts, sum(known.values())))


def _underflown(facts: Facts, layer: LayerGradient) -> float | None:
    """Zeros of one layer that are underflow; None where only float64 could tell."""
    if layer.anatomy is None:
        return None
    if facts.lost_fractions is not None and layer.name in facts.lost_fractions:
        others = (dead_zeros(facts, layer) or 0.0) + (saturated_zeros(facts, layer) or 0.0)
        lost = facts.lost_fractions[layer.name] * facts.seen(layer)
        return max(min(lost, (layer.num_zero or 0) - others), 0.0)
    if layer.dtype.startswith(SMALL_TYPES):
        return None if layer.anatomy.whole_layer else float(layer.anatomy.scattered)
    if layer.max_abs is not None and layer.max_abs > FAR_ABOVE:
        return 0.0
    explained = (dead_zeros(facts, layer) or 0.0) + (saturated_zeros(facts, layer) or 0.0)
    return 0.0 if explained >= layer.anatomy.whole_layer else None


def _type_evidence(facts: Facts, layer: LayerGradient, zeros: float | None) -> Evidence:
    return Evidence(
        measure=f"share of {layer.name} ({layer.dtype}) that is underflow",
        value=None if zeros is None else zeros / facts.seen(layer),
        limit=facts.warn(layer),
        source=LIMIT_SOURCE,
    )


def _small_words(facts: Facts) -> str:
    if facts.lost_fractions is not None:
        return "are none when the batch is repeated in float64"
    types = {layer.dtype for layer in zero_layers(facts) if layer.dtype.startswith(SMALL_TYPES)}
    return f"are scattered through gradients of type {'/'.join(sorted(types))}, which rounds to 0 below 3e-8"


def _large_words(facts: Facts) -> str:
    types = "/".join(sorted({layer.dtype for layer in zero_layers(facts)}))
    if facts.lost_fractions is not None:
        return "repeated in float64, none of these zeros turns out to be lost to a type with less range"
    return f"gradients are {types}, which holds values far below the largest here"
