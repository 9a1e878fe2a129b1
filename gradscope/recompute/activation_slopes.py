"""Activation functions by torch's name, and where their slope is exactly 0, computed as torch does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

ACTIVATIONS: Final[Mapping[str, str]] = {
    "relu": "ReLU",
    "tanh": "Tanh",
    "sigmoid": "Sigmoid",
    "leaky_relu": "LeakyReLU",
    "prelu": "PReLU",
    "elu": "ELU",
    "selu": "SELU",
    "celu": "CELU",
    "gelu": "GELU",
    "silu": "SiLU",
    "mish": "Mish",
    "softplus": "Softplus",
    "softsign": "Softsign",
    "relu6": "ReLU6",
    "hardtanh": "Hardtanh",
    "hardswish": "Hardswish",
    "hardsigmoid": "Hardsigmoid",
    "clamp": "Clamp",
    "clip": "Clamp",
    "clamp_min": "Clamp",
    "clamp_max": "Clamp",
}
"""By the function's name without the underscore of in-place forms. None draws random numbers."""
RECTIFIED: Final = "ReLU"
"""Flat where its output is 0 and nowhere else: the sum of outputs tells."""
_FROM_OUTPUT: Final = (RECTIFIED, "Tanh", "Sigmoid")
"""Their backward looks at the output alone (torch: threshold_, tanh_ and sigmoid_backward)."""
_STEEP_ABOVE: Final[Mapping[str, float]] = dict.fromkeys(("ELU", "SELU", "GELU", "SiLU", "Mish"), -8.0)
"""Their slope is not 0 above it (but where it changes sign), from float32 on: most batches stay there."""
_WIDE: Final = 4
"""Bytes of float32."""
_TINY: Final = 1e-30


def activation_named(function: str, given: Sequence[Any], named: Mapping[str, Any]) -> str | None:
    """Type of the activation that a call of a function of torch applies."""
    name = function.removesuffix("_")
    if name == "hardtanh":
        # The module ReLU6 is a Hardtanh from 0 to 6.
        limits = (*given[1:3], named.get("min_val"), named.get("max_val"))
        name = "relu6" if limits[:2] == (0, 6) or limits[-2:] == (0, 6) else name
    return ACTIVATIONS.get(name)


def input_before(kind: str, function: str, given: Sequence[Any], named: Mapping[str, Any]) -> torch.Tensor:
    """The inputs as the slope will need them: copied where the call writes over them."""
    inputs: torch.Tensor = given[0] if given else named["input"]
    writes = function.endswith("_") or bool(named.get("inplace")) or any(each is True for each in given[1:])
    return inputs.detach().clone() if writes and kind not in _FROM_OUTPUT else inputs.detach()


def flat(
    kind: str,
    function: Callable[..., torch.Tensor],
    outputs: torch.Tensor,
    inputs: torch.Tensor,
    options: tuple[Sequence[Any], Mapping[str, Any]],
) -> torch.Tensor | None:
    """Where the slope is exactly 0; None where it is so nowhere, and for a ReLU.

    Args:
        kind: type of the activation.
        function: what was called.
        outputs: what it gave.
        inputs: what it was given, before it was written over.
        options: the call's other positional and named arguments.
    """
    if _is_steep(kind, outputs, inputs):
        return None
    if kind == "Tanh":
        return 1 - outputs * outputs == 0
    if kind == "Sigmoid":
        return (1 - outputs) * outputs == 0
    with torch.enable_grad():
        leaf = inputs.detach().requires_grad_()
        given, named = options
        # A copy, as the function may write over what it is given.
        again = function(
            leaf.clone(), *map(_plain, given), **{key: _plain(one) for key, one in named.items()}
        )
        (slope,) = torch.autograd.grad(again.sum(), leaf)
    return slope == 0


def _is_steep(kind: str, outputs: torch.Tensor, inputs: torch.Tensor) -> bool:
    """Whether one look at the extremes tells that no slope is 0; NaN tells nothing."""
    if kind == RECTIFIED or not outputs.numel():
        return True
    if kind == "Tanh":
        return bool(outputs.abs().amax() < 1)
    if kind == "Sigmoid":
        low, high = outputs.aminmax()
        return bool(low > _TINY and high < 1)
    is_wide = inputs.dtype.itemsize >= _WIDE
    return kind in _STEEP_ABOVE and is_wide and bool(inputs.amin() > _STEEP_ABOVE[kind])


def _plain(value: Any) -> Any:
    return value.detach() if isinstance(value, torch.Tensor) else value
