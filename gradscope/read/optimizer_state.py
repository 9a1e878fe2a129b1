"""Which optimizer state belongs to which parameter. Claimed only where it can be nothing else.

``optimizer.state_dict()`` numbers parameters through all groups and names none, unless the
optimizer was built from named parameters (then groups hold ``param_names``). What is believed:

- ``param_names``, each with the shapes of its state;
- else one group whose number of parameters and every shape agree with exactly one of the orders that
  the producing library can have used. For SB3 that is the order of the owning network's parameters
  (checked by object identity on 22 runs); for a plain checkpoint the order of its state dict, except
  where two networks in it have the same shapes and could stand in either order.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import takewhile
from typing import TYPE_CHECKING, Final, Protocol

from gradscope.read.optimizer_numbers import NOT_SETTINGS, are_bounded, distinct, parameter_numbers
from gradscope.read.pickle_stubs import is_text_keyed
from gradscope.read.stored_tensor import StoredTensor
from gradscope.read.torch_archive import plain_number

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    Tensors = Mapping[str, StoredTensor]
    Group = Mapping[str, object]

NO_OPTIMIZER: Final = "the file holds no optimizer state"
NOT_MATCHED: Final = "the optimizer names no parameters and its numbering fits no order of the names"
AMBIGUOUS: Final = (
    "the optimizer names no parameters and its numbering fits several orders of the names; "
    "build it from named_parameters()"
)
NOT_OWNED: Final = "no optimizer in the file owns this parameter"
NOT_STEPPED: Final = "the optimizer has not stepped"
NO_MOMENTUM: Final = "SGD without momentum keeps no state"
NEVER_REACHED: Final = (
    "the optimizer has stepped and holds no state of this parameter: no gradient reached it"
)
MAX_ENTRIES: Final = 1_000
"""Settings of a group, or entries of a parameter's state; there are about ten."""


class Shaped(Protocol):
    """All that is asked of a parameter."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the tensor."""


@dataclass(frozen=True, kw_only=True)
class Moments:
    """State of one parameter as the file holds it, and the settings of its group."""

    tensors: Tensors
    numbers: Mapping[str, float]
    """Entries that are plain numbers: the step of old torch."""
    settings: Mapping[str, object]


@dataclass(frozen=True, kw_only=True)
class NamedMoments:
    """State by parameter name, and why there is none."""

    states: Mapping[str, Moments] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
    """Of parameters that the optimizer owns, or may own."""
    reason: str = NOT_OWNED
    """Of all others."""

    def reason_of(self, name: str) -> str:
        """Why a parameter has no state."""
        return self.reasons.get(name, self.reason)


def named_moments(
    optimizer: object, candidates: Sequence[Tensors], *, is_plain: bool = False
) -> NamedMoments:
    """Optimizer state by parameter name.

    Args:
        optimizer: what ``optimizer.state_dict()`` gave.
        candidates: the orders of the parameters that the producing library may have used.
        is_plain: whether the order is only the state dict's, which an optimizer over several networks
            need not follow.
    """
    proved = proved_order(optimizer, candidates, is_plain=is_plain)
    if isinstance(proved, str):
        return NamedMoments(reason=proved)
    states = proved.states
    settings = [
        plain for group in proved.groups for plain in [settings_of(group)] * len(_list(group.get("params")))
    ]
    found: dict[str, Moments] = {}
    reasons: dict[str, str] = {}
    for name, number, its in zip(proved.names, proved.numbers, settings, strict=True):
        state = state_of(states.get(number), its)
        if name in proved.loose:
            reasons[name] = AMBIGUOUS
        elif state.tensors:
            found[name] = state
        else:
            reasons[name] = NEVER_REACHED if any(states.values()) else why_empty(its)
    return NamedMoments(states=found, reasons=reasons)


@dataclass(frozen=True, kw_only=True)
class ProvedOrder:
    """Names of an optimizer's parameters in the order of its numbers."""

    names: tuple[str, ...]
    numbers: Sequence[object]
    groups: Sequence[Group]
    states: Mapping[object, object]
    loose: frozenset[str]
    """Names that could change places with others after all."""


