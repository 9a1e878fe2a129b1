"""Which layers belong together, told by names, order and shapes, and which zeros whose units explain."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from gradscope.judge.hypothesis_facts import Facts
    from gradscope.records import LayerGradient, UnitActivity

SATURATED_GATE: Final = 0.5
"""Share of (row, unit) pairs from which a layer lets no gradient through: SageMaker Debugger's dead share."""
SIDE_BY_SIDE: Final = ({"policy_net", "value_net"}, {"actor", "critic"}, {"lstm_actor", "lstm_critic"})
"""Names of networks of one policy that do not feed each other."""
MATRIX: Final = 2
_CRITIC: Final = re.compile(r"critic\.qf\d+\.")
"""SAC: the actor's loss is what these say of its actions, the lowest of them."""
_FIRST_CRITIC: Final = re.compile(r"critic\.qf0\.")
_TD3_ACTOR: Final = re.compile(r"actor\.mu\.\d+\.")
"""TD3, DDPG: the actor's loss is what the first critic says."""


def columns_of(layer: LayerGradient) -> int | None:
    """Inputs of a weight [out, in, ...]; None for one dimension."""
    return layer.shape[1] if len(layer.shape) >= MATRIX else None


def per_row(facts: Facts, layer: LayerGradient) -> float:
    """Elements behind one unit, over all batches."""
    return facts.seen(layer) / max(layer.shape[0] if layer.shape else 1, 1)


def per_column(facts: Facts, layer: LayerGradient) -> float:
    """Elements behind one input, over all batches."""
    return facts.seen(layer) / max(columns_of(layer) or 1, 1)


def untaken_zeros(facts: Facts, layer: LayerGradient) -> float:
    """Zeros in rows of actions that were never taken."""
    if layer.anatomy is None or layer.details is None or not layer.details.untaken_actions:
        return 0.0
    num_dead = max(layer.details.num_dead_units, 1)
    untaken = min(len(layer.details.untaken_actions), num_dead)
    return min(untaken * per_row(facts, layer), float(layer.anatomy.dead_unit))


def num_zero_rows(facts: Facts, layer: LayerGradient) -> float:
    """Units with no gradient at all, mean over batches; columns counted as dead inputs are no part of it."""
    if layer.anatomy is None or not layer.anatomy.dead_unit:
        return 0.0
    row = per_row(facts, layer) - layer.anatomy.dead_input / max(layer.shape[0], 1)
    return layer.anatomy.dead_unit / row if row else 0.0


def num_zero_columns(facts: Facts, layer: LayerGradient) -> float:
    """Inputs that no unit has a gradient for, mean over batches."""
    if layer.anatomy is None or columns_of(layer) is None:
        return 0.0
    return layer.anatomy.dead_input / per_column(facts, layer)


def units_of(facts: Facts, layer: LayerGradient) -> UnitActivity | None:
    """The units that a weight's rows, or its bias' elements, make."""
    module = _module(layer.name)
    same = [each for each in facts.units if each.layer == layer.name]
    alike = [each for each in facts.units if _module(each.layer) == module]
    found = next(iter(same or alike), None)
    return found if found is not None and layer.shape and found.num_units == layer.shape[0] else None


def weight_of(facts: Facts, layer: LayerGradient) -> LayerGradient:
    """The weight beside a bias; a weight is its own."""
    if len(layer.shape) >= MATRIX:
        return layer
    module = _module(layer.name)
    alike = (each for each in facts.snapshot.layers if _module(each.name) == module)
    return next((each for each in alike if len(each.shape) >= MATRIX), layer)


def follower(facts: Facts, layer: LayerGradient) -> LayerGradient | None:
    """The next layer of the same network that has one input for each unit of this one."""
    weight = weight_of(facts, layer)
    layers = list(facts.snapshot.layers)
    later = layers[layers.index(weight) + 1 :]
    fits = [each for each in later if columns_of(each) == weight.shape[0] and _alike(each, weight)]
    return fits[0] if fits and fits[0].anatomy is not None else None


def feeder(facts: Facts, layer: LayerGradient) -> LayerGradient | None:
    """The layer of the same network whose units are this one's inputs; None where there is none before it."""
    layers = list(facts.snapshot.layers)
    earlier = layers[: layers.index(layer)]
    wide = [each for each in earlier if len(each.shape) >= MATRIX and each.shape[0] == columns_of(layer)]
    fits = [each for each in wide if _alike(each, layer)]
    return fits[-1] if fits else None


def gates(facts: Facts, layer: LayerGradient, *, dead: bool) -> list[UnitActivity]:
    """Layers behind this one in the same network whose units let no gradient through.

    Args:
        facts: of the snapshot.
        layer: one that has no gradient at all.
        dead: units that are 0 on every row; else saturated ones.
    """
    names = [each.name for each in facts.snapshot.layers]
    place = names.index(weight_of(facts, layer).name)
    behind = [each for each in facts.units if each.layer in names[place:]]
    return [each for each in behind if _closed(each, dead=dead) and _is_fed(each.layer, layer.name)]


def _is_fed(later: str, earlier: str) -> bool:
    """Whether gradients come by one layer to the other: an actor's come through the critic of its actions."""
    critic = _FIRST_CRITIC if _TD3_ACTOR.match(earlier) else _CRITIC
    is_judged = earlier.startswith("actor.") and critic.match(later) is not None
    return is_judged or _share_network(later, earlier)


def _closed(unit: UnitActivity, *, dead: bool) -> bool:
    if dead:
        return unit.num_units > 0 and len(unit.dead) == unit.num_units
    whole = unit.num_units > 0 and len(unit.saturated) == unit.num_units
    return whole or (unit.saturated_fraction or 0.0) >= SATURATED_GATE


def _module(name: str) -> str:
    return name.rpartition(".")[0]


def _alike(one: LayerGradient, other: LayerGradient) -> bool:
    return _share_network(one.name, other.name)


def _share_network(one: str, other: str) -> bool:
    """Whether the names begin with the same part: critic.qf0.2 and critic.qf1.2 are two networks."""
    first, second = _path(one), _path(other)
    least = min(len(first), len(second))
    shared = next((at for at in range(least) if first[at] != second[at]), least)
    return shared > 0 and not (shared < least and _twins(first[shared], second[shared]))


def _path(name: str) -> list[str]:
    return name.split(".")[:-1]


def _twins(one: str, other: str) -> bool:
    """qf0 and qf1 are the same word with another number; policy_net and value_net stand side by side."""
    bare = one.rstrip("0123456789")
    numbered = bool(bare) and bare == other.rstrip("0123456789") and one != other
    return numbered or any({one, other} == pair for pair in SIDE_BY_SIDE)
