"""What the inputs did: flat columns, a shift, a spread of sizes; causes only after an intervention."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING, Final

from gradscope.judge.hypothesis_effects import Removed, removed
from gradscope.judge.hypothesis_facts import (
    LIMIT_SOURCE,
    NO_BAD_LAYER,
    how_to_try,
    not_testable,
    rejected,
    share,
    supported,
    why_no_zeros,
    words_of,
    zero_layers,
)
from gradscope.judge.hypothesis_network import columns_of, feeder, per_column
from gradscope.records import Evidence
from gradscope.settings import SHIFTED_WASSERSTEIN

if TYPE_CHECKING:
    from gradscope.judge.hypothesis_facts import Facts, InputColumns
    from gradscope.records import Finding, LayerGradient, SliceShift

FLAT: Final = "flat-input"
SHIFT: Final = "domain-shift"
SCALE: Final = "scale-mismatch"
SPREAD: Final = 10.0
"""Largest column rms over the median column's: SCIENCE.md section 5, above 10 deserves a word."""
SPREAD_SOURCE: Final = "saturates a tanh"
SIZE_EXPLAINS: Final = 0.5
"""Share of what a flat slice removes that rescaling must remove before size, not novelty, is the cause."""
DO_FLAT: Final = (
    "Nothing, where these inputs are meant to rest; else check the feature pipeline: weights of an input "
    "that never moves cannot learn."
)
DO_SHIFT: Final = (
    "Let training see both regimes early (open small positions from the start), or lower the learning rate "
    "while the new regime is rare."
)
DO_SCALE: Final = (
    "Bring all inputs to one scale: normalise each slice for itself, or put a layer norm for each slice in "
    "front of the first layer."
)


def flat_input(facts: Facts) -> Finding:
    """Zero columns whose input rests on every row, and columns that centering hides."""
    problem = why_no_zeros(facts)
    if problem is not None:
        return not_testable(FLAT, problem)
    if facts.inputs is None:
        return _flat_unknown(facts)
    by_name = {layer.name: layer for layer in facts.snapshot.layers}
    known = {name: each for name, each in facts.inputs.items() if name in by_name}
    flat = {name: each for name, each in known.items() if _flat_share(each) >= facts.warn(by_name[name])}
    evidence = [_flat_evidence(facts, by_name[name], each) for name, each in known.items()]
    amounts = {name: each.num_flat * per_column(facts, by_name[name]) for name, each in known.items()}
    if flat:
        counted = {name: amounts[name] for name in flat}
        return supported(FLAT, facts, counted, _flat_words(flat), evidence=evidence, what_to_do=DO_FLAT)
    resting = {name: each for name, each in known.items() if _flat_share(each)}
    reason = f"{_flat_words(resting)}: too few to count" if resting else "no input of any layer always rests"
    return rejected(FLAT, reason, evidence, share(facts, sum(amounts.values())))


def domain_shift(facts: Facts) -> Finding:
    """The slice moved, and being new rather than large is what makes the zeros."""
    moved = _slice_shift(facts)
    if moved is None or moved.wasserstein is None:
        why = facts.reasons.get("shift") or (moved.reasons.get("wasserstein") if moved else None)
        why = why or "no inputs of this step"
        return not_testable(SHIFT, f"the shift is not known: {why}", how_to_try(why))
    distance, slice_ = moved.wasserstein, facts.slice
    evidence = [
        Evidence(
            measure=f"shift of {slice_}, reference standard deviations",
            value=distance,
            limit=SHIFTED_WASSERSTEIN,
            source="from here on a column counts as shifted",
        )
    ]
    if distance < SHIFTED_WASSERSTEIN:
        reason = f"{slice_} moved by {distance:.2g} standard deviations, below {SHIFTED_WASSERSTEIN}"
        return rejected(SHIFT, reason, evidence)
    real = f"{slice_} did shift ({distance:.2f} standard deviations)"
    problem = why_no_zeros(facts)
    if problem is None and not zero_layers(facts):
        return rejected(SHIFT, f"{real} and does no harm: {NO_BAD_LAYER}", evidence)
    flat, rescaled = removed(facts, "flat"), removed(facts, "rescaled")
    if problem is not None or flat.verdict is None:
        why = problem or flat.why
        return not_testable(SHIFT, f"{real}; whether it makes zeros is not known: {why}", how_to_try(why))
    evidence += [*flat.evidence, *rescaled.evidence]
    return _shift_verdict(facts, real, flat, rescaled, evidence)


