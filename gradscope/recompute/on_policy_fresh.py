"""A freshly initialised on-policy policy of the same architecture: the healthy baseline.

Source: ActorCriticPolicy._build and init_weights in stable_baselines3/common/policies.py; torch's own
defaults for what it leaves alone (LSTM, the critic's linear layer, everything without ortho_init).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import torch

if TYPE_CHECKING:
    from gradscope.recompute.networks import Shapes

GAINS: Final = (
    ("features_extractor.", math.sqrt(2)),
    ("vf_features_extractor.", math.sqrt(2)),
    ("mlp_extractor.", math.sqrt(2)),
    ("action_net.", 0.01),
    ("value_net.", 1.0),
)
"""Of orthogonal weights, by the start of a name; their biases are 0."""


def fresh_policy(
    shapes: Shapes, seed: int, *, is_orthogonal: bool, log_std: float
) -> dict[str, torch.Tensor]:
    """Weights of a new policy.

    Args:
        shapes: by name.
        seed: of a generator of our own.
        is_orthogonal: the policy's ``ortho_init``.
        log_std: the policy's ``log_std_init``.
    """
    draw = torch.Generator().manual_seed(seed)
    weights: dict[str, torch.Tensor] = {}
    for name, shape in shapes.items():
        weights[name] = torch.full(shape, log_std if name == "log_std" else 0.0)
        gain = next((gain for start, gain in GAINS if name.startswith(start)), None)
        if is_orthogonal and gain is not None:
            if name.endswith(".weight"):
                torch.nn.init.orthogonal_(weights[name], gain=gain, generator=draw)
        elif name != "log_std":
            bound = 1 / math.sqrt(_num_inputs(shapes, name))
            torch.nn.init.uniform_(weights[name], -bound, bound, generator=draw)
    return weights


def _num_inputs(shapes: Shapes, name: str) -> int:
    """What torch bounds the uniform draw by: a linear layer's inputs, an LSTM's units."""
    if name.startswith("lstm_"):
        return shapes[f"{name.partition('.')[0]}.weight_hh_l0"][1]
    weight = shapes[f"{name.rpartition('.')[0]}.weight"]
    return math.prod(weight[1:])
