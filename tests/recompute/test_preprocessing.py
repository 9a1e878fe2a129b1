"""Preprocessing and extractors alone, against the library's own functions and modules."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import cloudpickle
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common import torch_layers
from stable_baselines3.common.preprocessing import get_flattened_obs_dim, is_image_space, preprocess_obs

from gradscope.read.numpy_pickle import NUMPY_TABLE
from gradscope.read.safe_pickle import unpickled
from gradscope.read.sb3_space import Sb3Space, sb3_space
from gradscope.recompute.extractors import features_of
from gradscope.recompute.preprocessing import flat_width, is_image, preprocessed

IMAGE = spaces.Box(0, 255, (2, 44, 36), np.uint8)
PLAIN: list[spaces.Space[Any]] = [
    IMAGE,
    spaces.Box(0, 254, (2, 44, 36), np.uint8),
    spaces.Box(-1, 1, (2, 44, 36), np.float32),
    spaces.Box(0, 255, (44, 36), np.uint8),
    spaces.Box(-5, 5, (2, 3), np.float64),
    spaces.Discrete(5),
    spaces.MultiDiscrete([3, 4, 2]),
    spaces.MultiBinary([2, 3]),
]
MIXED = spaces.Dict({"b": PLAIN[4], "eye": IMAGE, "gear": PLAIN[5], "wheels": PLAIN[6], "doors": PLAIN[7]})


def read(space: spaces.Space[Any]) -> Sb3Space:
    found = sb3_space(unpickled(cloudpickle.dumps(space), NUMPY_TABLE).value)
    assert found is not None
    return found


def rows(space: spaces.Space[Any], count: int = 6) -> Any:
    space.seed(3)
    if isinstance(space, spaces.Dict):
        return {key: rows(each, count) for key, each in space.spaces.items()}
    return torch.as_tensor(np.stack([np.atleast_1d(space.sample()) for _ in range(count)]))


@pytest.mark.parametrize("scales", [True, False])
@pytest.mark.parametrize("space", PLAIN, ids=str)
def test_preprocessing_is_the_librarys(space: spaces.Space[Any], *, scales: bool) -> None:
    given = rows(space)
    found = preprocessed(given, read(space), scales_images=scales)
    expected = preprocess_obs(given, space, normalize_images=scales)
    assert isinstance(expected, torch.Tensor)
    assert found.dtype == expected.dtype == torch.float32
    assert torch.equal(found, expected)
    assert flat_width(read(space)) == get_flattened_obs_dim(space)
    assert is_image(read(space), any_range=not scales) == is_image_space(space, normalized_image=not scales)


EXTRACTORS: dict[str, tuple[str, spaces.Space[Any], dict[str, Any]]] = {
    "flat": ("FlattenExtractor", PLAIN[6], {}),
    "nature": ("NatureCNN", IMAGE, {"features_dim": 9}),
    "nature, scaled already": ("NatureCNN", PLAIN[2], {"normalized_image": True}),
    "combined": ("CombinedExtractor", MIXED, {"cnn_output_dim": 7}),
    "combined, any range": ("CombinedExtractor", spaces.Dict({"a": PLAIN[1]}), {"normalized_image": True}),
    "combined, flat": ("CombinedExtractor", spaces.Dict({"a": PLAIN[1], "b": IMAGE}), {}),
}


@pytest.mark.parametrize("prefix", ["features_extractor.", "actor.features_extractor."])
@pytest.mark.parametrize("name", EXTRACTORS)
def test_features_are_the_librarys(name: str, prefix: str) -> None:
    kind, space, settings = EXTRACTORS[name]
    module = getattr(torch_layers, kind)(space, **settings)
    weights = {f"{prefix}{key}": each for key, each in module.state_dict().items()}
    training: Any = SimpleNamespace(
        space=read(space),
        policy_class="any.Policy",
        policy_settings={
            "features_extractor_class": f"stable_baselines3.common.torch_layers.{kind}",
            "features_extractor_kwargs": settings,
        },
    )
    features = features_of(training, {key: tuple(each.shape) for key, each in weights.items()}, prefix)
    given = rows(space)
    assert features.names == tuple(weights)
    assert features.width == module.features_dim
    assert torch.equal(features(weights, given), module(preprocess_obs(given, space)))
