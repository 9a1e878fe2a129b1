"""Optimizer state in a distributed checkpoint: its flat names made into a state dict again.

torch flattens ``{"optim": {"state": {k: {"exp_avg": ..}}, "param_groups": [{..}]}}`` to names with dots;
k is a number, or (get_state_dict) the parameter's own name, which has dots itself. With
``flatten_optimizer_state_dict`` the groups' settings are given per parameter too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gradscope.read.torch_archive import torch_archive

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradscope.read.dcp_metadata import DcpContent
    from gradscope.read.stored_tensor import StoredTensor

    Tensors = Mapping[str, StoredTensor]

MAX_OBJECT_BYTES: Final = 1 << 20
"""A setting of a group; its longest is the list of parameters."""


def optimizer_of(prefix: str, content: DcpContent, tensors: Tensors, weights: Tensors) -> object:
    """What ``optimizer.state_dict()`` gave; None where nothing lies under the prefix."""
    states = _states(f"{prefix}state.", tensors)
    settings = _settings(f"{prefix}param_groups.", content)
    if not states and not settings:
        return None
    if any(owner in weights for owner in (*states, *settings)):
        return _by_name(states, settings)
    numbered = {int(key) if key.isdecimal() else key: each for key, each in states.items()}
    return {"state": numbered, "param_groups": [dict(each) for _, each in sorted(settings.items())]}


def _states(prefix: str, tensors: Tensors) -> dict[str, dict[str, StoredTensor]]:
    states: dict[str, dict[str, StoredTensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith(prefix):
            owner, _, moment = name.removeprefix(prefix).rpartition(".")
            states.setdefault(owner, {})[moment] = tensor
    return states


def _settings(prefix: str, content: DcpContent) -> dict[str, dict[str, object]]:
    """Settings by what they belong to: a group's number, or a parameter."""
    settings: dict[str, dict[str, object]] = {}
    for name, slice_ in content.objects.items():
        if name.startswith(prefix) and slice_.size <= MAX_OBJECT_BYTES:
            owner, _, key = name.removeprefix(prefix).rpartition(".")
            settings.setdefault(owner, {})[key] = torch_archive(slice_).value
    return settings


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _by_name(states: Mapping[str, object], settings: Mapping[str, Mapping[str, object]]) -> object:
    """With parameters' names for their numbers; a group each, as settings may differ."""
    of_group = {
        name: group
        for group in settings.values()
        for name in _listed(group.get("params"))
        if isinstance(name, str)
    }
    names = list(dict.fromkeys((*of_group, *(each for each in settings if each in states), *states)))
    groups = []
    for number, name in enumerate(names):
        own = settings.get(name) or of_group.get(name, {})
        groups.append({**own, "params": [number], "param_names": [name]})
    return {
        "state": {number: states[name] for number, name in enumerate(names) if name in states},
        "param_groups": groups,
    }
