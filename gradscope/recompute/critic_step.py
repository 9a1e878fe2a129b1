"""The critic's optimizer step that comes before the actor's loss, on copies. Adam and AdamW of torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch

# Not through torch.optim.Adam: making one imports torch._dynamo (measured: 3 s and 70 MB).
from torch.optim.adam import adam
from torch.optim.adamw import adamw

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gradscope.recompute.inputs import OptimizerState

NOT_ADAM: Final = "the critic's optimizer is not a plain Adam or AdamW"
_MOMENTS: Final = ("exp_avg", "exp_avg_sq", "step")
_FLAGS: Final = ("amsgrad", "maximize", "foreach", "capturable", "differentiable", "fused")
_NAMES: Final = ("lr", "betas", "eps", "weight_decay", "params", "decoupled_weight_decay", "initial_lr")
_PAIR: Final = 2
_LARGEST: Final = 1e6
"""No optimizer is run with more; torch's update overflows far beyond."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CriticStep:
    """Adam's settings and moments of the critic's parameters."""

    names: tuple[str, ...]
    learning_rate: float
    betas: tuple[float, float]
    eps: float
    weight_decay: float
    is_decoupled: bool
    moments: Mapping[str, Sequence[torch.Tensor]]
    """exp_avg, exp_avg_sq and step of every parameter, in order of ``names``."""

    def stepped(
        self, parameters: Mapping[str, torch.Tensor], gradients: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """Copies of the critic's parameters after one step; nothing given is changed."""
        new = {name: parameters[name].detach().clone() for name in self.names}
        average, square, step = ([each.clone() for each in self.moments[name]] for name in _MOMENTS)
        update: Any = adamw if self.is_decoupled else adam
        with torch.no_grad():
            update(
                list(new.values()),
                [gradients[name] for name in self.names],
                average,
                square,
                [],
                step,
                amsgrad=False,
                beta1=self.betas[0],
                beta2=self.betas[1],
                lr=self.learning_rate,
                weight_decay=self.weight_decay,
                eps=self.eps,
                maximize=False,
            )
        return new


def critic_step(
    saved: OptimizerState | None,
    shapes: Mapping[str, tuple[int, ...]],
    learning_rate: float | None,
    *,
    num_idle: int = 0,
) -> CriticStep | str:
    """The step that ``saved`` would do on parameters of these names, in order; else why it cannot be done.

    ``num_idle``: tensors that it holds before these and that never get a gradient.
    """
    group = saved.groups[0] if saved is not None and len(saved.groups) == 1 else None
    if saved is None or group is None:
        return "the critic's optimizer is missing or has several groups"
    # Others have the same settings but amsgrad (RAdam); old AdamW does not say that it is decoupled.
    is_told = "amsgrad" in group and ("decoupled_weight_decay" in group or group.get("weight_decay") == 0)
    if not set(group) <= {*_FLAGS, *_NAMES} or not is_told or any(group.get(flag) for flag in _FLAGS):
        return NOT_ADAM
    rate = group.get("lr") if learning_rate is None else learning_rate
    betas = group.get("betas")
    numbers = (rate, group.get("eps"), group.get("weight_decay"))
    if not all(map(_is_number, numbers)) or not _are_betas(betas):
        return NOT_ADAM
    if not all(0 <= float(str(each)) <= _LARGEST for each in numbers):
        return f"the critic's optimizer has an impossible learning rate, eps or weight decay: {numbers}"
    moments = _moments(saved, group, shapes, num_idle)
    if isinstance(moments, str):
        return moments
    rate, eps, decay = (float(str(each)) for each in numbers)
    assert isinstance(betas, (tuple, list))
    return CriticStep(
        names=tuple(shapes),
        learning_rate=rate,
        betas=(float(betas[0]), float(betas[1])),
        eps=eps,
        weight_decay=decay,
        is_decoupled=bool(group.get("decoupled_weight_decay")),
        moments=moments,
    )


def fresh_step(step: CriticStep, parameters: Mapping[str, torch.Tensor]) -> CriticStep:
    """The same optimizer before its first step."""
    zeros = {name: [torch.zeros_like(parameters[each]) for each in step.names] for name in _MOMENTS[:2]}
    counts = [torch.tensor(0.0, dtype=torch.float32) for _ in step.names]
    return CriticStep(
        names=step.names,
        learning_rate=step.learning_rate,
        betas=step.betas,
        eps=step.eps,
        weight_decay=step.weight_decay,
        is_decoupled=step.is_decoupled,
        moments={**zeros, "step": counts},
    )


def _moments(
    saved: OptimizerState,
    group: Mapping[str, object],
    shapes: Mapping[str, tuple[int, ...]],
    num_idle: int,
) -> Mapping[str, Sequence[torch.Tensor]] | str:
    if group.get("params") != list(range(num_idle + len(shapes))):
        return "the critic's optimizer holds other parameters than the critic"
    if not saved.state:
        zeros = [torch.zeros(shape, dtype=torch.float32) for shape in shapes.values()]
        counts = [torch.tensor(0.0, dtype=torch.float32) for _ in shapes]
        return {"exp_avg": zeros, "exp_avg_sq": [each.clone() for each in zeros], "step": counts}
    states = [saved.state.get(num_idle + place, {}) for place in range(len(shapes))]
    for state, shape in zip(states, shapes.values(), strict=True):
        kinds = {name: (each.shape, str(each.dtype)) for name, each in state.items()}
        same = (shape, "float32")
        if kinds != {"step": ((), "float32"), "exp_avg": same, "exp_avg_sq": same} or not state["step"] >= 0:
            return "the critic's optimizer holds other moments than Adam's"
    return {name: [torch.tensor(state[name]) for state in states] for name in _MOMENTS}


def _are_betas(value: object) -> bool:
    if not isinstance(value, (tuple, list)) or len(value) != _PAIR:
        return False
    return all(_is_number(each) and 0 <= each < 1 for each in value)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
