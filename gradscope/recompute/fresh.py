"""The same architecture freshly initialised, as Stable-Baselines3 does it: the healthy baseline.

Source: reset_parameters of torch.nn.Linear and Conv2d, in the order in which the library makes its networks.
Stable-Baselines3 initialises the networks of SAC, TD3, DDPG and DQN no further.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping


NETWORKS: Final = 8
"""Different fresh networks behind a baseline: zeros of single ones differ by ten points (measured)."""


def networks_per_batch(num_batches: int) -> int:
    """Fresh networks that each batch goes through, so that all batches together see NETWORKS of them."""
    return max(1, -(-NETWORKS // num_batches))


def fresh_weights(
    shapes: Mapping[str, tuple[int, ...]], targets: Mapping[str, str], seed: int
) -> dict[str, torch.Tensor]:
    """Weights of a new model of this seed; targets start as copies of what they follow.

    Args:
        shapes: of the policy's state dict, in its order: weight and bias of each linear layer or convolution.
        targets: name of each target's parameter to the online one.
        seed: of a generator of our own.
    """
    generator = torch.Generator().manual_seed(seed)
    weights: dict[str, torch.Tensor] = {}
    for name, shape in shapes.items():
        weights[name] = torch.empty(shape, dtype=torch.float32)
        if name.endswith(".weight"):
            torch.nn.init.kaiming_uniform_(weights[name], a=math.sqrt(5), generator=generator)
        else:
            bound = 1 / math.sqrt(_num_inputs(shapes, name))
            torch.nn.init.uniform_(weights[name], -bound, bound, generator=generator)
    return weights | {target: weights[own].clone() for target, own in targets.items()}


def _num_inputs(shapes: Mapping[str, tuple[int, ...]], bias: str) -> int:
    return math.prod(shapes[f"{bias.removesuffix('.bias')}.weight"][1:])
