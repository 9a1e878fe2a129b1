"""What Stable-Baselines3 does to observations before its features extractors.

Source: preprocess_obs, is_image_space and get_flattened_obs_dim in stable_baselines3/common/preprocessing.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch
from torch.nn.functional import one_hot

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradscope.recompute.inputs import Space
    from gradscope.recompute.roles import Observations

IMAGE_DIMENSIONS: Final = 3


@dataclass(frozen=True, kw_only=True, eq=False)
class Preprocessing:
    """float32 of every observation: images 0..1 where wanted, numbers of Discrete spaces one-hot."""

    space: Space
    scales_images: bool
    """normalize_images of the policy."""

    def plain(self, observations: Observations) -> torch.Tensor:
        """Of a plain space, [rows, ...]."""
        assert isinstance(observations, torch.Tensor)
        return preprocessed(observations, self.space, scales_images=self.scales_images)

    def entries(self, observations: Observations) -> Mapping[str, torch.Tensor]:
        """Of a Dict space, by key."""
        assert not isinstance(observations, torch.Tensor)
        return {
            key: preprocessed(observations[key], space, scales_images=self.scales_images)
            for key, space in self.space.entries.items()
        }


def preprocessed(observations: torch.Tensor, space: Space, *, scales_images: bool) -> torch.Tensor:
    """Observations of one plain space, float32 [rows, ...]."""
    if space.kind == "Discrete":
        return one_hot(observations.long(), num_classes=space.num_values[0]).float()
    if space.kind == "MultiDiscrete":
        columns = zip(torch.split(observations.long(), 1, dim=1), space.num_values, strict=True)
        parts = [one_hot(column, num_classes=size).float() for column, size in columns]
        return torch.cat(parts, dim=-1).view(len(observations), sum(space.num_values))
    if scales_images and is_image(space):
        return observations.float() / 255.0
    return observations.float()


def is_image(space: Space, *, any_range: bool = False) -> bool:
    """Whether the library takes a space for images; ``any_range``: of any type and limits."""
    if space.kind != "Box" or len(space.shape) != IMAGE_DIMENSIONS:
        return False
    return any_range or (space.dtype == "uint8" and space.is_byte_range)


def flat_width(space: Space) -> int:
    """Numbers of one flattened observation of a plain space."""
    return sum(space.num_values) if space.num_values else math.prod(space.shape)
