"""The critic's optimizer step by the policy's own optimizer, whatever its class, on copies."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from gradscope.recompute.trusted.guest import one_line
from gradscope.recompute.trusted.tensors import tensor_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradscope.recompute.inputs import OptimizerState
    from gradscope.recompute.networks import Parameters
    from gradscope.recompute.trusted.live import Live


@dataclass(frozen=True, kw_only=True, eq=False)
class LiveStep:
    """An optimizer, its state before the step, and the names of what it moves."""

    optimizer: Any
    state: Mapping[str, Any]
    """As its state_dict()."""
    names: tuple[tuple[str, ...], ...]
    """By parameter group, frozen ones among them."""
    learning_rate: float | None
    """Of the next train(); None where the state's own holds."""

    def stepped(self, parameters: Parameters, gradients: Parameters) -> dict[str, torch.Tensor]:
        """Copies of what it moves after one step; nothing given is changed."""
        groups = self.optimizer.param_groups
        kept = [group["params"] for group in groups]
        new = {name: parameters[name].detach().clone() for names in self.names for name in names}
        try:
            for group, names in zip(groups, self.names, strict=True):
                group["params"] = [new[name] for name in names]
            # It takes tensors as they are, and its step writes into them.
            self.optimizer.load_state_dict(copy.deepcopy(dict(self.state)))
            for name, each in new.items():
                each.grad = gradients[name].detach().clone() if name in gradients else None
            for group in self.optimizer.param_groups:
                group["lr"] = self.learning_rate if self.learning_rate is not None else group["lr"]
            self.optimizer.step()
        finally:
            for group, held in zip(self.optimizer.param_groups, kept, strict=True):
                group["params"] = held
        return {name: each.detach() for name, each in new.items()}


def live_step(
    live: Live, optimizer: Any, saved: OptimizerState | None, learning_rate: float | None
) -> LiveStep | str:
    """The step that ``saved`` would do in ``optimizer``; a reason where it does not fit.

    ``saved`` None: before its first step.
    """
    first = {id(each): name for name, each in live.own.items()}
    names = tuple(tuple(first[id(each)] for each in group["params"]) for group in optimizer.param_groups)
    state = optimizer.state_dict() if saved is None else _state(saved)
    step = LiveStep(optimizer=optimizer, state=state, names=names, learning_rate=learning_rate)
    try:
        zeros = {name: torch.zeros_like(each) for name, each in live.own.items()}
        step.stepped(live.own, zeros)
    except Exception as error:  # noqa: BLE001  any class of optimizer, with any state
        text = one_line(str(error))
        return f"the critic's optimizer cannot go on from its saved state ({type(error).__name__}: {text})"
    return step


def _state(saved: OptimizerState) -> dict[str, Any]:
    return {
        "state": {
            place: {name: tensor_of(each) for name, each in moments.items()}
            for place, moments in saved.state.items()
        },
        "param_groups": [dict(group) for group in saved.groups],
    }
