"""Words and numbers for dead and saturated units."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradscope.judge.hypothesis_facts import LIMIT_SOURCE, bad_layers, percent, weighty, words_of
from gradscope.judge.hypothesis_network import (
    SATURATED_GATE,
    follower,
    gates,
    num_zero_columns,
    num_zero_rows,
    units_of,
    weight_of,
)
from gradscope.records import Evidence

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradscope.judge.hypothesis_facts import Facts
    from gradscope.records import UnitActivity


def dead_words(facts: Facts, amounts: Mapping[str, float]) -> str:
    """Which units, of how many, and how it is known."""
    layers = [layer for layer in bad_layers(facts) if layer.name in amounts]
    for layer in sorted(layers, key=lambda each: -amounts[each.name]):
        unit = units_of(facts, layer)
        if unit is not None and unit.dead:
            kind = f" ({unit.activation})" if unit.activation else ""
            return (
                f"{len(unit.dead)} of {unit.num_units} units of {unit.layer}{kind} are 0 on all "
                f"{unit.num_rows:,} rows looked at"
            )
    for layer in layers:
        behind, rows = follower(facts, layer), num_zero_rows(facts, layer)
        if behind is not None and rows:
            return (
                f"{rows:.0f} of {layer.shape[0]} units of {weight_of(facts, layer).name} get no gradient, "
                f"nor do {num_zero_columns(facts, behind):.0f} inputs of {behind.name}: nothing comes out"
            )
    return f"zero columns of {words_of(list(amounts))} are dead units of the layer before"


def saturated_words(facts: Facts, amounts: Mapping[str, float]) -> str:
    """Which units are shut, and what lies before them."""
    by_name = {layer.name: layer for layer in facts.snapshot.layers}
    for name in amounts:
        layer = by_name[name]
        shut = gates(facts, layer, dead=False)
        own = units_of(facts, layer)
        unit = shut[0] if shut else own
        if unit is not None and (shut or unit.saturated):
            behind = f", so nothing before it learns ({words_of(list(amounts))})" if shut else ""
            return f"{_shut_words(unit)}{behind}"
    return f"zero rows of {words_of(list(amounts))} are saturated units"


def none_saturated_words(facts: Facts) -> str:
    """Why there is no saturation: of units that were seen, or of the next layer's columns."""
    shares = [each.saturated_fraction for each in facts.units if each.saturated_fraction is not None]
    if shares:
        return f"at most {percent(max(shares))} of any layer's values are saturated"
    rows = any(layer.anatomy and layer.anatomy.dead_unit for layer in bad_layers(facts))
    if rows:
        return "every unit without a gradient gives the next layer nothing: dead, not saturated"
    return "no unit and no layer is without a gradient as a whole"


def _shut_words(unit: UnitActivity) -> str:
    """Whole units where there are any, else the share of all values."""
    kind = unit.activation or "activation"
    if unit.saturated:
        return (
            f"{len(unit.saturated)} of {unit.num_units} units of {unit.layer} ({kind}) have a slope of "
            f"exactly 0 on all {unit.num_rows:,} rows"
        )
    return (
        f"{kind} behind {unit.layer} has a slope of exactly 0 for {percent(unit.saturated_fraction)} of its "
        f"values over {unit.num_rows:,} rows"
    )


def dead_evidence(facts: Facts) -> list[Evidence]:
    """Zero rows of the bad layers, and units that are 0 on every row."""
    rows = [
        Evidence(
            measure=f"share of {layer.name} with no gradient in a whole row",
            value=(layer.anatomy.dead_unit / facts.seen(layer)) if layer.anatomy else None,
            limit=facts.warn(layer),
            source=LIMIT_SOURCE,
        )
        for layer in bad_layers(facts)
        if layer.name in weighty(facts)
    ]
    units = [
        Evidence(measure=f"dead units of {each.layer}", value=float(len(each.dead)))
        for each in facts.units
        if each.dead
    ]
    return [*rows, *units]


def saturated_evidence(facts: Facts) -> list[Evidence]:
    """How much of each layer's outputs is saturated."""
    return [
        Evidence(
            measure=f"saturated share of the outputs of {each.layer}",
            value=each.saturated_fraction,
            limit=SATURATED_GATE,
            source="SageMaker Debugger calls a layer dead from 0.5",
        )
        for each in facts.units
        if each.saturated_fraction is not None
    ]
