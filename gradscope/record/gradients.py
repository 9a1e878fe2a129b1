"""What an optimizer sees at the moment it steps, counted where the tensors live. Plain torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch.utils.hooks import RemovableHandle


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
    """Zeros (|g| <= tolerance), exact zeros and expected zeros: int64 [3], on the device."""
    # Half floats round the tolerance too far: float32 holds them all.
    size = gradient.abs().float() if gradient.itemsize < SINGLE.itemsize else gradient.abs()
    limit = tolerance if size.dtype == torch.float64 else single_below(tolerance)
    # Measured: comparing into floats and adding them is five times faster than into booleans.
    is_zero = torch.le(size, limit, out=torch.empty_like(size))
    num_expected = num_true(is_zero[expected] if expected is not None else is_zero.new_zeros(1))
    num_zero = num_true(is_zero)
    return torch.stack((num_zero, num_true(torch.eq(size, 0, out=is_zero)), num_expected))


def num_true(flags: torch.Tensor) -> torch.Tensor:
    """Ones among zeros and ones, int64: summed row by row, where a float32 still counts exactly."""
    rows = flags.sum(-1) if flags.dim() > 1 else flags
    return rows.to(torch.int64).sum()


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
    """Equal-shaped tensors of any device in one on the CPU: this is where a device is waited for."""
    if not scalars:
        return torch.empty(0)
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

    @property
    def is_armed(self) -> bool:
        """Whether norms before clipping are being noted."""
        return bool(self._backward_hooks)

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

    def silence(self) -> None:
        """Do nothing more; unlike remove(), allowed while the optimizer steps."""
        self.disarm()
        self._on_step = _nothing

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
        """Zeros and norms of what this step sees; a device is waited for three times at most."""
        places = [place for place, layer in enumerate(self.layers) if layer.parameter.grad is not None]
        layers = [self.layers[place] for place in places]
        seen = [dense(layer.parameter.grad) for layer in layers if layer.parameter.grad is not None]
        norms = gathered([tensor_norm(gradient) for gradient in seen]).tolist()
        before = [self._norms_before[layer.name] for layer in layers if layer.name in self._norms_before]
        counted = map(layer_counts, seen, [tolerance] * len(seen), [layer.expected for layer in layers])
        # Only a non-finite element makes a norm non-finite: others need no further look.
        nonfinite = [num_nonfinite(gradient, norm) for gradient, norm in zip(seen, norms, strict=True)]
        columns = [
            *gathered(list(counted)).reshape(-1, 3).T.tolist(),
            nonfinite,
            [finite(norm) for norm in norms],
        ]
        zero, exact, expected, bad, norm = (self._spread(places, column) for column in columns)
        return GradientCounts(
            num_zero=zero,
            num_exact_zero=exact,
            num_expected=expected,
            num_nonfinite=bad,
            norm=norm,
            total_norm=total(norms),
            norm_before_clip=total(gathered(before).tolist())
            if before and len(before) == len(seen)
            else None,
        )

    def _spread(self, places: Sequence[int], values: Sequence[Any]) -> list[Any]:
        """One entry per layer; None where no gradient came."""
        spread: list[Any] = [None] * len(self.layers)
        for place, value in zip(places, values, strict=True):
            spread[place] = value
        return spread


def num_nonfinite(gradient: torch.Tensor, norm: float) -> int:
    """NaN and infinities; a finite norm rules them out."""
    return 0 if math.isfinite(norm) else gradient.numel() - int(torch.isfinite(gradient).sum())


def finite(number: float) -> float | None:
    """The number, if it is one."""
    return number if math.isfinite(number) else None


def _nothing(_: OptimizerWatch) -> None:
    """What a silenced watch does."""


def dense(gradient: torch.Tensor) -> torch.Tensor:
    """The gradient with its untouched rows as zeros."""
    return gradient if gradient.layout == torch.strided else gradient.to_dense()


def total(norms: Sequence[float]) -> float:
    """Euclidean norm of all layers together; NaN stays NaN, as it does in clipping."""
    return math.nan if any(math.isnan(norm) for norm in norms) else math.hypot(*norms)


def steps_done(optimizer: torch.optim.Optimizer) -> int:
    """Steps the optimizer's own state knows of; 0 where it keeps none (fresh, SGD)."""
    return max((int(state["step"]) for state in optimizer.state.values() if "step" in state), default=0)
