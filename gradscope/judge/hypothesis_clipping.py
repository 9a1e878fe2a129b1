"""Explosion, then clipping, then vanishing: by order in time and by what clipping can have made."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING, Final

from gradscope.judge.hypothesis_facts import (
    NO_BAD_LAYER,
    not_testable,
    percent,
    rejected,
    share,
    supported,
    why_no_zeros,
    zero_layers,
)
from gradscope.records import Evidence
from gradscope.settings import BASELINE_MARGIN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradscope.judge.hypothesis_facts import Facts, PastStep
    from gradscope.records import Finding

CLIPPING: Final = "explosion-clipping"
EXPLOSION: Final = 10.0
"""Norm before clipping over the median of the steps before: SCIENCE.md 4, a multiple of its own median."""
CLIP_SHARE: Final = 0.10
"""Share of a snapshot's zeros that clipping must have made; the same tenth as the first limit."""
TINY_COEFFICIENT: Final = 1e-30
"""Below, float32 (down to 1e-45) cannot hold what is left of an ordinary gradient."""
LEAST_HISTORY: Final = 3
"""Steps before that a median of the norm needs."""
GET_CLIPPING: Final = (
    "Record a few updates with gradscope.record.GradscopeCallback: it sees the norm before clipping, which "
    "no checkpoint keeps."
)
DO_CLIPPING: Final = (
    "Mend what explodes (reward or target scale) and clip by group, so that one layer's explosion does not "
    "shrink the others."
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
    if not zero_layers(facts):
        return rejected(CLIPPING, f"{NO_BAD_LAYER}; {_order(facts)}", evidence)
    if snapshot.clip_coefficient is not None and snapshot.clip_coefficient < TINY_COEFFICIENT:
        amounts = {layer.name: float(layer.num_zero or 0) for layer in zero_layers(facts)}
        return supported(
            CLIPPING,
            facts,
            amounts,
            f"the clip coefficient is {snapshot.clip_coefficient:.2g}",
            evidence=evidence,
            what_to_do=DO_CLIPPING,
        )
    return _by_arithmetic(facts, evidence)


def first_explosion(history: Sequence[PastStep]) -> int | None:
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


def first_rise(history: Sequence[PastStep]) -> int | None:
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
        made = f"clipping made {percent(part)} of zeros"
        if part >= CLIP_SHARE:
            return supported(
                CLIPPING,
                facts,
                amounts,
                f"{made}; {_order(facts)}",
                evidence=evidence,
                what_to_do=DO_CLIPPING,
            )
        return rejected(CLIPPING, f"{made}{_though(facts)}{_order(facts)}", evidence, part)
    most = (total - (snapshot.num_exact_zero or 0)) / total if total else 0.0
    if most < CLIP_SHARE and (snapshot.norm or 0.0) > 0:
        kept = f"{percent(1 - most)} of the zeros are exactly 0, and clipping does not make exact zeros"
        return rejected(CLIPPING, f"{kept}{_though(facts)}{_order(facts)}", evidence, most)
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
    history = facts.history
    exploded, rose = first_explosion(history), first_rise(history)
    factors = ((each.step, each.clip_coefficient) for each in history)
    clipped = next((step for step, factor in factors if factor is not None and factor < 1), None)
    start = f"clipped from {clipped:,}" if clipped is not None else "nothing clipped so far"
    norm = f"exploded at step {exploded:,}" if exploded is not None else "no explosion"
    zeros = f"zeros from {rose:,}" if rose is not None else "zeros never rose"
    known = [each for each in history if each.norm_before_clip is not None]
    if len(known) <= LEAST_HISTORY:
        return "too few steps to tell what came first"
    return f"{norm}, {start}, {zeros}" if facts.snapshot.clip_coefficient is not None else f"{norm}, {zeros}"


def _though(facts: Facts) -> str:
    """What leads over to the order in time: that it alone would fit, where it would."""
    exploded, rose = first_explosion(facts.history), first_rise(facts.history)
    fits = exploded is not None and rose is not None and exploded <= rose
    return ", though the order fits: " if fits else "; "


def _clip_evidence(facts: Facts) -> list[Evidence]:
    snapshot, history = facts.snapshot, facts.history
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
