"""True gradients of a moment from its checkpoint and replay buffer; torch is imported only here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gradscope.run.activity import ActivityCount
from gradscope.run.counted import Counted, LayerCounts, Tally, mean_clipping

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gradscope.records import Ring
    from gradscope.run.given import Given
    from gradscope.run.inputs import RunSlices
    from gradscope.run.join import Moment
    from gradscope.settings import Settings

NO_REPLAY: Final = (
    "no replay buffer of this step: save one with each checkpoint (save_replay_buffer=True) "
    "or name one with --replay"
)
NO_CHECKPOINT: Final = "only a recorder file is here: recomputing needs the checkpoint"
NOT_SB3: Final = (
    "which model and loss this checkpoint belongs to is not known: name them with --model, "
    "or store gradients in training"
)
NO_BATCH_SIZE: Final = "the checkpoint does not say its batch size: give --batch-size"
NO_FRESH: Final = "no fresh network of this architecture could be made"


def recomputed(
    moment: Moment, settings: Settings, known: RunSlices, given: Given | None = None
) -> Counted | str:
    """Counts of the recomputed gradients, or the reason why there are none.

    Raises:
        UnreadableFile: a file changed or broke since it was opened.
    """
    checkpoint = moment.checkpoint
    if checkpoint is None:
        return NO_CHECKPOINT
    if checkpoint.format != "sb3":
        return NOT_SB3
    from gradscope.read.sb3_training import sb3_training  # noqa: PLC0415  only where it is needed

    training = sb3_training(checkpoint.source)
    size = settings.batch_size or training.settings.get("batch_size")
    if not isinstance(size, int):
        return NO_BATCH_SIZE
    ring = _ring(moment, given)
    if ring is None:
        return NO_REPLAY
    from gradscope.recompute import Refusal, recompute_gradients  # noqa: PLC0415  torch, lazily

    found = recompute_gradients(
        training, ring, moment.normalizer, batches=settings.batches, batch_size=size, seed=settings.seed
    )
    return found.reason if isinstance(found, Refusal) else _counted(found, settings, known, size)


def _ring(moment: Moment, given: Given | None) -> Ring | None:
    if given is not None and given.replay is not None:
        return given.replay.ring
    return moment.replay.opened().ring if moment.replay is not None else None


def _counted(found: Any, settings: Settings, known: RunSlices, batch_size: int) -> Counted:
    """Counts over all batches, and over the same batches of a fresh network."""
    wanted = [name for name in found.layers if settings.wants_layer(name)]
    seen, fresh = (
        Tally(tolerance=settings.zero_tolerance, modules=getattr(found, "modules", {})) for _ in range(2)
    )
    active, clippings = ActivityCount(known=known), []
    for batch in found.batches():
        seen.add((name, batch.gradients[name]) for name in wanted)
        clippings.append(batch.clipping)
        active.add(batch.observations)
    for batch in found.fresh_batches():
        fresh.add((name, batch.gradients[name]) for name in wanted)
    return Counted(
        layers=_layers(wanted, seen, fresh),
        layer_reasons=found.layer_reasons,
        num_batches=len(clippings),
        batch_size=batch_size,
        seed=settings.seed,
        norm=seen.norm(),
        clipping=mean_clipping(clippings),
        activity=active.found(),
        reasons=found.reasons,
    )


def _layers(names: Iterable[str], seen: Tally, fresh: Tally) -> dict[str, LayerCounts]:
    baselines = {name: fresh.unexpected(name) for name in names}
    return {
        name: LayerCounts(
            counts=seen.counts[name],
            baseline_zero_fraction=baseline,
            reasons={} if baseline is not None else {"baseline_zero_fraction": NO_FRESH},
        )
        for name, baseline in baselines.items()
    }
