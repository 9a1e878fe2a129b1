"""Zeros made by arithmetic: clipping after an explosion, and numbers too small for their type."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING, Final

from gradscope.judge.hypothesis_facts import (
    LIMIT_SOURCE,
    NO_BAD_LAYER,
    bad_layers,
    not_testable,
    percent,
    rejected,
    share,
    supported,
    why_no_zeros,
    words_of,
)
from gradscope.judge.hypothesis_units import dead_zeros, saturated_zeros
from gradscope.records import Evidence
from gradscope.settings import BASELINE_MARGIN

if TYPE_CHECKING:
    from gradscope.judge.hypothesis_facts import Facts, PastStep
    from gradscope.records import Finding, LayerGradient

CLIPPING: Final = "explosion-clipping"
UNDERFLOW: Final = "underflow"
EXPLOSION: Final = 10.0
"""Norm before clipping over the median of the steps before: SCIENCE.md 4, a multiple of its own median."""
CLIP_SHARE: Final = 0.10
"""Share of a snapshot's zeros that clipping must have made; the same tenth as the first limit."""
LEAST_HISTORY: Final = 3
"""Steps before that a median of the norm needs."""
SMALL_TYPES: Final = ("float16", "float8")
"""float16 rounds to 0 below 3e-8; bfloat16 reaches as low as float32."""
FAR_ABOVE: Final = 1e-30
"""Largest gradient of a float32 layer above which its zeros are no underflow: 15 decades above 1e-45."""
GET_CLIPPING: Final = (
    "Record a few updates with gradscope.record.GradscopeCallback: it sees the norm before clipping, which "
    "no checkpoint keeps."
)
GET_FLOAT64: Final = "Repeat the batch in float64 on your own model, or train a few steps without autocast."
DO_CLIPPING: Final = (
    "Mend what explodes (reward or target scale) and clip by group, so that one layer's explosion does not "
    "shrink the others."
)
DO_UNDERFLOW: Final = (
    "Scale the loss before backward (torch.amp.GradScaler), or train these layers in float32."
)


def explosion_clipping(facts: Facts) -> Finding:
    """An explosion that clipping answered by pushing gradients under the tolerance."""
    problem = why_no_zeros(facts)
    snapshot = facts.snapshot
    if snapshot.num_nonfinite:
        return _nonfinite(facts)
    if problem is not None:
        return not_testable(CLIPPING, problem, GET_CLIPPING)
    evidence = _clip_evidence(facts)
    if snapshot.clip_coefficient is None and "does not clip" in snapshot.reasons.get("clip_coefficient", ""):
        return rejected(CLIPPING, f"{snapshot.reasons['clip_coefficient']}; {_order(facts)}", evidence)
    if not bad_layers(facts):
        return rejected(CLIPPING, f"{NO_BAD_LAYER}; {_order(facts)}", evidence)
    if snapshot.clip_coefficient == 0:
        amounts = {layer.name: float(layer.num_zero or 0) for layer in bad_layers(facts)}
        return supported(
            CLIPPING, facts, amounts, "the clip coefficient is 0", evidence=evidence, what_to_do=DO_CLIPPING
        )
    return _by_arithmetic(facts, evidence)


def underflow(facts: Facts) -> Finding:
    """Zeros that a type with more range would hold."""
    problem = why_no_zeros(facts)
    if problem is not None:
        return not_testable(UNDERFLOW, problem)
    bad = bad_layers(facts)
    if not bad:
        return rejected(UNDERFLOW, NO_BAD_LAYER)
    found = {layer.name: _underflown(facts, layer) for layer in bad}
    known = {name: zeros for name, zeros in found.items() if zeros}
    evidence = [_type_evidence(facts, layer, found[layer.name]) for layer in bad]
    if any((found[layer.name] or 0) >= facts.warn(layer) * facts.seen(layer) for layer in bad):
        reason = f"zeros of {words_of(list(known))} {_small_words(facts)}"
        return supported(UNDERFLOW, facts, known, reason, evidence=evidence, what_to_do=DO_UNDERFLOW)
    unknown = [name for name, zeros in found.items() if zeros is None]
    if unknown:
        reason = f"nothing but zeros in {words_of(unknown)}: only repeating it in float64 tells underflow"
        return not_testable(UNDERFLOW, reason, GET_FLOAT64, evidence)
    return rejected(UNDERFLOW, _large_words(facts), evidence, share(facts, sum(known.values())))


def first_explosion(history: tuple[PastStep, ...] | list[PastStep]) -> int | None:
    """First step whose norm before clipping is EXPLOSION times the median of those before, or infinite."""
    norms: list[float] = []
    for each in history:
        norm = each.norm_before_clip
        if norm is None:
            continue
        if not math.isfinite(norm):
            return each.step
        if len(norms) >= LEAST_HISTORY and norm >= EXPLOSION * statistics.median(norms) > 0:
            return each.step
        norms.append(norm)
    return None


def first_rise(history: tuple[PastStep, ...] | list[PastStep]) -> int | None:
    """First step with zeros a margin above the run's beginning; None where they never rise."""
    known = [(each.step, each.zero_fraction) for each in history if each.zero_fraction is not None]
    if not known:
        return None
    start = known[0][1]
    return next((step for step, zeros in known if zeros - start >= BASELINE_MARGIN), None)


