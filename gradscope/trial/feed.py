"""Where a training's batches come from: the run's own rows, at the run's own pace."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from gradscope.recompute.batches import Draws
    from gradscope.trial.arms import Arm
    from gradscope.trial.stream import Stream

    Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Portion:
    """One update's batch, ready to be trained on."""

    batch: Any
    """A Batch of a replay buffer, or a RolloutBatch."""
    num_calls: int | None = None
    """Of the environments by this update; None: no new ones."""


class Feed(Protocol):
    """Rows of one run, the same for every training of a seed."""

    @property
    def num_updates(self) -> int:
        """Gradient steps for which there are new rows; 0 where none come."""

    @property
    def rows_per_update(self) -> float:
        """New rows before each gradient step."""

    @property
    def notes(self) -> Sequence[str]:
        """What limits it."""

    @property
    def is_one_batch(self) -> bool:
        """Whether every batch holds the same rows, so that seeds differ in nothing but the order of sums."""

    def portions(self, arm: Arm, drawn: Draws, num_updates: int, batch_size: int) -> Iterator[Portion]:
        """The batches of so many updates, with what the arm does before each."""

    def newest(self, end: int) -> Mapping[str, Array]:
        """Stored observations of the newest rows at an update, by key; ``end`` is what the arm was told.

        Empty where rows have no order of collection.
        """

    def step_after(self, num_updates: int) -> int:
        """Environment step whose rows have come in by then."""

    def dtype_of(self, key: str) -> Any:
        """Numpy's type of an entry of the observations."""

    def latest(self, found: Any) -> Any:
        """The recomputation on the newest rows of all, where a slice that opens late has opened."""


@dataclass(frozen=True, kw_only=True, eq=False)
class StreamFeed:
    """Batches drawn evenly from what a replay buffer would hold by each update."""

    stream: Stream
    rows_per_update: float
    num_environments: int

    @property
    def num_updates(self) -> int:
        """Until the last buffer's newest row."""
        return int((len(self.stream) - self.stream.start) / self.rows_per_update)

    @property
    def notes(self) -> Sequence[str]:
        """Of the stream."""
        return self.stream.notes

    @property
    def is_one_batch(self) -> bool:
        """Rows are drawn anew for each."""
        return False

    def portions(self, arm: Arm, drawn: Draws, num_updates: int, batch_size: int) -> Iterator[Portion]:
        """One after the other."""
        start = arm.trainee.num_calls
        for number in range(num_updates):
            num_new = (number + 1) * self.rows_per_update
            end = self.stream.end_after(num_new)
            one = arm.ready(number, end, self.stream.batch(drawn.rows, end, batch_size))
            yield Portion(batch=one, num_calls=start + int(num_new / self.num_environments))

    def newest(self, end: int) -> Mapping[str, Array]:
        """Those that came in with this update."""
        return self.stream.newest(end, max(round(self.rows_per_update), 1))

    def step_after(self, num_updates: int) -> int:
        """As the checkpoints count."""
        return int(self.stream.steps[self.stream.end_after(num_updates * self.rows_per_update) - 1])

    def dtype_of(self, key: str) -> Any:
        """As the buffer holds it."""
        return self.stream.drawings[0].ring.observations[key].dtype

    def latest(self, found: Any) -> Any:
        """On the last buffer."""
        return replace(found, drawing=replace(found.drawing, ring=self.stream.drawings[-1].ring))
