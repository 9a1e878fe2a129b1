"""Features extractors of Stable-Baselines3, rebuilt from names and shapes of their weights.

Source: stable_baselines3/common/torch_layers.py, extract_features in common/policies.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import torch
from torch.nn.functional import conv2d, linear, relu

from gradscope.recompute.networks import Mismatch
from gradscope.recompute.preprocessing import Preprocessing, flat_width, is_image

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradscope.recompute.inputs import Space, Training
    from gradscope.recompute.networks import Parameters, Shapes
    from gradscope.recompute.roles import Features, Observations

_LAYERS: Final = "stable_baselines3.common.torch_layers"
FLATTEN: Final = f"{_LAYERS}.FlattenExtractor"
NATURE: Final = f"{_LAYERS}.NatureCNN"
COMBINED: Final = f"{_LAYERS}.CombinedExtractor"
_SETTINGS: Final[Mapping[str, frozenset[str]]] = {
    FLATTEN: frozenset(),
    NATURE: frozenset({"features_dim", "normalized_image"}),
    COMBINED: frozenset({"cnn_output_dim", "normalized_image"}),
}
"""Arguments that change nothing which shapes of weights do not show, but normalized_image."""
_CONVOLUTIONS: Final = (("cnn.0", 32, 8, 4), ("cnn.2", 64, 4, 2), ("cnn.4", 64, 3, 1))
"""Name, channels, kernel size and stride."""


class _Part(Protocol):
    """What one key of a Dict goes through."""

    @property
    def names(self) -> tuple[str, ...]: ...
    @property
    def width(self) -> int: ...
    def of(self, parameters: Parameters, inputs: torch.Tensor) -> torch.Tensor: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class _Flatten:
    width: int
    names: tuple[str, ...] = ()

    def of(self, parameters: Parameters, inputs: torch.Tensor) -> torch.Tensor:
        del parameters
        return inputs.flatten(1)


@dataclass(frozen=True, kw_only=True, eq=False)
class _NatureCnn:
    """Three convolutions and a linear layer, ReLU after each."""

    prefix: str
    width: int

    @property
    def names(self) -> tuple[str, ...]:
        """Its parameters, in file order."""
        layers = [*(name for name, *_ in _CONVOLUTIONS), "linear.0"]
        return tuple(f"{self.prefix}{layer}.{part}" for layer in layers for part in ("weight", "bias"))

    def of(self, parameters: Parameters, inputs: torch.Tensor) -> torch.Tensor:
        """Features [rows, width] of images [rows, channels, height, width]."""
        for name, _, _, stride in _CONVOLUTIONS:
            weight, bias = (parameters[f"{self.prefix}{name}.{part}"] for part in ("weight", "bias"))
            inputs = relu(conv2d(inputs, weight, bias, stride=stride))
        weight, bias = (parameters[f"{self.prefix}linear.0.{part}"] for part in ("weight", "bias"))
        return relu(linear(inputs.flatten(1), weight, bias))


@dataclass(frozen=True, kw_only=True, eq=False)
class PlainFeatures:
    """One extractor over a plain space."""

    preprocessing: Preprocessing
    part: _Part

    @property
    def names(self) -> tuple[str, ...]:
        """Its parameters."""
        return self.part.names

    @property
    def width(self) -> int:
        """Features of a row."""
        return self.part.width

    def __call__(self, parameters: Parameters, observations: Observations) -> torch.Tensor:
        """Features [rows, width]."""
        return self.part.of(parameters, self.preprocessing.plain(observations))


@dataclass(frozen=True, kw_only=True, eq=False)
class CombinedFeatures:
    """An extractor for each key of a Dict space, side by side in the space's order."""

    preprocessing: Preprocessing
    parts: Mapping[str, _Part]

    @property
    def names(self) -> tuple[str, ...]:
        """Their parameters."""
        return tuple(name for part in self.parts.values() for name in part.names)

    @property
    def width(self) -> int:
        """Features of a row."""
        return sum(part.width for part in self.parts.values())

    def __call__(self, parameters: Parameters, observations: Observations) -> torch.Tensor:
        """Features [rows, width]."""
        inputs = self.preprocessing.entries(observations)
        return torch.cat([part.of(parameters, inputs[key]) for key, part in self.parts.items()], dim=1)