def _by_arithmetic(facts: Facts, evidence: list[Evidence]) -> Finding:
    """What clipping can have made: only values that it made small, never an exact 0."""
    snapshot = facts.snapshot
    total = snapshot.num_zero or 0
    if facts.pushed_zeros is not None:
        amounts = {name: float(zeros) for name, zeros in facts.pushed_zeros.items() if zeros}
        part = sum(amounts.values()) / total if total else 0.0
        made = f"clipping made {percent(part)} of the zeros"
        if part >= CLIP_SHARE:
            return supported(
                CLIPPING,
                facts,
                amounts,
                f"{made}; {_order(facts)}",
                evidence=evidence,
                what_to_do=DO_CLIPPING,
            )
        return rejected(CLIPPING, f"{made}; {_order(facts)}", evidence, part)
    most = (total - (snapshot.num_exact_zero or 0)) / total if total else 0.0
    if most < CLIP_SHARE and (snapshot.norm or 0.0) > 0:
        kept = f"{percent(1 - most)} of the zeros are exactly 0, and clipping does not make exact zeros"
        return rejected(CLIPPING, f"{kept}; {_order(facts)}", evidence, most)
    if snapshot.clip_coefficient == 1:
        return rejected(CLIPPING, f"nothing was clipped at this step; {_order(facts)}", evidence, 0.0)
    why = snapshot.reasons.get("clip_coefficient") or facts.reasons.get("pushed_zeros", "sizes are not known")
    reason = f"{percent(most)} of the zeros are small rather than 0 and could be clipping's: {why}"
    return not_testable(CLIPPING, reason, GET_CLIPPING, evidence)


def _nonfinite(facts: Facts) -> Finding:
    snapshot = facts.snapshot
    bad = [
        layer for layer in snapshot.layers if layer.num_zero and layer.anatomy and layer.anatomy.whole_layer
    ]
    amounts = {layer.name: float(layer.num_zero or 0) for layer in bad}
    evidence = [
        Evidence(
            measure="gradient values NaN or infinite", value=float(snapshot.num_nonfinite or 0), limit=0.0
        )
    ]
    reason = (
        f"{snapshot.num_nonfinite:,} gradient values are NaN or infinite: a norm that is not finite "
        "spoils or zeroes every gradient that is clipped with it"
    )
    return supported(CLIPPING, facts, amounts, reason, evidence=evidence, what_to_do=DO_CLIPPING)


def _order(facts: Facts) -> str:
    """What came first, in words."""
    history = list(facts.history)
    exploded, rose = first_explosion(history), first_rise(history)
    clipped = next((each.step for each in history if (each.clip_coefficient or 1.0) < 1.0), None)
    start = f"clipping began at step {clipped:,}" if clipped is not None else "nothing was clipped so far"
    norm = f"the norm grew tenfold at step {exploded:,}" if exploded is not None else "no explosion was seen"
    zeros = f"zeros rose at step {rose:,}" if rose is not None else "zeros never rose"
    known = [each for each in history if each.norm_before_clip is not None]
    if len(known) <= LEAST_HISTORY:
        return "too few steps to tell what came first"
    return f"{norm}, {zeros}, {start}" if facts.snapshot.clip_coefficient is not None else f"{norm}, {zeros}"


def _clip_evidence(facts: Facts) -> list[Evidence]:
    snapshot, history = facts.snapshot, list(facts.history)
    found = [
        Evidence(measure="clip coefficient", value=snapshot.clip_coefficient, limit=1.0),
        Evidence(measure="norm before clipping", value=snapshot.norm_before_clip),
        Evidence(
            measure="zeros that are exactly 0",
            value=share(facts, float(snapshot.num_exact_zero or 0)),
            limit=1 - CLIP_SHARE,
            source="a tenth must be clipping's",
        ),
    ]
    for measure, step in (
        ("first explosion, step", first_explosion(history)),
        ("zeros rose, step", first_rise(history)),
    ):
        found.append(Evidence(measure=measure, value=None if step is None else float(step)))
    return found


def _underflown(facts: Facts, layer: LayerGradient) -> float | None:
    """Zeros of one layer that are underflow; None where only float64 could tell."""
    if layer.anatomy is None:
        return None
    if facts.float64_nonzero is not None and layer.name in facts.float64_nonzero:
        others = (dead_zeros(facts, layer) or 0.0) + (saturated_zeros(facts, layer) or 0.0)
        return max(min(facts.float64_nonzero[layer.name], (layer.num_zero or 0) - others), 0.0)
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
    if facts.float64_nonzero is not None:
        return "are none when the batch is repeated in float64"
    types = {layer.dtype for layer in bad_layers(facts) if layer.dtype.startswith(SMALL_TYPES)}
    return f"are scattered through gradients of type {'/'.join(sorted(types))}, which rounds to 0 below 3e-8"


def _large_words(facts: Facts) -> str:
    types = "/".join(sorted({layer.dtype for layer in bad_layers(facts)}))
    if facts.float64_nonzero is not None:
        return "repeated in float64 the zeros stay, or belong to units that are shut"
    return f"gradients are {types}, which holds values far below the largest here"
