"""Which units and inputs of a layer are dead, by name and since when, in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gradscope.show.rows import count, number, plural, safe

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gradscope.records import DeadSince, LayerGradient, ZeroDetails

MOST_NAMES: Final = 3
"""Inputs named in a line; a slice that is dead as a whole says more."""
LEAST_SHARED: Final = 2
"""One dead input at the place of one dead unit may be chance."""
_MATRIX: Final = 2


def dead_words(layer: LayerGradient, layers: Sequence[LayerGradient]) -> str:
    """What stands behind a layer's dead units and inputs; "" where the counts say it all.

    Args:
        layer: the one spoken of.
        layers: of the same snapshot; a bias whose weight says the same says nothing.
    """
    details = layer.details
    if details is None or not layer.num_zero:
        return ""
    is_whole = bool(layer.anatomy and layer.anatomy.whole_layer)
    parts = [] if is_whole or _is_said_by_weight(layer, layers) else [_units(details)]
    parts += [] if is_whole else [_inputs(layer, details, layers)]
    parts += [_parallel(details)]
    return "; ".join(part for part in parts if part)


def _units(details: ZeroDetails) -> str:
    if details.untaken_actions:
        return _untaken(details.untaken_actions)
    if not details.num_dead_units:
        return ""
    return (
        f"{plural(details.num_dead_units, 'dead unit')}{_since(details.units_since, details.num_dead_units)}"
    )


def _untaken(actions: Sequence[int]) -> str:
    names = ", ".join(map(str, actions[:MOST_NAMES]))
    more = f" and {len(actions) - MOST_NAMES} more" if len(actions) > MOST_NAMES else ""
    return f"rows of {'an action' if len(actions) == 1 else 'actions'} never taken: {names}{more}"


def _since(since: DeadSince | None, dead: int) -> str:
    if since is None or since.num_same is None or since.num_before is None:
        return ""
    step, same, before = count(since.previous_step), since.num_same, since.num_before
    if not same:
        return f", none of them dead at step {step}"
    kept = f"the {before:,}" if same == before else f"{same:,} of the {before:,}"
    new = f" and {dead - same:,} new" if dead > same else ""
    return f", {kept} of step {step}{new}{_oldest(since.since, since.previous_step)}"


def _oldest(since: Mapping[str, int], previous: int | None) -> str:
    steps = [int(step) for step in since]
    oldest = min(steps, default=0)
    if previous is None or oldest >= previous:
        return ""
    return f", {since[str(oldest)]:,} since step {count(oldest)}"


def _inputs(layer: LayerGradient, details: ZeroDetails, layers: Sequence[LayerGradient]) -> str:
    if not details.num_dead_inputs:
        return ""
    names, dead = details.input_names, details.dead_inputs
    if names:
        return f"no gradient from {_named(dead, details.num_dead_inputs, details)}"
    below = _layer_below(layer, dead, layers)
    return f"{plural(len(dead), 'dead input')}, at {below}'s dead units" if below else ""


def _named(places: Sequence[int], number_of: int, details: ZeroDetails) -> str:
    """position_size_long and 6 more (slice position)."""
    slices = dict.fromkeys(details.input_slices.get(str(each), "") for each in places)
    one = f" (slice {safe(next(iter(slices)))})" if len(slices) == 1 and "" not in slices else ""
    most = 1 if one and len(places) > LEAST_SHARED else MOST_NAMES
    shown = [safe(details.input_names[str(each)]) for each in places[:most]]
    left = number_of - len(shown)
    more = f" and {left:,} more" if left else ""
    return f"{', '.join(shown)}{more}{one}"


def _layer_below(layer: LayerGradient, dead: Sequence[int], layers: Sequence[LayerGradient]) -> str:
    """The layer whose dead units are these inputs; "" where none or several could be."""
    if len(dead) < LEAST_SHARED or len(layer.shape) < _MATRIX:
        return ""
    fitting = [
        each.name
        for each in layers
        if each.details and each.name != layer.name
        if len(each.shape) >= _MATRIX and each.shape[0] == layer.shape[1]
        if tuple(each.details.dead_units) == tuple(dead)
    ]
    return (
        unique_end(fitting[0], [each.name for each in layers]).rpartition(".")[0] if len(fitting) == 1 else ""
    )


def unique_end(name: str, names: Sequence[str]) -> str:
    """The last parts of a layer's name, two at least, that no other layer's ends with."""
    parts = name.split(".")
    for length in range(2, len(parts)):
        end = ".".join(parts[-length:])
        if sum(each == end or each.endswith(f".{end}") for each in names) == 1:
            return safe(end)
    return safe(name)


def _parallel(details: ZeroDetails) -> str:
    if not details.num_parallel_inputs:
        return ""
    places = details.parallel_inputs
    if not details.input_names:
        return f"{plural(details.num_parallel_inputs, 'input')} never moved, at values other than 0"
    named = _named(places, details.num_parallel_inputs, details)
    return f"never moved: {named}, at {number(details.parallel_constants[0])}"


def _is_said_by_weight(layer: LayerGradient, layers: Sequence[LayerGradient]) -> bool:
    """Whether a matrix of the same module has the same dead units."""
    if len(layer.shape) >= _MATRIX or layer.details is None:
        return False
    owner, dead = layer.name.rpartition(".")[0], tuple(layer.details.dead_units)
    return any(
        each.name.rpartition(".")[0] == owner and tuple(each.details.dead_units) == dead
        for each in layers
        if each.details and len(each.shape) >= _MATRIX
    )
