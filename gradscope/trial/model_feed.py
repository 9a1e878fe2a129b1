"""Batches for a model of the user's (--model): rows that are there, and none that come in.

Of a batch file each row is met once an epoch, in an order drawn anew, as a shuffling DataLoader does that
drops the last, smaller batch. Of a replay buffer each batch is drawn anew from all rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from gradscope.errors import UsageError
from gradscope.recompute.trusted.model_batch import model_batch
from gradscope.run.interventions import OTHER_ROWS
from gradscope.trial.feed import Portion

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.random import RandomState
    from numpy.typing import NDArray

    from gradscope.recompute.batches import Draws
    from gradscope.recompute.trusted.model_drawing import ModelDrawing
    from gradscope.trial.arms import Arm

    Array = NDArray[Any]

WHOLE: Final = "every batch is all {:,} rows, in file order; --batch-size N draws smaller ones"
EPOCHS: Final = (
    "rows: {:,}, each once an epoch in an order drawn anew from the seed, the same for every remedy; an "
    "epoch's last, smaller batch is left out"
)
DRAWN: Final = (
    "rows: {:,} of one replay buffer, each batch drawn anew from the seed, the same for every remedy; what "
    "was collected later does not come in"
)


@dataclass(frozen=True, kw_only=True, eq=False)
class ModelFeed:
    """Batches of one set of rows."""

    drawing: ModelDrawing
    step: int
    """Of the checkpoint."""
    is_file: bool
    """Whether the rows are of a batch file, not of a replay buffer."""
    num_updates: int = 0
    """No new rows come."""
    rows_per_update: float = 0.0

    @property
    def notes(self) -> Sequence[str]:
        """How rows are drawn."""
        words = WHOLE if self.drawing.takes_all else EPOCHS if self.is_file else DRAWN
        return (words.format(len(self.drawing.numbers)),)

    @property
    def is_one_batch(self) -> bool:
        """Whether every batch holds the same rows."""
        return self.drawing.batch_size >= len(self.drawing.numbers)

    def portions(self, arm: Arm, drawn: Draws, num_updates: int, batch_size: int) -> Iterator[Portion]:
        """One after the other."""
        for number, chosen in zip(range(num_updates), self._chosen(drawn.rows, batch_size), strict=False):
            rows = {name: each[chosen] for name, each in self.drawing.rows.items()}
            yield Portion(batch=arm.ready(number, number, model_batch(rows)))

    def _chosen(self, rows: RandomState, batch_size: int) -> Iterator[Array]:
        """Numbers of the rows of each batch, without an end."""
        numbers = self.drawing.numbers
        while True:
            if self.drawing.takes_all:
                yield numbers
            elif self.is_file:
                order = rows.permutation(len(numbers))
                for start in range(0, len(order) - batch_size + 1, batch_size):
                    yield order[start : start + batch_size]
            else:
                yield rows.choice(len(numbers), batch_size, replace=False)

    def newest(self, end: int) -> Mapping[str, Array]:
        """None: rows have no order of collection."""
        del end
        return {}

    def step_after(self, num_updates: int) -> int:
        """The checkpoint's own: no new rows come in."""
        del num_updates
        return self.step

    def dtype_of(self, key: str) -> Any:
        """As the rows are given.

        Raises:
            UsageError: no entry of the rows is that observation.
        """
        stored = self.drawing.stored(self.drawing.numbers[:1])
        if key not in stored:
            raise UsageError(OTHER_ROWS)
        return stored[key].dtype

    def latest(self, found: Any) -> Any:
        """As it is."""
        return found