def scale_mismatch(facts: Facts) -> Finding:
    """Inputs of one layer differ in size, and rescaling the large ones removes zeros."""
    spread, where = _spread(facts)
    if spread is None:
        why = facts.reasons.get("shift", "no inputs of this step")
        return not_testable(SCALE, f"the sizes of the inputs are not known: {why}", how_to_try(why))
    evidence = [
        Evidence(
            measure="largest column rms over the median's", value=spread, limit=SPREAD, source=SPREAD_SOURCE
        )
    ]
    words = f"the largest input is {spread:.3g} times the median one ({where})"
    if spread <= SPREAD:
        return rejected(SCALE, f"{words}, within {SPREAD:.0f}", evidence)
    problem = why_no_zeros(facts)
    if problem is None and not zero_layers(facts):
        return rejected(SCALE, f"{words} and does no harm: {NO_BAD_LAYER}", evidence)
    found = removed(facts, "rescaled")
    if problem is not None or found.verdict is None:
        why = problem or found.why
        return not_testable(SCALE, f"{words}; whether it makes zeros is not known: {why}", how_to_try(why))
    evidence += found.evidence
    if found.verdict:
        reason = f"{words}; {found.words}"
        return supported(SCALE, facts, found.amounts, reason, evidence=evidence, what_to_do=DO_SCALE)
    return rejected(SCALE, f"{words}, but {found.words}", evidence)


def _shift_verdict(
    facts: Facts, real: str, flat: Removed, rescaled: Removed, evidence: list[Evidence]
) -> Finding:
    if not flat.verdict:
        return rejected(SHIFT, f"{real}, but is not the cause: {flat.brief}", evidence)
    if rescaled.verdict is None:
        reason = (
            f"{real} and {flat.words}; whether size or novelty does it, only rescaling tells: {rescaled.why}"
        )
        return not_testable(SHIFT, reason, how_to_try(rescaled.why), evidence)
    if rescaled.total >= SIZE_EXPLAINS * flat.total:
        reason = f"{real}, but its size is to blame, not that it is new: {rescaled.brief}"
        return rejected(SHIFT, reason, evidence)
    reason = f"{real}; {flat.words}, and rescaling takes few of them away"
    return supported(SHIFT, facts, flat.amounts, reason, evidence=evidence, what_to_do=DO_SHIFT)


def _flat_unknown(facts: Facts) -> Finding:
    """Without knowing who reads the observation: only layers that no other layer feeds could."""
    why = facts.reasons.get("inputs", "the inputs of this step are not known")
    first = [layer for layer in facts.snapshot.layers if _may_be_flat(facts, layer)]
    if not first:
        return rejected(FLAT, "no layer that reads the inputs has as many zero columns as would count")
    names = words_of([layer.name for layer in first])
    reason = f"{names} has zero columns, and whether their inputs rest is not known: {why}"
    return not_testable(FLAT, reason, how_to_try(why))


def _may_be_flat(facts: Facts, layer: LayerGradient) -> bool:
    if layer.anatomy is None or columns_of(layer) is None or feeder(facts, layer) is not None:
        return False
    return layer.anatomy.dead_input / facts.seen(layer) >= facts.warn(layer)


def _flat_share(each: InputColumns) -> float:
    return min((each.num_flat + each.num_parallel) / max(each.num_inputs, 1), 1.0)


def _flat_evidence(facts: Facts, layer: LayerGradient, each: InputColumns) -> Evidence:
    return Evidence(
        measure=f"share of {layer.name}'s inputs at rest",
        value=_flat_share(each),
        limit=facts.warn(layer),
        source=LIMIT_SOURCE,
    )


def _flat_words(flat: dict[str, InputColumns]) -> str:
    name, each = max(flat.items(), key=lambda item: _flat_share(item[1]))
    of = f" (of {words_of(list(each.names))})" if each.names else ""
    hidden = (
        f"; {each.num_parallel} are constant without being 0, so that their gradient doubles the bias'"
        if each.num_parallel
        else ""
    )
    return f"{each.num_flat + each.num_parallel} of {each.num_inputs} inputs of {name}{of} never move{hidden}"


def _slice_shift(facts: Facts) -> SliceShift | None:
    if facts.shift is None:
        return None
    return next((each for each in facts.shift.slices if each.name == facts.slice), None)


def _spread(facts: Facts) -> tuple[float | None, str]:
    """Largest column rms over the median of those that are not 0, and which column that is."""
    slices = facts.shift.slices if facts.shift is not None else ()
    sizes = [
        (column.rms, column.name or f"{each.name} column {column.index}")
        for each in slices
        for column in each.columns
        if column.rms is not None and math.isfinite(column.rms) and column.rms > 0
    ]
    if not sizes:
        return None, ""
    largest, where = max(sizes)
    return largest / statistics.median(size for size, _ in sizes), where
