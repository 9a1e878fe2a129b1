"""Mini-batches of sb3-contrib's recurrent rollout buffers: sequences cut at episodes, padded to one length.

Source: sb3_contrib/common/recurrent/buffers.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gradscope.recompute.rollout_batches import Memory, RolloutBatch, batch_of_rows, by_space, tensor
from gradscope.recompute.rollout_drawing import epoch_order, places, whole_batches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray

    from gradscope.recompute.rollout_drawing import RolloutDrawing

    Array = NDArray[Any]


def recurrent_batches(drawing: RolloutDrawing, draw: np.random.RandomState) -> Iterator[RolloutBatch]:
    """Neighbouring rows from a random split on, one epoch after the other; smaller last ones are left out."""
    for _ in range(-(-drawing.num_batches // whole_batches(drawing))):
        order = epoch_order(drawing, draw)
        for number in range(whole_batches(drawing)):
            start = number * drawing.batch_size
            yield batch_of_sequences(drawing, order[start : start + drawing.batch_size])


def minibatch(drawing: RolloutDrawing, rows: Array) -> RolloutBatch:
    """Rows of one epoch as the algorithm takes them: of sequences where the policy is recurrent."""
    return batch_of_sequences(drawing, rows) if drawing.states else batch_of_rows(drawing, rows)


def batch_of_sequences(drawing: RolloutDrawing, rows: Array) -> RolloutBatch:
    """Neighbouring rows, cut where an episode or an environment begins."""
    rollout, where = drawing.rollout, places(drawing, rows)
    begins = np.logical_or(rollout.episode_starts[where], where[0] == 0)
    begins[0] = True
    starts = np.flatnonzero(begins)
    ends = np.append(starts[1:], len(rows))

    def padded(array: Array) -> torch.Tensor:
        """[sequences x longest, ...], zeros behind each sequence's end."""
        parts = [tensor(array[start:end]) for start, end in zip(starts, ends, strict=True)]
        return torch.nn.utils.rnn.pad_sequence(parts, batch_first=True).flatten(0, 1)

    stored = drawing.stored(rows)
    seen = drawing.inputs(stored, rows)
    first = where[0][starts], where[1][starts]
    return RolloutBatch(
        observations=by_space({key: padded(array) for key, array in seen.items()}),
        actions=padded(rollout.actions[where]),
        values=padded(rollout.values[where]),
        log_probs=padded(rollout.log_probs[where]),
        advantages=padded(rollout.advantages[where]),
        returns=padded(rollout.returns[where]),
        memory=_memory(drawing.states, first, rollout.episode_starts[where], padded),
        stored_observations=stored,
    )


def _memory(
    states: Mapping[str, Array],
    first: tuple[Array, Array],
    episode_starts: Array,
    padded: Callable[[Array], torch.Tensor],
) -> Memory:
    """States at ``first``: step and environment of each sequence's first row."""
    steps, environments = first
    found = {
        name: tensor(array[steps, :, environments].swapaxes(0, 1)).contiguous()
        for name, array in states.items()
    }
    return Memory(
        actor=(found["hidden_states_pi"], found["cell_states_pi"]),
        critic=(found["hidden_states_vf"], found["cell_states_vf"]),
        episode_starts=padded(episode_starts),
        mask=padded(np.ones_like(episode_starts)) > 0,
    )
