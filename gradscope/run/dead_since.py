"""Since which step units and inputs are dead, and whether they are the same ones as a step before."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from gradscope.measure.zero_details import ALONE, MAX_LISTED
from gradscope.records import DeadSince

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gradscope.records import LayerGradient, Origin, SnapshotGradient, ZeroDetails

    _Key = tuple[str, str, Origin, int | None]

TOO_MANY: Final = f"more than {MAX_LISTED} are dead: they are not listed one by one"
NONE_DEAD: Final = "none is dead, now or at the step before"
NO_STEP: Final = "the step is not known"


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """Dead ones of one layer at one step, each with the step since which it is."""

    step: int
    since: Mapping[int, int]
    is_whole: bool
    """Whether all of them are listed."""


@dataclass(kw_only=True)
class _Track:
    """What was seen of one layer so far, in order."""

    shape: tuple[int, ...]
    units: list[_Seen] = field(default_factory=list)
    inputs: list[_Seen] = field(default_factory=list)


def with_dead_since(snapshots: Sequence[SnapshotGradient]) -> tuple[SnapshotGradient, ...]:
    """Snapshots, each run's in order, with each layer's dead units and inputs compared over steps.

    Only gradients of one origin and of as many batches are compared; a unit that lived at a step in between
    counts from its next death on. Of several files of one step the first is compared with.
    """
    tracks: dict[_Key, _Track] = {}
    return tuple(_compared(each, tracks) for each in snapshots)


def _compared(snapshot: SnapshotGradient, tracks: dict[_Key, _Track]) -> SnapshotGradient:
    layers = []
    for layer in snapshot.layers:
        if layer.details is None:
            layers.append(layer)
            continue
        key = snapshot.run, layer.name, layer.origin, snapshot.num_batches
        track = tracks.setdefault(key, _Track(shape=layer.shape))
        layers.append(_with_since(layer, layer.details, snapshot.step, track))
    return replace(snapshot, layers=tuple(layers))


def _with_since(layer: LayerGradient, details: ZeroDetails, step: int | None, track: _Track) -> LayerGradient:
    if step is None or layer.shape != track.shape:
        why = NO_STEP if step is None else "the layer had another shape before"
        reasons = {**details.reasons, "units_since": why, "inputs_since": why}
        return replace(layer, details=replace(details, reasons=reasons))
    units = _since(step, track.units, details.dead_units, details.num_dead_units)
    inputs = _since(step, track.inputs, details.dead_inputs, details.num_dead_inputs)
    reasons = {key: why for key, why in details.reasons.items() if key not in {"units_since", "inputs_since"}}
    if units is None:
        reasons["units_since"] = NONE_DEAD
    if inputs is None:
        reasons["inputs_since"] = details.reasons.get("num_dead_inputs", NONE_DEAD)
    return replace(layer, details=replace(details, units_since=units, inputs_since=inputs, reasons=reasons))


def _since(step: int, seen: list[_Seen], dead: Sequence[int], number: int | None) -> DeadSince | None:
    """The comparison with the step before, None where nothing died; one more entry in ``seen``."""
    if number is None:
        return None
    # Two files of one step are both compared with the step before, not with each other.
    before = next((each for each in reversed(seen) if each.step < step), None)
    earlier = before.since if before is not None else {}
    since = {each: earlier.get(each, step) for each in dead}
    is_whole = number == len(dead) and (before is None or before.is_whole)
    if not seen or seen[-1].step != step:
        seen.append(_Seen(step=step, since=since, is_whole=number == len(dead)))
        # Steps rise: nothing is compared with what lies more than one step back.
        del seen[:-2]
    if not since and not earlier:
        return None
    if not is_whole:
        why = dict.fromkeys(("num_before", "num_same", "overlap", "since", "dead_since"), TOO_MANY)
        return DeadSince(previous_step=before.step if before else None, reasons=why)
    counts = Counter(since.values())
    found = DeadSince(
        since={str(each): counts[each] for each in sorted(counts)}, dead_since=tuple(since.values())
    )
    if before is None:
        why = dict.fromkeys(("previous_step", "num_before", "num_same", "overlap"), ALONE)
        return replace(found, reasons=why)
    either = since.keys() | earlier.keys()
    num_same = len(since.keys() & earlier.keys())
    return replace(
        found,
        previous_step=before.step,
        num_before=len(earlier),
        num_same=num_same,
        overlap=num_same / len(either),
    )
