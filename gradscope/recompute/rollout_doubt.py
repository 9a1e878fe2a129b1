"""Whether a rollout was collected by a checkpoint's weights: by the values it holds."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import torch

from gradscope.recompute.results import Refusal

if TYPE_CHECKING:
    from gradscope.recompute.rollout_batches import RolloutBatch

NEAR: Final = 1e-4
FAR: Final = 1e-2
"""Relative differences of values: up to NEAR by rounding (another device), beyond FAR by other weights."""


def doubt(values: torch.Tensor, one: RolloutBatch) -> dict[str, str] | Refusal:
    """What it means if values by these weights are not the ones that the rollout holds."""
    real = slice(None) if one.memory is None else one.memory.mask
    found, stored = values[real].double(), one.values[real].double()
    is_number = stored.isfinite()
    difference = 0.0
    if not torch.equal(found.isfinite(), is_number):
        difference = math.inf
    elif is_number.any():
        stored = stored[is_number]
        difference = float((found[is_number] - stored).abs().max() / (1 + stored.abs().max()))
    if difference > FAR:
        return Refusal(
            reason=f"the rollout was collected by other weights: their values differ by {difference:.2g}"
        )
    if difference <= NEAR:
        return {}
    return {
        "rollout": f"values differ by {difference:.2g} from the rollout's: another device, or other weights"
    }