def features_of(training: Training, shapes: Shapes, prefix: str) -> Features:
    """Preprocessing and features extractor of a policy: ``features_of(...)(parameters, observations)``.

    Args:
        training: of any policy of Stable-Baselines3: its space, policy class and policy_kwargs.
        shapes: of the policy's parameters.
        prefix: of the extractor's parameters with its dot: "features_extractor.",
            "actor.features_extractor.", "q_net.features_extractor."

    Raises:
        Mismatch: an extractor that is none of the library's, weights of other shapes, or an unknown space.
    """
    space, extractor = training.space, extractor_class(training)
    if extractor not in _SETTINGS:
        raise Mismatch(f"the features extractor {extractor} is code of your own: add --trust --code DIR")
    if space is None:
        raise Mismatch(f"observations of {training.observation_space} are not known")
    any_range = _takes_any_range(training, extractor)
    settings = training.policy_settings or {}
    preprocessing = Preprocessing(space=space, scales_images=bool(settings.get("normalize_images", True)))
    if (extractor == COMBINED) != (space.kind == "Dict"):
        raise Mismatch(f"{extractor} does not take a space of kind {space.kind}")
    if extractor == COMBINED:
        parts = {
            key: _part(shapes, f"{prefix}extractors.{key}.", each, is_cnn=is_image(each, any_range=any_range))
            for key, each in space.entries.items()
        }
        return CombinedFeatures(preprocessing=preprocessing, parts=parts)
    if extractor == NATURE and not is_image(space, any_range=any_range):
        raise Mismatch(f"NatureCNN does not take observations of {space.dtype} {space.shape}")
    return PlainFeatures(
        preprocessing=preprocessing, part=_part(shapes, prefix, space, is_cnn=extractor == NATURE)
    )


def extractor_class(training: Training) -> object:
    """Dotted name of a policy's features extractor: of its settings, else what its class stands for."""
    name = str(training.policy_class).rpartition(".")[2]
    default = NATURE if "Cnn" in name else COMBINED if "MultiInput" in name else FLATTEN
    return (training.policy_settings or {}).get("features_extractor_class", default)


def _takes_any_range(training: Training, extractor: object) -> bool:
    """Whether images are told by their three dimensions alone; normalize_images=False says so too."""
    settings = training.policy_settings or {}
    given = settings.get("features_extractor_kwargs") or {}
    if not isinstance(given, dict) or not set(given) <= _SETTINGS[str(extractor)]:
        raise Mismatch(f"the features extractor's settings are not known: {given}")
    is_off = not settings.get("normalize_images", True) and extractor != FLATTEN
    return is_off or bool(given.get("normalized_image"))


def _part(shapes: Shapes, prefix: str, space: Space, *, is_cnn: bool) -> _Part:
    return _nature_cnn(shapes, prefix, space) if is_cnn else _Flatten(width=flat_width(space))


def _nature_cnn(shapes: Shapes, prefix: str, space: Space) -> _NatureCnn:
    channels, *sides = space.shape
    wanted: dict[str, tuple[int, ...]] = {}
    for name, num_outputs, size, stride in _CONVOLUTIONS:
        wanted[f"{prefix}{name}.weight"] = num_outputs, channels, size, size
        wanted[f"{prefix}{name}.bias"] = (num_outputs,)
        sides, channels = [(side - size) // stride + 1 for side in sides], num_outputs
    if min(sides) < 1:
        raise Mismatch(f"images of {space.shape} are too small for NatureCNN")
    bias = shapes.get(f"{prefix}linear.0.bias", ())
    width = bias[0] if len(bias) == 1 else 0
    wanted[f"{prefix}linear.0.weight"] = width, channels * sides[0] * sides[1]
    wanted[f"{prefix}linear.0.bias"] = (width,)
    for name, shape in wanted.items():
        if shapes.get(name) != shape:
            raise Mismatch(f"{name} is {shapes.get(name)}, not {shape} as NatureCNN needs for {space.shape}")
    return _NatureCnn(prefix=prefix, width=width)
