"""Optimizer state of some of a state dict's tensors: the others are buffers, or second names of tied weights.

``Module.parameters()`` keeps the order of the state dict, and so does each group of an optimizer built from
it. So a group's numbers stand for names in that order, and shapes tell which: the first and the last place
that a number can have are found from both ends (each number is given the first free tensor of its shape),
and where these are one, no other name can be meant. Believed only where the optimizer has a number for
whatever torch's layers call their parameters (weight, bias, ...), and for most of the rest: else it may as
well be another network's, or alpha's. Numbers with several possible places stay without a name, as do those
of networks that could change places (an actor and its target), and those that the order of the alphabet,
minGPT's, would give to another.
"""

from __future__ import annotations

import re
from functools import lru_cache
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
_PARAMETER: Final = re.compile(
    r"(weight|bias)(_[ih]h_l[0-9]+(_reverse)?|_hr_l[0-9]+|_[gv])?|(in|q|k|v)_proj_(weight|bias)|original[01]|bias_[kv]"
)
"""What torch's layers call them; a buffer may be called action_bias."""
MAX_WORK: Final = 1_000_000
"""Places looked at for one optimizer; more are no honest file's."""
_FACTORS: Final = {"exp_avg_sq_row", "exp_avg_sq_col"}
"""Adafactor's state: neither has the parameter's shape."""
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
    once = _possible([without_twins(pool) for pool in pools], len(numbers), len(groups))
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


def _possible(pools: Sequence[Tensors], count: int, num_groups: int) -> list[Tensors]:
    """Pools that have a tensor for each number and no more parameters than there are numbers."""
    found = [
        pool
        for pool in pools
        if count <= len(pool) and len(pool) <= 2 * count and sum(map(_is_parameter, pool)) <= count
    ]
    return found if num_groups * sum(map(len, found)) <= MAX_WORK else []


@lru_cache(maxsize=1 << 16)
def _is_parameter(name: str) -> bool:
    return _PARAMETER.fullmatch(name.rpartition(".")[2]) is not None


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
    tensors = state_of(state, {}).tensors
    shapes = set() if _FACTORS & tensors.keys() else {each.shape for each in tensors.values()} - {()}
    return shapes.pop() if len(shapes) == 1 else None


def _names(
    groups: Sequence[Mapping[str, object]], shapes: Mapping[object, Shape | None], pool: Tensors
) -> Mapping[object, str | None] | None:
    """The only name of each number, None where there are several; None where a group does not fit at all."""
    found: dict[object, str | None] = {}
    order = list(pool)
    sizes = [each.shape for each in pool.values()]
    alike, backwards = interchangeable(pool), sizes[::-1]
    reached: set[int] = set()
    for group in groups:
        numbers = numbers_of(group)
        if not numbers:
            continue
        wanted = [shapes[number] for number in numbers]
        first, last = _places(wanted, sizes), _places(wanted[::-1], backwards)
        if first is None or last is None:
            return None
        last = [len(order) - 1 - place for place in reversed(last)]
        loose = alike | _loose(pool, order, first) | _loose(pool, order, last)
        for number, low, high in zip(numbers, first, last, strict=True):
            reached.update((low, high))
            found[number] = order[low] if low == high and order[low] not in loose else None
    given = [name for name in found.values() if name is not None]
    missed = (name for place, name in enumerate(order) if place not in reached and _is_parameter(name))
    return found if len(set(given)) == len(given) and next(missed, None) is None else None


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
