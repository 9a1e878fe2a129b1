"""An extractor with a remedy in it, for real trainings on the recorder's tiny market."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from record.worlds import NUM_BARS, NUM_FEATURES, Market
from stable_baselines3 import DQN, PPO, SAC, TD3
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor

from gradscope.remedy import InputLayerNorm, SliceNormalizer

if TYPE_CHECKING:
    from gymnasium import spaces

torch.set_num_threads(1)
POSITION = {"position": "3:5"}
OFF_POLICY = {"learning_starts": 20, "batch_size": 16, "buffer_size": 500}
ALGORITHMS: dict[str, tuple[Any, dict[str, Any]]] = {
    "DQN": (DQN, OFF_POLICY | {"target_update_interval": 20, "train_freq": 2}),
    "SAC": (SAC, OFF_POLICY),
    "TD3": (TD3, OFF_POLICY),
    "PPO": (PPO, {"n_steps": 32, "batch_size": 16, "n_epochs": 2}),
}
NORMS = {"SliceNormalizer": SliceNormalizer, "InputLayerNorm": InputLayerNorm}


class Normalised(BaseFeaturesExtractor):
    """A remedy before the projection of the bars."""

    def __init__(self, space: spaces.Box, norm: str = "SliceNormalizer", width: int = 8) -> None:
        super().__init__(space, width)
        self.norm = NORMS[norm](NUM_FEATURES, POSITION, sequence_length=NUM_BARS)
        self.projection = torch.nn.Linear(NUM_BARS * NUM_FEATURES, width)

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.projection(self.norm(observations)))


def fresh(name: str, norm: str = "SliceNormalizer", *, env: Any = None, **options: Any) -> Any:
    """A model that has not learned anything yet."""
    algorithm, defaults = ALGORITHMS[name]
    kwargs = {
        "features_extractor_class": Normalised,
        "features_extractor_kwargs": {"norm": norm},
        "net_arch": [8],
    }
    world = env or Market(discrete=name in {"DQN", "PPO"})
    return algorithm("MlpPolicy", world, seed=1, device="cpu", policy_kwargs=kwargs, **defaults | options)
