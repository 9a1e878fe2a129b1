"""Features extractors of Stable-Baselines3, with the preprocessing that comes before them.

Source: stable_baselines3/common/torch_layers.py and common/preprocessing.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch

if TYPE_CHECKING:
    from gradscope.recompute.networks import Parameters
    from gradscope.recompute.roles import Observations

_LAYERS: Final = "stable_baselines3.common.torch_layers"
FLATTEN: Final = f"{_LAYERS}.FlattenExtractor"


@dataclass(frozen=True, kw_only=True, eq=False)
class Flattened:
    """Observations in one row each."""

    width: int
    names: tuple[str, ...] = ()

    def __call__(self, parameters: Parameters, observations: Observations) -> torch.Tensor:
        """Features [rows, width]."""
        del parameters
        assert isinstance(observations, torch.Tensor)
        return observations.float().flatten(1)
