"""Optimizer state of some of a state dict's tensors: the others are buffers, frozen or tied.

``Module.parameters()``, whatever is filtered out of it, keeps the order of the state dict, and so does
each group of an optimizer built from it. So a group's numbers stand for names in that order, and shapes
tell which: the first and the last place that a number can have are found from both ends (each number is
given the first free tensor of its shape), and where these are one, no other name can be meant. Numbers
with several possible places stay without a name, as do those of networks that could change places (an
actor and its target), and those that the order of the alphabet, minGPT's, would give to another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gradscope.read.optimizer_numbers import are_bounded, distinct, parameter_numbers
from gradscope.read.optimizer_state import (
    AMBIGUOUS,
    NEVER_REACHED,
    NOT_MATCHED,
    NOT_OWNED,
    Moments,
    NamedMoments,
    groups_of,
    interchangeable,
    numbers_of,
    settings_of,
    state_of,
    why_empty,
)
from gradscope.read.pickle_stubs import is_text_keyed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gradscope.read.stored_tensor import StoredTensor

    Tensors = Mapping[str, StoredTensor]
    Shape = tuple[int, ...]

TIED: Final = "it is the same tensor as {}, where its moments are told"
_SHOWN: Final = 80


def moments_within(optimizer: object, pools: Sequence[Tensors]) -> NamedMoments:
    """State by name, of the numbers that can have one name only in every pool that they fit into.

    ``pools``: tensors that the optimizer may own some of, each in the order of its state dict.
    """
    states = optimizer.get("state") if is_text_keyed(optimizer) else None
    groups = groups_of(optimizer)
    is_named = any("param_names" in group for group in groups)
    numbers = parameter_numbers(groups) if are_bounded(groups) and not is_named else []
    if not isinstance(states, dict) or not numbers or len(distinct(states.values())) < len(states):
        return NamedMoments(reason=NOT_MATCHED)
    if not any(states.values()):
        return NamedMoments(reason=why_empty(settings_of(groups[0])))
    shapes = {number: _shape(states.get(number)) for number in numbers}
    once = [without_twins(pool) for pool in pools]
    fitting = [names for pool in once if (names := _names(groups, shapes, pool)) is not None]
    if not fitting:
        return NamedMoments(reason=NOT_MATCHED)
    sorted_too = [_names(groups, shapes, dict(sorted(pool.items()))) for pool in once]
    possible = [*fitting, *(names for names in sorted_too if names is not None)]
    sure = {
        number: name
        for number, name in fitting[0].items()
        if name is not None and all(each[number] == name for each in possible)
    }
    settings = {number: settings_of(group) for group in groups for number in numbers_of(group)}
    found = {name: state_of(states.get(number), settings[number]) for number, name in sure.items()}
    held = {name: each for name, each in found.items() if each.tensors}
    return NamedMoments(
        states=held,
        reasons={**{name: NEVER_REACHED for name in found if name not in held}, **_of_twins(held, pools)},
        reason=NOT_OWNED if len(sure) == len(numbers) else AMBIGUOUS,
    )


def without_twins(tensors: Tensors) -> Tensors:
    """Tied weights once, under their first name, as ``Module.parameters()`` gives them."""
    twins = _twins(tensors)
    return {name: tensor for name, tensor in tensors.items() if name not in twins}


def _twins(tensors: Tensors) -> Mapping[str, str]:
    """Further names of one tensor, and its first."""
    first: dict[tuple[object, ...], str] = {}
    for name, tensor in tensors.items():
        if tensor.made is None:
            first.setdefault(tensor.identity, name)
    return {
        name: first[tensor.identity]
        for name, tensor in tensors.items()
        if tensor.made is None and first[tensor.identity] != name
    }


def _of_twins(held: Mapping[str, Moments], pools: Sequence[Tensors]) -> Mapping[str, str]:
    return {
        twin: TIED.format(name[:_SHOWN])
        for pool in pools
        for twin, name in _twins(pool).items()
        if name in held and twin not in held
    }


def _shape(state: object) -> Shape | None:
    """Of a parameter: that of its moments; None where none tells it (no state, scalars, Adafactor)."""
    shapes = {each.shape for each in state_of(state, {}).tensors.values()} - {()}
    return shapes.pop() if len(shapes) == 1 else None


def _names(
    groups: Sequence[Mapping[str, object]], shapes: Mapping[object, Shape | None], pool: Tensors
) -> Mapping[object, str | None] | None:
    """The only name of each number, None where there are several; None where a group does not fit at all."""
    found: dict[object, str | None] = {}
    order = list(pool)
    sizes = [each.shape for each in pool.values()]
    alike = interchangeable(pool)
    for group in groups:
        numbers = numbers_of(group)
        wanted = [shapes[number] for number in numbers]
        first, last = _places(wanted, sizes), _places(wanted[::-1], sizes[::-1])
        if first is None or last is None:
            return None
        last = [len(order) - 1 - place for place in reversed(last)]
        loose = alike | _loose(pool, order, first) | _loose(pool, order, last)
        for number, low, high in zip(numbers, first, last, strict=True):
            found[number] = order[low] if low == high and order[low] not in loose else None
    given = [name for name in found.values() if name is not None]
    return found if len(set(given)) == len(given) else None


def _loose(pool: Tensors, order: Sequence[str], places: Sequence[int]) -> frozenset[str]:
    return interchangeable({order[place]: pool[order[place]] for place in places})


def _places(wanted: Sequence[Shape | None], sizes: Sequence[Shape]) -> list[int] | None:
    """The first places, in order, of tensors of these shapes; None where there are none."""
    found: list[int] = []
    place = 0
    for shape in wanted:
        while place < len(sizes) and shape is not None and sizes[place] != shape:
            place += 1
        if place == len(sizes):
            return None
        found.append(place)
        place += 1
    return found
