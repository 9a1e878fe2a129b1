"""Recomputed gradients become counts, batch by batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from gradscope.run.action_heads import ChoiceCount
from gradscope.run.activity import ActivityCount
from gradscope.run.counted import Counted, LayerCounts, Tally, mean_clipping

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from gradscope.records import Clipping
    from gradscope.run.inputs import Array, RunSlices
    from gradscope.settings import Settings

NO_FRESH: Final = "no fresh network of this architecture could be made"


class Batch(Protocol):
    """What the optimizers see of one batch."""

    @property
    def gradients(self) -> Mapping[str, Array]:
        """By layer."""

    @property
    def clipping(self) -> Clipping:
        """What was clipped."""

    @property
    def observations(self) -> Mapping[str, Array]:
        """The batch's rows as they were stored."""

    @property
    def looked_up(self) -> Mapping[str, Array]:
        """Rows of embeddings that it used, by layer, where somebody counted."""


class Recomputation(Protocol):
    """What recompute/ gives, whatever the algorithm."""

    @property
    def layers(self) -> Sequence[str]:
        """Those that get gradients."""

    @property
    def layer_reasons(self) -> Mapping[str, str]:
        """Those that get none, and why."""

    @property
    def reasons(self) -> Mapping[str, str]:
        """What else to know."""

    @property
    def modules(self) -> Mapping[str, str]:
        """Type of the module that owns each layer, where it is known."""

    @property
    def batch_size(self) -> int:
        """Rows of a batch."""

    @property
    def seed(self) -> int:
        """Of its random states."""

    def batches(self) -> Iterator[Batch]:
        """Of the checkpoint's weights."""

    def fresh_batches(self) -> Iterator[Batch]:
        """Of a fresh network's, on the same rows."""


def tallied(found: Recomputation, settings: Settings, known: RunSlices, *, is_raw: bool = True) -> Counted:
    """Counts over all batches, and over the same batches of a fresh network.

    ``is_raw``: whether the batches' rows are as they were collected, so that activity can be counted.
    """
    wanted = [name for name in found.layers if settings.wants_layer(name)]
    seen = Tally(tolerance=settings.zero_tolerance, modules=found.modules)
    fresh = Tally(tolerance=settings.zero_tolerance, modules=found.modules, wants_details=False)
    active, clippings, choices = ActivityCount(known=known, is_counted=is_raw), [], ChoiceCount()
    for batch in found.batches():
        seen.add(batch.gradients, wanted, batch.looked_up)
        clippings.append(batch.clipping)
        active.add(batch.observations)
        choices.add(batch)
    for batch in found.fresh_batches():
        fresh.add(batch.gradients, wanted, batch.looked_up)
        fresh.samples.clear()
    return Counted(
        layers=_layers(wanted, seen, fresh, len(clippings)),
        layer_reasons=found.layer_reasons,
        num_batches=len(clippings),
        batch_size=found.batch_size,
        seed=found.seed,
        norm=seen.norm(),
        clipping=mean_clipping(clippings),
        activity=active.found(),
        taken=choices.taken(),
        reasons=found.reasons,
    )


def _layers(names: Iterable[str], seen: Tally, fresh: Tally, num_batches: int) -> dict[str, LayerCounts]:
    """Layers that got a gradient in every batch: a missing one is no zero."""
    baselines = {name: fresh.unexpected(name) for name in names}
    return {
        name: LayerCounts(
            counts=seen.counts[name],
            baseline_zero_fraction=baseline,
            sample=seen.samples[name],
            details=seen.details[name].details(),
            reasons={} if baseline is not None else {"baseline_zero_fraction": NO_FRESH},
        )
        for name, baseline in baselines.items()
        if len(seen.counts.get(name, ())) == num_batches
    }
