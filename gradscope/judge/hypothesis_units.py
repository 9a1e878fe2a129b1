"""Dead and saturated units: zero rows, the columns behind them, and layers shut off as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gradscope.judge.hypothesis_facts import (
    NO_BAD_LAYER,
    bad_layers,
    how_to_try,
    not_testable,
    percent,
    rejected,
    share,
    supported,
    why_no_zeros,
    words_of,
    worst_fraction,
    zero_layers,
)
from gradscope.judge.hypothesis_network import (
    feeder,
    follower,
    gates,
    num_zero_columns,
    num_zero_rows,
    per_column,
    per_row,
    units_of,
    untaken_zeros,
)
from gradscope.judge.hypothesis_unit_words import (
    dead_evidence,
    dead_words,
    none_saturated_words,
    saturated_evidence,
    saturated_words,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradscope.judge.hypothesis_facts import Facts
    from gradscope.records import Evidence, Finding, LayerGradient, UnitActivity

    Amount = Callable[[Facts, LayerGradient], float | None]

DEAD: Final = "dead-units"
SATURATION: Final = "saturation"
AS_FRESH: Final = "no layer has more zeros than a fresh network has on the same rows"
NO_UNITS: Final = "no activation was seen"
REVIVE: Final = (
    "Normalise what comes into these units (each slice of the input for itself) or lower the learning rate; "
    "units that are dead already come back only when they are recycled."
)
UNSATURATE: Final = (
    "Bring what drives these units back to order 1: scale rewards or targets, put a layer norm before the "
    "activation, or lower the learning rate; clipping or input scaling cannot reopen a unit whose slope is 0."
)


def dead_units(facts: Facts) -> Finding:
    """Zero rows whose units are 0 on every row of data, and the zero columns behind them."""
    problem = why_no_zeros(facts)
    if problem is not None:
        return not_testable(DEAD, problem)
    amounts, unknown = _amounts(facts, dead_zeros)
    evidence = dead_evidence(facts)
    if _counts(facts, amounts):
        found = _material(amounts)
        return supported(DEAD, facts, found, dead_words(facts, found), evidence=evidence, what_to_do=REVIVE)
    if unknown:
        why = facts.reasons.get("units", NO_UNITS)
        reason = f"zeros of {words_of(unknown)} may be dead units, and {why}"
        return not_testable(DEAD, reason, how_to_try(why), evidence)
    return _rejected(facts, DEAD, amounts, "dead units", evidence)


def saturation(facts: Facts) -> Finding:
    """Zero rows and whole layers behind units whose slope is 0 although their output is not."""
    problem = why_no_zeros(facts)
    if problem is not None:
        return not_testable(SATURATION, problem)
    amounts, unknown = _amounts(facts, saturated_zeros)
    evidence = saturated_evidence(facts)
    if _counts(facts, amounts):
        found = _material(amounts)
        return supported(
            SATURATION, facts, found, saturated_words(facts, found), evidence=evidence, what_to_do=UNSATURATE
        )
    if unknown:
        why = facts.reasons.get("units", NO_UNITS)
        reason = f"zeros of {words_of(unknown)} may be saturation, and {why}"
        return not_testable(SATURATION, reason, how_to_try(why), evidence)
    if bad_layers(facts) and not any(amounts.values()):
        return rejected(SATURATION, none_saturated_words(facts), evidence, 0.0)
    return _rejected(facts, SATURATION, amounts, "saturated units", evidence)


def dead_zeros(facts: Facts, layer: LayerGradient) -> float | None:
    """Zeros of one layer that dead units make, over all batches; None where that is not known."""
    anatomy = layer.anatomy
    if anatomy is None:
        return None
    parts = [
        _zeros_of_rows(facts, layer, lambda unit: len(unit.dead), _confirmed_dead),
        _zeros_of_columns(facts, layer),
        _zeros_of_whole(facts, layer, dead=True),
    ]
    return None if any(part is None for part in parts) else sum(part or 0.0 for part in parts)


def saturated_zeros(facts: Facts, layer: LayerGradient) -> float | None:
    """Zeros of one layer that saturated units make, over all batches; None where that is not known."""
    if layer.anatomy is None:
        return None
    rows = _zeros_of_rows(facts, layer, lambda unit: len(unit.saturated), _none_saturated)
    whole = _zeros_of_whole(facts, layer, dead=False)
    return None if rows is None or whole is None else rows + whole


def _zeros_of_rows(
    facts: Facts, layer: LayerGradient, count: Callable[[UnitActivity], int], without: Amount
) -> float | None:
    assert layer.anatomy is not None
    if layer.anatomy.dead_unit <= untaken_zeros(facts, layer):
        return 0.0
    unit = units_of(facts, layer)
    if unit is None:
        return without(facts, layer)
    return min(float(layer.anatomy.dead_unit), count(unit) * per_row(facts, layer))


def _confirmed_dead(facts: Facts, layer: LayerGradient) -> float | None:
    """Without activations: zero rows whose columns in the next layer are zero too put out nothing."""
    assert layer.anatomy is not None
    behind = follower(facts, layer)
    if behind is None:
        return None
    return min(float(layer.anatomy.dead_unit), num_zero_columns(facts, behind) * per_row(facts, layer))


def _none_saturated(facts: Facts, layer: LayerGradient) -> float | None:
    """Without activations: none where every zero row is confirmed dead; else it cannot be told."""
    confirmed = _confirmed_dead(facts, layer)
    assert layer.anatomy is not None
    rest = layer.anatomy.dead_unit - (confirmed or 0.0)
    return None if confirmed is None or rest / facts.seen(layer) >= facts.warn(layer) else 0.0


def _zeros_of_columns(facts: Facts, layer: LayerGradient) -> float | None:
    """Zero columns whose inputs are dead units of the layer before."""
    assert layer.anatomy is not None
    before = feeder(facts, layer)
    if not layer.anatomy.dead_input or before is None or _reads_observation(facts, layer):
        return 0.0
    unit = units_of(facts, before)
    num_dead = len(unit.dead) if unit is not None else num_zero_rows(facts, before)
    return min(float(layer.anatomy.dead_input), num_dead * per_column(facts, layer))


def _reads_observation(facts: Facts, layer: LayerGradient) -> bool:
    return facts.inputs is not None and layer.name in facts.inputs


def _zeros_of_whole(facts: Facts, layer: LayerGradient, *, dead: bool) -> float | None:
    assert layer.anatomy is not None
    if not layer.anatomy.whole_layer:
        return 0.0
    if gates(facts, layer, dead=dead):
        return float(layer.anatomy.whole_layer)
    if gates(facts, layer, dead=not dead):
        return 0.0
    return 0.0 if facts.units else None


def _amounts(facts: Facts, amount: Amount) -> tuple[dict[str, float], list[str]]:
    """Zeros by bad layer, and the bad layers of which they are not known."""
    found = {layer.name: amount(facts, layer) for layer in bad_layers(facts)}
    known = {name: zeros for name, zeros in found.items() if zeros is not None}
    return known, [name for name, zeros in found.items() if zeros is None]


def _counts(facts: Facts, amounts: dict[str, float]) -> bool:
    """Whether in any layer these zeros alone would reach its first limit."""
    by_name = {layer.name: layer for layer in facts.snapshot.layers}
    return any(
        zeros >= facts.warn(by_name[name]) * facts.seen(by_name[name]) for name, zeros in amounts.items()
    )


def _material(amounts: dict[str, float]) -> dict[str, float]:
    """Layers with any such zeros, most first."""
    return {name: zeros for name, zeros in sorted(amounts.items(), key=lambda each: -each[1]) if zeros}


def _rejected(
    facts: Facts, code: str, amounts: dict[str, float], what: str, evidence: list[Evidence]
) -> Finding:
    if not bad_layers(facts):
        return rejected(code, AS_FRESH if zero_layers(facts) else NO_BAD_LAYER, evidence)
    part = share(facts, sum(amounts.values()))
    most = percent(worst_fraction(facts, amounts))
    return rejected(code, f"{what} make at most {most} of any layer's gradient zero", evidence, part)
