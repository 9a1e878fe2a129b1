"""Which optimizer state belongs to which parameter. Claimed only where it can be nothing else.

``optimizer.state_dict()`` numbers parameters through all groups and names none, unless the
optimizer was built from named parameters (then groups hold ``param_names``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradscope.read.pickle_stubs import is_text_keyed
from gradscope.read.stored_tensor import StoredTensor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    State = Mapping[str, StoredTensor]


def moments_by_name(
    optimizer: object, candidates: Sequence[Mapping[str, StoredTensor]]
) -> Mapping[str, State] | None:
    """Optimizer state by parameter name, or None where no order of the parameters fits.

    ``candidates`` are the orders that the producing library may have used, the likeliest first;
    one fits where its length is the optimizer's number of parameters and every shape agrees.
    An optimizer that has not stepped gives {}.
    """
    states = _states(optimizer)
    groups = _groups(optimizer)
    if states is None or not groups:
        return None
    numbers = [number for group in groups for number in _list(group.get("params"))]
    if len(set(map(str, numbers))) != len(numbers):
        return None
    shapes = candidates[0] if candidates else {}
    names = [name for group in groups for name in _list(group.get("param_names"))]
    if len(names) == len(numbers) and all(isinstance(name, str) for name in names):
        orders: Sequence[Mapping[str, StoredTensor]] = [
            {str(name): shapes[str(name)] for name in names if name in shapes}
        ]
    else:
        orders = candidates if len(groups) == 1 else []
    for order in orders:
        if len(order) == len(numbers) and _fits(states, numbers, order):
            named = zip(order, numbers, strict=True)
            return {name: states[number] for name, number in named if number in states}
    return None


def _fits(
    states: Mapping[object, State], numbers: Sequence[object], order: Mapping[str, StoredTensor]
) -> bool:
    by_number = dict(zip(numbers, order.values(), strict=True))
    if not all(number in by_number for number in states):
        return False
    return all(
        tensor.shape in {(), by_number[number].shape}
        for number, state in states.items()
        for tensor in state.values()
    )


def _states(optimizer: object) -> Mapping[object, State] | None:
    states = optimizer.get("state") if is_text_keyed(optimizer) else None
    if not isinstance(states, dict):
        return None
    return {
        number: {
            name: tensor
            for name, tensor in state.items()
            if isinstance(tensor, StoredTensor) and tensor.is_bounded
        }
        for number, state in states.items()
        if isinstance(number, int) and is_text_keyed(state)
    }


def _groups(optimizer: object) -> list[dict[str, object]]:
    groups = optimizer.get("param_groups") if is_text_keyed(optimizer) else None
    return [group for group in _list(groups) if is_text_keyed(group)]


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
