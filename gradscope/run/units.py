"""Units of a moment's networks, watched while its gradients are recomputed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from gradscope.errors import UsageError
from gradscope.measure.units import unit_activity
from gradscope.measure.update_ratio import update_ratio
from gradscope.run.recomputed import recomputation

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gradscope.recompute.unit_tally import Units
    from gradscope.records import Snapshot, UnitActivity
    from gradscope.run.given import Means
    from gradscope.run.inputs import Array, RunSlices
    from gradscope.run.join import Moment
    from gradscope.run.tallied import Batch

NONE_SEEN: Final = "no linear, convolutional or recurrent layer was seen in the networks' forward pass"
NO_GRADIENT: Final = "this layer gets no gradient"
NO_WEIGHT: Final = "the checkpoint holds no weight of this name"


def moment_units(moment: Moment, known: RunSlices, means: Means) -> tuple[UnitActivity, ...] | str:
    """Units of every wanted layer, in file order, over all batches; or why there are none.

    Args:
        moment: whose checkpoint it is.
        known: not needed; the same arguments as ``recomputed``.
        means: settings and what recomputing may use.

    Raises:
        UnreadableFile: a file changed or broke since it was opened.
    """
    del known
    found = recomputation(moment, means)
    if isinstance(found, str):
        return found
    units = new_units()
    first: Mapping[str, Array] = {}
    try:
        for batch in watched_batches(found.batches(), units):
            first = first or batch.gradients
    except UsageError as error:
        # Code of the user's that failed on a later batch.
        return str(error)
    return unit_activities(units, first, moment.checkpoint, means)


def new_units() -> Units:
    """For ``watched_batches`` to fill."""
    from gradscope.recompute.unit_tally import Units  # noqa: PLC0415  torch, lazily

    return Units()


def watched_batches(batches: Iterator[Batch], units: Units) -> Iterator[Batch]:
    """The same batches; ``units`` are filled on the way, in the pass that computes the gradients."""
    from gradscope.recompute.activations import watched  # noqa: PLC0415  torch, lazily

    return watched(batches, units)


def unit_activities(
    units: Units, gradients: Mapping[str, Array], checkpoint: Snapshot | None, means: Means
) -> tuple[UnitActivity, ...] | str:
    """Units of every wanted layer, in file order; or why there are none.

    Args:
        units: filled by ``watched_batches``.
        gradients: of the first batch, for the optimizer's next step.
        checkpoint: for weights and optimizer state.
        means: for the settings.

    Raises:
        UnreadableFile: the checkpoint changed since it was opened.
    """
    if units.problem is not None:
        return f"units of these networks cannot be followed ({units.problem})"
    if not units.tallies:
        return NONE_SEEN
    order = {name: place for place, name in enumerate(checkpoint.layers)} if checkpoint else {}
    names = sorted(units.tallies, key=lambda name: order.get(name, len(order)))
    return tuple(
        _with_ratio(unit_activity(units.tallies[name]), gradients.get(name), checkpoint)
        for name in names
        if means.settings.wants_layer(name)
    )


def _with_ratio(found: UnitActivity, gradient: Any, checkpoint: Snapshot | None) -> UnitActivity:
    ratio = _ratio(found.layer, gradient, checkpoint)
    reasons = {key: each for key, each in found.reasons.items() if key != "update_to_weight"}
    if isinstance(ratio, str):
        return replace(found, reasons={**reasons, "update_to_weight": ratio})
    return replace(found, update_to_weight=ratio, reasons=reasons)


def _ratio(name: str, gradient: Array | None, checkpoint: Snapshot | None) -> float | str:
    if gradient is None:
        return NO_GRADIENT
    layer = checkpoint.layers.get(name) if checkpoint else None
    if layer is None or layer.weight is None:
        return NO_WEIGHT
    if not layer.moments:
        return layer.reasons.get("moments", "the file holds no optimizer state of this layer")
    return update_ratio(layer.weight, gradient, layer.moments, layer.moment_settings)
