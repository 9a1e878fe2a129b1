"""Rollouts that the recorder stored, one update of the library's after the other: PPO and A2C.

A rollout counts as collected by the weights that train on it: old values and log-probabilities are those of
the weights before its first epoch. For the training as it was and the checkpoint's own rollout these are the
stored ones, and the weights come out as the library's train() leaves them. Advantages stay as they were.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from gradscope.recompute.rollout_batches import batch_of_rows
from gradscope.trial.feed import Portion

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import torch
    from numpy.typing import NDArray

    from gradscope.recompute.batches import Draws
    from gradscope.recompute.rollout_drawing import RolloutDrawing
    from gradscope.trial.arms import Arm

    Array = NDArray[Any]


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
            old = None if is_as_collected else self._judged(drawing, arm, drawn)
            for _ in range(self.num_epochs):
                order = drawn.rows.permutation(drawing.num_rows)
                for at in range(self._per_epoch):
                    rows = order[at * drawing.batch_size : (at + 1) * drawing.batch_size]
                    if number < num_updates:
                        one = batch_of_rows(drawing, rows)
                        if old is not None:
                            one = replace(one, values=old[0][rows], log_probs=old[1][rows])
                        yield Portion(batch=arm.ready(number, place, one))
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
        return replace(found, _drawing=replace(self.drawings[-1], num_batches=found.drawing.num_batches))

    def _judged(self, drawing: RolloutDrawing, arm: Arm, drawn: Draws) -> tuple[torch.Tensor, torch.Tensor]:
        """Values and log-probabilities of all rows by the arm's present weights, [rows] each."""
        whole = batch_of_rows(drawing, drawing.numbers)
        if arm.inputs is not None:
            # As while collecting: rows first came in, then the policy looked at them.
            arm.inputs.on(whole)
            whole = arm.inputs.on(whole, is_training=False)
        values, log_probs, _ = arm.trainee.judged(whole, drawn)
        return values, log_probs
