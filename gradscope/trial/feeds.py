"""Which feed a checkpoint's trainings take: its replay buffers, its stored rollouts, or rows for --model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradscope.errors import UsageError
from gradscope.recompute.networks import Mismatch
from gradscope.recompute.rollout_drawing import RolloutDrawing, rollout_drawing
from gradscope.recompute.trusted.model_drawing import ModelDrawing
from gradscope.trial.feed import Feed, StreamFeed
from gradscope.trial.model_feed import ModelFeed
from gradscope.trial.pace import rows_per_update
from gradscope.trial.rollouts import RolloutFeed
from gradscope.trial.stream import stream_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gradscope.run.given import Means
    from gradscope.run.join import Moment


def feed_of(found: Any, moments: Sequence[Moment], means: Means) -> Feed:
    """Rows of a checkpoint and of those after it.

    Args:
        found: the checkpoint's recomputation.
        moments: its own, then later ones with a buffer or a rollout.
        means: what --replay named stands alone.

    Raises:
        UsageError: the run does not say how it trains on a rollout.
        UnreadableFile: a file changed since it was opened.
    """
    if isinstance(found.drawing, ModelDrawing):
        is_file = means.given.rows is not None
        return ModelFeed(drawing=found.drawing, step=moments[0].step or 0, is_file=is_file)
    if isinstance(found.drawing, RolloutDrawing):
        return _rollouts(found.drawing, moments, means)
    return StreamFeed(
        stream=stream_of(found.drawing, list(_rings(found, moments, means))),
        rows_per_update=rows_per_update(moments),
        num_environments=int(next(iter(found.drawing.ring.observations.values())).shape[1]),
    )


def _rings(found: Any, moments: Sequence[Moment], means: Means) -> Iterator[tuple[int, Any]]:
    yield moments[0].step or 0, found.drawing.ring
    if means.given.replay is None:
        for each in moments[1:]:
            ring = each.replay.opened().ring if each.replay is not None else None
            if ring is not None and each.step is not None:
                yield each.step, ring


def _sizes(drawing: RolloutDrawing) -> tuple[object, ...]:
    return drawing.rollout.actions.shape, {name: each.shape for name, each in drawing.states.items()}


def _rollouts(own: RolloutDrawing, moments: Sequence[Moment], means: Means) -> RolloutFeed:
    drawings, steps = [own], [moments[0].step or 0]
    for each in moments[1:] if means.given.rollout is None else ():
        if each.rollout is None or each.step is None:
            continue
        try:
            drawing, _ = rollout_drawing(each.rollout, own.num_batches, own.batch_size, own.seed)
        except Mismatch:
            # Of another size: the run went on in another way.
            break
        if _sizes(drawing) != _sizes(own):
            break
        drawings.append(drawing)
        steps.append(each.step)
    epochs = own.rollout.settings.get("n_epochs", 1)
    if not isinstance(epochs, int) or epochs < 1:
        raise UsageError("the rollout does not say how many epochs it was trained on.")
    return RolloutFeed(drawings=drawings, steps=steps, num_epochs=epochs)
