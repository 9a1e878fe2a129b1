"""Rollouts that the recorder stored, one update of the library's after the other: PPO, A2C and RecurrentPPO.

A rollout counts as collected by the weights that train on it: old values, log-probabilities and LSTM states
are those of the weights before its first epoch. For the training as it was and the checkpoint's own rollout
these are the stored ones, and the weights come out as the library's train() leaves them. Advantages stay as
they were, and so do the LSTM states with which a rollout begins.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from gradscope.recompute.recurrent_batches import minibatch
from gradscope.recompute.rollout_batches import batch_of_rows
from gradscope.recompute.rollout_drawing import epoch_order
from gradscope.trial.feed import Portion

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from gradscope.recompute.batches import Draws
    from gradscope.recompute.rollout_drawing import RolloutDrawing
    from gradscope.trial.arms import Arm

    Array = NDArray[Any]

STATES: Final = "the LSTM's states at the start of each rollout are those that the run had"


@dataclass(frozen=True, kw_only=True, eq=False)
class RolloutFeed:
    """Mini-batches, epoch after epoch, rollout after rollout; the last one again and again."""

    drawings: Sequence[RolloutDrawing]
    """Of the checkpoint, then of later ones."""
    steps: Sequence[int]
    """Of their checkpoints."""
    num_epochs: int

    @property
    def per_rollout(self) -> int:
        """Updates on one rollout."""
        return self.num_epochs * self._per_epoch

    @property
    def _per_epoch(self) -> int:
        """Mini-batches, the smaller one that may end an epoch among them."""
        return -(-self.drawings[0].num_rows // self.drawings[0].batch_size)

    @property
    def num_updates(self) -> int:
        """Once on every rollout."""
        return len(self.drawings) * self.per_rollout

    @property
    def rows_per_update(self) -> float:
        """Mean."""
        return self.drawings[0].num_rows / self.per_rollout

    @property
    def notes(self) -> Sequence[str]:
        """How the rows are used."""
        known = f"rollouts of {len(self.drawings)} of the run's updates are stored"
        found = [f"{known}: what was collected between them is not trained on"]
        if self.drawings[0].rollout.settings.get("target_kl") is not None:
            found.append("target_kl, which may end an update early, is not applied: every epoch is trained")
        if self.drawings[0].states:
            found.append(STATES)
        return tuple(found)

    @property
    def is_one_batch(self) -> bool:
        """Whether every batch is the whole rollout."""
        return self._per_epoch == 1

    def portions(self, arm: Arm, drawn: Draws, num_updates: int, batch_size: int) -> Iterator[Portion]:
        """As train() draws them."""
        del batch_size
        number = 0
        while number < num_updates:
            place = number // self.per_rollout
            drawing = self.drawings[min(place, len(self.drawings) - 1)]
            is_as_collected = place == 0 and arm.inputs is None
            drawing = drawing if is_as_collected else _collected(drawing, arm, drawn)
            for _ in range(self.num_epochs):
                order = epoch_order(drawing, drawn.rows)
                for at in range(self._per_epoch):
                    rows = order[at * drawing.batch_size : (at + 1) * drawing.batch_size]
                    if number < num_updates:
                        yield Portion(batch=arm.ready(number, place, minibatch(drawing, rows)))
                    number += 1

    def newest(self, end: int) -> Mapping[str, Array]:
        """The rollout that is trained on; ``end`` is its place."""
        drawing = self.drawings[min(end, len(self.drawings) - 1)]
        return drawing.stored(drawing.numbers)

    def step_after(self, num_updates: int) -> int:
        """Of the checkpoint whose rollout came last."""
        return self.steps[min((num_updates - 1) // self.per_rollout, len(self.steps) - 1)]

    def dtype_of(self, key: str) -> Any:
        """As the rollout holds it."""
        return self.drawings[0].observations[key].dtype

    def latest(self, found: Any) -> Any:
        """On the last rollout."""
        return replace(found, drawing=replace(self.drawings[-1], num_batches=found.drawing.num_batches))


def _collected(drawing: RolloutDrawing, arm: Arm, drawn: Draws) -> RolloutDrawing:
    """As if the arm's present weights had collected it."""
    whole = batch_of_rows(drawing, drawing.numbers)
    if arm.inputs is not None:
        # As while collecting: rows first came in, then the policy looked at them.
        arm.inputs.on(whole)
        whole = arm.inputs.on(whole, is_training=False)
    return arm.trainee.collected(drawing, whole, drawn)
