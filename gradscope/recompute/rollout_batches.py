"""The mini-batches that Stable-Baselines3's rollout buffers draw, from a random state of our own.

Source: RolloutBuffer and DictRolloutBuffer in stable_baselines3/common/buffers.py; recurrent ones are in
recurrent_batches.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gradscope.recompute.rollout_drawing import epoch_order, places, whole_batches

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from gradscope.recompute.roles import Observations
    from gradscope.recompute.rollout_drawing import RolloutDrawing

    Array = NDArray[Any]
    States = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True, kw_only=True, eq=False)
class Memory:
    """What a recurrent policy needs beside its observations; rows are sequences padded to one length."""

    actor: States
    """Hidden and cell states before each sequence, [layers, sequences, units]."""
    critic: States
    episode_starts: torch.Tensor
    """[rows]."""
    mask: torch.Tensor
    """Rows that are no padding, booleans [rows]."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RolloutBatch:
    """One mini-batch as the losses see it, [rows, ...]."""

    observations: Observations
    actions: torch.Tensor
    """[rows, actions]."""
    values: torch.Tensor
    """By the weights that collected them, as log_probs are."""
    log_probs: torch.Tensor
    advantages: torch.Tensor
    returns: torch.Tensor
    memory: Memory | None
    stored_observations: Mapping[str, Array]
    """Without padding."""


def batches(drawing: RolloutDrawing, draw: np.random.RandomState) -> Iterator[RolloutBatch]:
    """Mini-batches of one epoch after the other; an epoch's last one, where it is smaller, is left out."""
    if drawing.allowed is not None:
        for _ in range(drawing.num_batches):
            yield batch_of_rows(drawing, draw.choice(drawing.allowed, drawing.batch_size))
        return
    for _ in range(-(-drawing.num_batches // whole_batches(drawing))):
        order = epoch_order(drawing, draw)
        for number in range(whole_batches(drawing)):
            start = number * drawing.batch_size
            yield batch_of_rows(drawing, order[start : start + drawing.batch_size])


def batch_of_rows(drawing: RolloutDrawing, rows: Array) -> RolloutBatch:
    """Rows counted environment by environment, as one mini-batch."""
    rollout, where, stored = drawing.rollout, places(drawing, rows), drawing.stored(rows)
    seen = drawing.inputs(stored, rows)
    return RolloutBatch(
        observations=by_space({key: tensor(array) for key, array in seen.items()}),
        # The library casts them; a recurrent buffer does not.
        actions=tensor(rollout.actions[where].astype(np.float32, copy=False)),
        values=tensor(rollout.values[where]),
        log_probs=tensor(rollout.log_probs[where]),
        advantages=tensor(rollout.advantages[where]),
        returns=tensor(rollout.returns[where]),
        memory=None,
        stored_observations=stored,
    )


def by_space(tensors: Mapping[str, torch.Tensor]) -> Observations:
    """One tensor for a plain space."""
    return tensors[""] if "" in tensors and len(tensors) == 1 else tensors


def tensor(array: Array) -> torch.Tensor:
    """A tensor of the same type."""
    return torch.from_numpy(np.ascontiguousarray(array, array.dtype.newbyteorder("=")))
