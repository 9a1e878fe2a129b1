"""Remedies that stand before the network's first layer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gradscope.records import Slice
    from gradscope.run.inputs import RunSlices

_BARS: Final = 2
MIX: Final = 0.1
"""What the case proposed."""


@dataclass(frozen=True, kw_only=True, eq=False)
class InputModule:
    """A module that one entry of the observations goes through."""

    key: str
    module: torch.nn.Module
    shape: tuple[int, ...]
    """[rows, ...] that the module takes, -1 for the rows."""

    def on(self, one: Any, *, is_training: bool = True) -> Any:
        """A Batch or RolloutBatch behind the module; what follows is not taken into its statistics."""
        memory = getattr(one, "memory", None)
        # Padding behind a sequence is no observation: it stays 0 and out of the statistics.
        real = None if memory is None else memory.mask
        seen = {"observations": self._through(one.observations, real, is_training=is_training)}
        following = getattr(one, "next_observations", None)
        if following is not None:
            seen["next_observations"] = self._through(following, None, is_training=False)
        return replace(one, **seen)

    def _through(self, observations: Any, real: torch.Tensor | None, *, is_training: bool) -> Any:
        """Rows that are ``real``, or all."""
        plain = isinstance(observations, torch.Tensor)
        values = observations if plain else observations[self.key]
        self.module.train(is_training)
        with torch.no_grad():
            rows = values if real is None else values[real]
            changed = self.module(rows.reshape(self.shape)).reshape(rows.shape)
            if real is not None:
                padded = torch.zeros(values.shape, dtype=changed.dtype)
                padded[real] = changed
                changed = padded
        return changed if plain else {**observations, self.key: changed}


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a slice's entry of the observation is laid out in bars."""

    key: str
    name: str
    """Of the slice that the remedy is for."""
    num_features: int
    shape: tuple[int, ...]
    slices: Mapping[str, Sequence[int]]
    """Columns of one bar."""


def layout(wanted: Slice, known: RunSlices) -> Layout:
    """Bars where all slices repeat in each, else the whole observation as one."""
    shape = known.shapes[wanted.key]
    own = [each for each in known.slices if each.key == wanted.key]
    length = known.sequence_length if not wanted.key and len(shape) == 1 else None
    num_bars = shape[0] if len(shape) == _BARS else length or 1
    size = 1
    for each in shape:
        size *= each
    if any(each.flat for each in own):
        num_bars = 1
    features = size // num_bars
    columns = {each.name: tuple(each.columns) for each in own if max(each.columns) < features}
    return Layout(
        key=wanted.key,
        name=wanted.name,
        num_features=features,
        shape=(-1, num_bars, features) if num_bars > 1 else (-1, features),
        slices=columns,
    )


def slice_normalizer(found: Layout) -> InputModule:
    """The case's first fix: each slice by its own statistics, the one in question mixed in with a tenth."""
    from gradscope.remedy import SliceNormalizer  # noqa: PLC0415  torch modules, only where it is tried

    mix = {found.name: MIX} if found.name in found.slices else None
    return _module(found, SliceNormalizer(found.num_features, dict(found.slices), mix=mix))


def input_layer_norm(found: Layout) -> InputModule:
    """A layer norm for each slice of a bar, without weights of its own."""
    from gradscope.remedy import InputLayerNorm  # noqa: PLC0415  torch modules, only where it is tried

    return _module(found, InputLayerNorm(found.num_features, dict(found.slices), affine=False))


def _module(found: Layout, module: torch.nn.Module) -> InputModule:
    return InputModule(key=found.key, module=module, shape=found.shape)
