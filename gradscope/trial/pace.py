"""How many new rows a run collected for each of its gradient steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradscope.run.join import Moment


def rows_per_update(moments: Sequence[Moment]) -> float:
    """Of the stretch from the first to the second checkpoint, else of the first one's own past.

    1 where the checkpoints do not say.

    Raises:
        UnreadableFile: a checkpoint changed while it was read.
    """
    counts = [_counts(each) for each in moments[:2]]
    first = counts[0]
    for end, start in ((counts[-1], first), (first, (0.0, 0.0))):
        if end is not None and start is not None and end[1] > start[1] and end[0] > start[0]:
            return (end[0] - start[0]) / (end[1] - start[1])
    return 1.0


def _counts(moment: Moment) -> tuple[float, float] | None:
    """Steps of the environments and updates so far."""
    from gradscope.read.sb3_training import sb3_training  # noqa: PLC0415  only where it is needed

    assert moment.checkpoint is not None
    settings = sb3_training(moment.checkpoint.source).settings
    values = [settings.get(name) for name in ("num_timesteps", "_n_updates")]
    numbers = [float(each) for each in values if isinstance(each, (int, float))]
    return (numbers[0], numbers[1]) if len(numbers) == len(values) else None
