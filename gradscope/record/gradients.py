"""What an optimizer sees at the moment it steps, counted where the tensors live. Plain torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, TypeVar

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch.utils.hooks import RemovableHandle

Number = TypeVar("Number", int, float)
SINGLE: Final = torch.float32


@dataclass(frozen=True, kw_only=True)
class WatchedLayer:
    """One parameter of an optimizer."""

    name: str
    parameter: torch.Tensor
    module: str | None = None
    """Type of the module that owns it."""
    expected: slice | None = None
    """Elements that cannot receive gradient: the key third of an attention's ``in_proj_bias``."""


@dataclass(frozen=True, kw_only=True)
class GradientCounts:
    """One optimizer step, layer by layer; None where no gradient reached the layer."""

    num_zero: Sequence[int | None]
    num_exact_zero: Sequence[int | None]
    num_expected: Sequence[int | None]
    num_nonfinite: Sequence[int | None]
    norm: Sequence[float | None]
    """Euclidean; None also where it is not finite."""
    total_norm: float
    """As the optimizer sees it, after clipping; may be infinite or NaN."""
    norm_before_clip: float | None
    """Of the last accumulation before the step; None where no backward pass was seen."""


def layer_counts(gradient: torch.Tensor, tolerance: float, expected: slice | None) -> torch.Tensor:
    """Zeros (|g| <= tolerance), exact, expected zeros, non-finite elements: int64 [4], on the device."""
    # Half floats round the tolerance too far: float32 holds them all.
    size = gradient.abs().float() if gradient.itemsize < SINGLE.itemsize else gradient.abs()
    is_zero = size <= (tolerance if size.dtype == torch.float64 else single_below(tolerance))
    num_expected = (
        is_zero[expected].sum() if expected is not None else is_zero.new_zeros((), dtype=torch.int64)
    )
    num_exact = size.numel() - torch.count_nonzero(size)
    return torch.stack((is_zero.sum(), num_exact, num_expected, size.numel() - torch.isfinite(size).sum()))


@lru_cache
def single_below(number: float) -> float:
    """Largest float32 that is not above ``number``: rounding up would count too many zeros."""
    near = torch.tensor(number, dtype=SINGLE)
    return float(near if near.item() <= number else torch.nextafter(near, torch.zeros(())))


def tensor_norm(gradient: torch.Tensor) -> torch.Tensor:
    """Euclidean norm, summed in float64 where the device has it: scalar, on the device."""
    exact = torch.float32 if gradient.device.type == "mps" else torch.float64
    norm: torch.Tensor = torch.linalg.vector_norm(gradient, dtype=exact)
    return norm


def gathered(scalars: Sequence[torch.Tensor]) -> torch.Tensor:
    """Equal-shaped tensors of any device in one: the only place where the device is waited for."""
    return torch.stack([scalar.to(scalars[0].device) for scalar in scalars]).cpu()


class OptimizerWatch:
    """Calls ``on_step`` before each step of one optimizer; while armed, also notes norms before clipping.

    Gradients are read inside the step only: later a foreign backward pass may have added to them
    (the actor's loss reaches the critic's parameters). Nothing is left on module or optimizer
    objects that pickles or copies would carry.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        *,
        name: str,
        layers: Sequence[WatchedLayer],
        on_step: Callable[[OptimizerWatch], None],
    ) -> None:
        self.name = name
        self.layers = layers
        self.num_steps = steps_done(optimizer)
        """Steps of this optimizer before the one that is being looked at."""
        self._on_step = on_step
        self._norms_before: dict[str, torch.Tensor] = {}
        self._backward_hooks: list[RemovableHandle] = []
        self._step_hook = optimizer.register_step_pre_hook(self._before_step)

    def _before_step(self, *_: object) -> None:
        with torch.no_grad():
            self._on_step(self)
        self.num_steps += 1

    def arm(self) -> None:
        """Note gradient norms as they are accumulated, from the next backward pass on."""
        if not self._backward_hooks:
            self._backward_hooks = [
                self._hooked(layer) for layer in self.layers if layer.parameter.requires_grad
            ]

    def disarm(self) -> None:
        """Stop noting norms: an idle watch costs one Python call per step."""
        for hook in self._backward_hooks:
            hook.remove()
        self._backward_hooks = []
        self._norms_before = {}

    def remove(self) -> None:
        """Leave no hook behind."""
        self.disarm()
        self._step_hook.remove()

    def _hooked(self, layer: WatchedLayer) -> RemovableHandle:
        def note(parameter: torch.Tensor) -> None:
            if parameter.grad is not None:
                self._norms_before[layer.name] = tensor_norm(dense(parameter.grad))

        # torch left this method without annotations.
        hook: RemovableHandle = layer.parameter.register_post_accumulate_grad_hook(note)  # type: ignore[no-untyped-call]
        return hook

    def gradients(self) -> Mapping[str, torch.Tensor | None]:
        """Copies on the CPU of what this step sees."""
        return {
            layer.name: None
            if layer.parameter.grad is None
            else dense(layer.parameter.grad).detach().cpu().clone()
            for layer in self.layers
        }

    def counts(self, tolerance: float) -> GradientCounts:
        """Zeros and norms of what this step sees; the device is waited for twice."""
        seen = [
            (layer, dense(layer.parameter.grad)) for layer in self.layers if layer.parameter.grad is not None
        ]
        if not seen:
            nothing = [None] * len(self.layers)
            return GradientCounts(
                num_zero=nothing,
                num_exact_zero=nothing,
                num_expected=nothing,
                num_nonfinite=nothing,
                norm=nothing,
                total_norm=0.0,
                norm_before_clip=None,
            )
        names = [layer.name for layer, _ in seen]
        integers = gathered([layer_counts(grad, tolerance, layer.expected) for layer, grad in seen])
        before = [self._norms_before[name] for name in names if name in self._norms_before]
        norms = gathered([*(tensor_norm(grad) for _, grad in seen), *before]).tolist()
        after, before_values = norms[: len(names)], norms[len(names) :]
        columns = [self._per_layer(dict(zip(names, column, strict=True))) for column in integers.T.tolist()]
        return GradientCounts(
            num_zero=columns[0],
            num_exact_zero=columns[1],
            num_expected=columns[2],
            num_nonfinite=columns[3],
            norm=self._per_layer({n: v for n, v in zip(names, after, strict=True) if math.isfinite(v)}),
            total_norm=total(after),
            norm_before_clip=total(before_values) if len(before_values) == len(names) else None,
        )

    def _per_layer(self, values: Mapping[str, Number]) -> list[Number | None]:
        return [values.get(layer.name) for layer in self.layers]


def dense(gradient: torch.Tensor) -> torch.Tensor:
    """The gradient with its untouched rows as zeros."""
    return gradient if gradient.layout == torch.strided else gradient.to_dense()


def total(norms: Sequence[float]) -> float:
    """Euclidean norm of all layers together; NaN stays NaN, as it does in clipping."""
    return math.nan if any(math.isnan(norm) for norm in norms) else math.hypot(*norms)


def steps_done(optimizer: torch.optim.Optimizer) -> int:
    """Steps the optimizer's own state knows of; 0 where it keeps none (fresh, SGD)."""
    return max((int(state["step"]) for state in optimizer.state.values() if "step" in state), default=0)
