"""Optimizer state whose parameters stand in several groups: named where only one name can be meant.

Hugging Face's Trainer puts parameters with weight decay first and those without after them, each group in
the model's order. Safetensors keep names in order of the alphabet, so that order is lost; what is left are
shapes. A number gets a name where it alone has its shape among the numbers, and the name alone among the
names. Where the weights keep the model's order (torch's own files), both groups are filled in that order:
the tensors of two or more dimensions, then the others, if the groups have just these sizes.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from gradscope.read.optimizer_numbers import are_bounded
from gradscope.read.optimizer_state import NOT_MATCHED, NamedMoments, named_moments, settings_of, why_empty
from gradscope.read.pickle_stubs import is_text_keyed
from gradscope.read.stored_tensor import StoredTensor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Tensors = Mapping[str, StoredTensor]
    Group = Mapping[str, object]

SHARED_SHAPE: Final = "the optimizer numbers its parameters in groups, and several have this shape"


def moments_in_groups(optimizer: object, weights: Tensors, *, is_in_order: bool) -> NamedMoments:
    """State by parameter name, as far as it can be told.

    Args:
        optimizer: what ``optimizer.state_dict()`` gave.
        weights: parameters by name.
        is_in_order: whether ``weights`` stand in the model's order.
    """
    groups = _groups(optimizer)
    states = optimizer.get("state") if is_text_keyed(optimizer) else None
    if not groups or not isinstance(states, dict) or not are_bounded(groups):
        return NamedMoments(reason=NOT_MATCHED)
    if not any(states.values()):
        return NamedMoments(reason=why_empty(settings_of(groups[0])))
    if any("param_names" in group for group in groups):
        return named_moments(optimizer, [weights])
    once = _without_twins(weights)
    for names in _in_order(groups, once) if is_in_order else ():
        found = named_moments(_renamed(states, groups, names), [once])
        if found.states:
            return found
    names = _by_shape(states, groups, once)
    found = named_moments(_renamed(states, groups, names), [once])
    return NamedMoments(states=found.states, reason=SHARED_SHAPE if names else NOT_MATCHED)


def _groups(optimizer: object) -> list[Group]:
    listed = optimizer.get("param_groups") if is_text_keyed(optimizer) else None
    if not isinstance(listed, list):
        return []
    return [each for each in listed if is_text_keyed(each) and isinstance(each.get("params"), list)]


def _numbers(group: Group) -> list[object]:
    params = group.get("params")
    return params if isinstance(params, list) else []


def _in_order(groups: Sequence[Group], weights: Tensors) -> tuple[Mapping[object, str], ...]:
    decayed = [name for name, each in weights.items() if len(each.shape) > 1]
    others = [name for name, each in weights.items() if len(each.shape) <= 1]
    filled = [numbers for group in groups if (numbers := _numbers(group))]
    if [len(each) for each in filled] != [len(each) for each in (decayed, others) if each]:
        return ()
    numbers = [each for group in filled for each in group]
    return (dict(zip(numbers, (*decayed, *others), strict=True)),)


def _by_shape(
    states: Mapping[object, object], groups: Sequence[Group], weights: Tensors
) -> Mapping[object, str]:
    """Numbers that can have one name only; none where numbers and names do not agree as a whole."""
    numbers = [each for group in groups for each in _numbers(group)]
    shapes = {number: _shape(states.get(number)) for number in numbers}
    of_numbers, of_names = Counter(shapes.values()), Counter(each.shape for each in weights.values())
    if of_numbers != of_names or len(shapes) != len(numbers):
        return {}
    names = {each.shape: name for name, each in weights.items()}
    return {
        number: names[shape] for number, shape in shapes.items() if shape is not None and of_names[shape] == 1
    }


def _shape(state: object) -> tuple[int, ...] | None:
    """Of a parameter: that of its moments; None where there are none, or they differ (Adafactor)."""
    if not is_text_keyed(state):
        return None
    shapes = {each.shape for key, each in state.items() if isinstance(each, StoredTensor) and key != "step"}
    return shapes.pop() if len(shapes) == 1 else None


def _renamed(states: Mapping[object, object], groups: Sequence[Group], names: Mapping[object, str]) -> object:
    """The optimizer with a group for each parameter that has a name."""
    settings = [({**group, "params": [number]}, number) for group in groups for number in _numbers(group)]
    kept = [
        ({**group, "param_names": [names[number]]}, number) for group, number in settings if number in names
    ]
    return {
        "state": {number: states[number] for _, number in kept if number in states},
        "param_groups": [group for group, _ in kept],
    }


def _without_twins(tensors: Tensors) -> Tensors:
    """Tied weights once, under their first name."""
    first: dict[tuple[object, ...], str] = {}
    for name, tensor in tensors.items():
        first.setdefault(tensor.identity, name)
    return {name: tensor for name, tensor in tensors.items() if first[tensor.identity] == name}
