"""Stable-Baselines3's multi-layer perceptrons, rebuilt from the names and shapes of their weights.

Source: create_mlp in stable_baselines3/common/torch_layers.py: linear modules at 0, 2, 4, ... of a
Sequential, an activation after each but the last.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gradscope.recompute.inputs import Training

    Parameters: TypeAlias = Mapping[str, torch.Tensor]
    Shapes: TypeAlias = Mapping[str, tuple[int, ...]]

_ACTIVATION: Final = "torch.nn.modules.activation."
RELU: Final = f"{_ACTIVATION}ReLU"
ACTIVATIONS: Final[Mapping[str, type[torch.nn.Module]]] = {
    RELU: torch.nn.ReLU,
    f"{_ACTIVATION}Tanh": torch.nn.Tanh,
    f"{_ACTIVATION}Sigmoid": torch.nn.Sigmoid,
    f"{_ACTIVATION}LeakyReLU": torch.nn.LeakyReLU,
    f"{_ACTIVATION}ELU": torch.nn.ELU,
    f"{_ACTIVATION}SELU": torch.nn.SELU,
    f"{_ACTIVATION}GELU": torch.nn.GELU,
    f"{_ACTIVATION}SiLU": torch.nn.SiLU,
    f"{_ACTIVATION}Mish": torch.nn.Mish,
    f"{_ACTIVATION}Softplus": torch.nn.Softplus,
}
"""Without parameters, without chance, made without arguments: what their names say."""


class Mismatch(Exception):
    """Weights that are not those of the network their names promise."""


def activation_of(training: Training, default: str = RELU) -> Callable[[torch.Tensor], torch.Tensor]:
    """The activation of a policy's networks, the default where its settings name none.

    Raises:
        Mismatch: one that is not known here.
    """
    name = (training.policy_settings or {}).get("activation_fn", default)
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise Mismatch(f"the activation {name} is not recomputed")
    return ACTIVATIONS[name]()


@dataclass(frozen=True, kw_only=True)
class Perceptron:
    """Names of the linear layers of one network, in order, and where activations stand."""

    layers: tuple[tuple[str, str], ...]
    """Weight and bias."""
    activation: Callable[[torch.Tensor], torch.Tensor]
    ends_active: bool = False
    """Whether an activation follows the last layer as well."""

    @property
    def names(self) -> tuple[str, ...]:
        """All its parameters, in file order."""
        return tuple(name for pair in self.layers for name in pair)

    def __call__(self, parameters: Parameters, inputs: torch.Tensor) -> torch.Tensor:
        """Outputs [rows, out] of inputs [rows, in]."""
        for place, (weight, bias) in enumerate(self.layers):
            inputs = torch.nn.functional.linear(inputs, parameters[weight], parameters[bias])
            if self.ends_active or place < len(self.layers) - 1:
                inputs = self.activation(inputs)
        return inputs


def perceptron(
    shapes: Shapes,
    prefix: str,
    *,
    num_inputs: int,
    num_outputs: int | None,
    activation: Callable[[torch.Tensor], torch.Tensor],
) -> Perceptron:
    """The network whose layers are ``{prefix}0``, ``{prefix}2``, ...

    ``num_outputs`` None: a hidden part that ends with its activation, of any width, may be empty.

    Raises:
        Mismatch: other names, other shapes, or none.
    """
    names = [name for name in shapes if name.startswith(prefix)]
    layers = tuple(
        (f"{prefix}{2 * place}.weight", f"{prefix}{2 * place}.bias") for place in range(len(names) // 2)
    )
    found = Perceptron(layers=layers, activation=activation, ends_active=num_outputs is None)
    if sorted(names) != sorted(found.names):
        raise Mismatch(f"{prefix}* is not a chain of linear layers with activations between")
    last = chained(shapes, layers, num_inputs)
    if num_outputs is not None and (not layers or last != num_outputs):
        raise Mismatch(f"{prefix}* has {last} outputs, not {num_outputs}")
    return found


def single(shapes: Shapes, name: str, *, num_inputs: int, num_outputs: int) -> Perceptron:
    """One linear layer.

    Raises:
        Mismatch: it is missing or of other shapes.
    """
    layers = ((f"{name}.weight", f"{name}.bias"),)
    if chained(shapes, layers, num_inputs) != num_outputs:
        raise Mismatch(f"{name} has another number of outputs than {num_outputs}")
    return Perceptron(layers=layers, activation=torch.nn.Identity())


def chained(shapes: Shapes, layers: Sequence[tuple[str, str]], num_inputs: int) -> int:
    """Width after linear layers one behind the other.

    Raises:
        Mismatch: one does not take what the one before it gives.
    """
    for weight, bias in layers:
        shape = shapes.get(weight, ())
        if len(shape) != 2 or shape[1] != num_inputs or shapes.get(bias) != shape[:1]:  # noqa: PLR2004
            raise Mismatch(f"{weight} of shape {shape} does not take {num_inputs} inputs")
        num_inputs = shape[0]
    return num_inputs


def width_of(shapes: Shapes, prefix: str) -> int:
    """Outputs of the last layer under a prefix.

    Raises:
        Mismatch: there is none.
    """
    widths = [shape[0] for name, shape in shapes.items() if name.startswith(prefix) and len(shape) == 1]
    if not widths:
        raise Mismatch(f"there is no {prefix}*")
    return widths[-1]