def proved_order(
    optimizer: object, candidates: Sequence[Mapping[str, Shaped]], *, is_plain: bool = False
) -> ProvedOrder | str:
    """Which parameter each number is; or why that is not known. Arguments as of ``named_moments``."""
    states = optimizer.get("state") if is_text_keyed(optimizer) else None
    groups = groups_of(optimizer)
    numbers = parameter_numbers(groups) if are_bounded(groups) else []
    if not isinstance(states, dict) or not numbers or len(distinct(states.values())) < len(states):
        return NOT_MATCHED
    orders = _orders(groups, len(numbers), candidates)
    fitting = {tuple(order): order for order in orders if _fits(states, numbers, order)}
    if len(fitting) != 1:
        return AMBIGUOUS if fitting else NOT_MATCHED
    (order,) = fitting.values()
    loose = interchangeable(order) if is_plain and not _has_names(groups) else frozenset[str]()
    return ProvedOrder(names=tuple(order), numbers=numbers, groups=groups, states=states, loose=loose)


def _orders(
    groups: Sequence[Group], count: int, candidates: Sequence[Mapping[str, Shaped]]
) -> Iterator[Mapping[str, Shaped]]:
    """Orders of as many parameters as the optimizer numbers."""
    if _has_names(groups):
        names = [str(name) for group in groups for name in _list(group.get("param_names"))]
        known = next((pool for pool in candidates if all(name in pool for name in names)), {})
        candidates = [{name: known[name] for name in names if name in known}]
    elif len(groups) > 1:
        return
    yield from (each for each in candidates if len(each) == count)


def groups_of(optimizer: object) -> list[Group]:
    """Groups of ``optimizer.state_dict()``, each once."""
    return [each for each in distinct(_list(_entry(optimizer, "param_groups"))) if is_text_keyed(each)]


def numbers_of(group: Group) -> list[object]:
    """A group's parameters."""
    return _list(group.get("params"))


def _has_names(groups: Sequence[Group]) -> bool:
    return all(
        len(_list(group.get("param_names"))) == len(_list(group.get("params")))
        and all(isinstance(name, str) for name in _list(group.get("param_names")))
        for group in groups
    )


def _fits(states: Mapping[object, object], numbers: Sequence[object], order: Mapping[str, Shaped]) -> bool:
    shapes = dict(zip(numbers, (tensor.shape for tensor in order.values()), strict=True))
    if not all(number in shapes for number in states):
        return False
    return all(
        tensor.shape in {(), shapes[number]}
        for number, state in states.items()
        for tensor in state_of(state, {}).tensors.values()
    )


def interchangeable(order: Mapping[str, Shaped]) -> frozenset[str]:
    """Parameters of networks that could change places: of several layers each, with the same shapes.

    Networks that are only numbered (blocks.0, blocks.1, q1, q2) stand in the order of their numbers.
    """
    parts = [name.split(".") for name in order]
    depth = len(list(takewhile(lambda each: len(set(each)) == 1, zip(*parts, strict=False))))
    networks: dict[str, list[str]] = {}
    for name, each in zip(order, parts, strict=True):
        networks.setdefault(".".join(each[: depth + 1]), []).append(name)
    alike: dict[tuple[object, ...], list[str]] = {}
    for network, names in networks.items():
        if len({name.rpartition(".")[0] for name in names}) > 1:
            alike.setdefault(tuple(order[name].shape for name in names), []).append(network)
    loose = {each for found in alike.values() if len(set(map(_unnumbered, found))) > 1 for each in found}
    return frozenset(name for network, names in networks.items() if network in loose for name in names)


def _unnumbered(name: str) -> str:
    return "".join(each for each in name if not each.isdigit())


def state_of(state: object, settings: Mapping[str, object]) -> Moments:
    """A parameter's state, empty where there is none."""
    entries = state if is_text_keyed(state) and len(state) <= MAX_ENTRIES else {}
    return Moments(
        tensors={
            name: each for name, each in entries.items() if isinstance(each, StoredTensor) and each.is_bounded
        },
        numbers={
            name: each
            for name, each in entries.items()
            if isinstance(each, (int, float)) and not isinstance(each, bool)
        },
        settings=settings,
    )


def settings_of(group: Group) -> Mapping[str, object]:
    """A group's plain settings: lr, betas, ..."""
    known = list(group.items())[:MAX_ENTRIES]
    plain = {key: plain_number(each) for key, each in known if key not in NOT_SETTINGS}
    return {key: each for key, each in plain.items() if _is_plain(each)}


def _is_plain(value: object) -> bool:
    if isinstance(value, (tuple, list)):
        return len(value) <= MAX_ENTRIES and all(isinstance(each, (int, float)) for each in value)
    return value is None or isinstance(value, (int, float, str))


def why_empty(settings: Mapping[str, object]) -> str:
    """Why an optimizer with these settings holds no state at all."""
    return NO_MOMENTUM if "nesterov" in settings and not settings.get("momentum") else NOT_STEPPED


def _entry(value: object, key: str) -> object:
    return value.get(key) if is_text_keyed(value) else None


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
