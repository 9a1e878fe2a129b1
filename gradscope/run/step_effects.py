"""Interventions at one step: passes over the same batches, and what became of the zeros."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from gradscope.errors import UnreadableFile, UsageError
from gradscope.judge.interventions import BY_HEART, takes_zeros
from gradscope.measure import ColumnZeros, effect, own_columns
from gradscope.records import ALL_LAYERS, Effect
from gradscope.run.interventions import PERMUTED, Intervention, interventions
from gradscope.settings import NUM_BATCHES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gradscope.records import Slice
    from gradscope.run.given import Means
    from gradscope.run.inputs import Array, RunSlices
    from gradscope.run.interventions import Interventions
    from gradscope.run.join import Moment

    Told = Callable[[int, int], None]

ALL_OWN: Final = "all weights of this layer take the slice directly"
NO_OWN: Final = "no weight of this layer takes the slice directly"
NOT_FINITE: Final = "gradients are not finite"
FEW: Final = "too few batches for an interval"
CONTROL_SHARE: Final = 0.5
"""Share of what is taken away, from which as many other inputs that take it too are as good a cause: most."""
_OUTSIDE: Final = ("zero_fraction", "zero_fraction_after", "difference", "interval")


def moment_effects(
    moment: Moment,
    means: Means,
    known: RunSlices,
    name: str,
    *,
    layers: Sequence[str] = (),
    told: Told | None = None,
) -> tuple[Effect, ...] | str:
    """Every intervention on one slice at one step, for these layers and all pooled; or why there is none.

    Gradients are recomputed on at least 8 batches, so that there is an interval.

    Args:
        moment: with its checkpoint and what it was trained on.
        means: settings, consent, what --replay named.
        known: the run's slices.
        name: of a slice among them.
        layers: names, looked at beside all layers pooled ("*").
        told: of passes done and passes to do.
    """
    from gradscope.run.recomputed import recomputation  # noqa: PLC0415  leads to torch

    wanted = known.named(name)
    assert wanted is not None
    try:
        # Whatever the algorithm, it can be repeated on other inputs: drawing and intervened().
        found: Any = recomputation(moment, means)
        if isinstance(found, str):
            return found
        possible = interventions(found.drawing, wanted, known)
        if isinstance(possible, str):
            return possible
        passes = _Passes(found=found, means=means, told=told, total=2 + len(possible.by_name))
        return _effects(passes, possible, layers, moment.step)
    except UnreadableFile as error:
        return f"{error.path.name} cannot be read any more: {error.reason}"
    except UsageError as error:
        # Code of the user's failed on a later batch.
        return str(error)


def own_columns_of(found: Any, wanted: Slice, known: RunSlices, means: Means) -> Mapping[str, Array] | str:
    """Which columns of which layers take a slice directly; or why that is not known.

    Args:
        found: a recomputation, whatever the algorithm, of rows where the slice moves.
        wanted: the slice.
        known: the run's slices.
        means: for the settings.

    Raises:
        UsageError: the user's code failed.
    """
    possible = interventions(found.drawing, wanted, known)
    if isinstance(possible, str):
        return possible
    passes = _Passes(found=found, means=means, told=None, total=2)
    return _own(passes, possible, passes.zeros(Intervention()))


def _own(passes: _Passes, possible: Interventions, before: ColumnZeros) -> Mapping[str, Array]:
    silenced = passes.zeros(Intervention(change=possible.silenced))
    return own_columns(possible.masks, before.alive(), silenced.alive())


@dataclass(kw_only=True, eq=False)
class _Passes:
    """Gradients of the same batches, one pass an intervention."""

    found: Any
    means: Means
    told: Told | None
    total: int
    done: int = 0

    def zeros(self, one: Intervention) -> ColumnZeros:
        """Zeros of all wanted layers over the batches."""
        settings, drawing = self.means.settings, self.found.drawing
        allowed = one.allowed
        if allowed is None and drawing.kind.are_one_batch and not drawing.kind.are_sequences:
            # All rows make one batch: resamples of them are the batches.
            allowed = drawing.numbers
        number = max(NUM_BATCHES, settings.batches)
        subject = self.found.intervened(num_batches=number, change=one.change, allowed=allowed)
        zeros = ColumnZeros(tolerance=settings.zero_tolerance, modules=self.found.modules)
        wanted = [name for name in self.found.layers if settings.wants_layer(name)]
        for batch in subject.batches():
            zeros.add(batch.gradients, wanted)
        self.done += 1
        if self.told:
            self.told(self.done, self.total)
        return zeros


def _effects(
    passes: _Passes, possible: Interventions, layers: Sequence[str], step: int | None
) -> tuple[Effect, ...]:
    """Of every intervention and layer."""
    before = passes.zeros(Intervention())
    own = _own(passes, possible, before)
    results: list[Effect] = []
    for name, one in possible.by_name.items():
        bare = Effect(step=step, layer=ALL_LAYERS, intervention=name)
        if isinstance(one, str):
            reasons = dict.fromkeys((*_OUTSIDE, "mechanical_difference"), one)
            results.append(replace(bare, reasons=reasons))
            continue
        pair = _Pair(before=before, after=passes.zeros(one), own=own, is_paired=one.allowed is None)
        common = pair.common()
        groups = {ALL_LAYERS: common} | {each: [each] for each in dict.fromkeys(layers) if each in common}
        results.extend(pair.effect(replace(bare, layer=layer), group) for layer, group in groups.items())
    control = Intervention(change=possible.control)
    if control.change is None or not any(takes_zeros(each) for each in results):
        return tuple(results)
    other = _Pair(before=before, after=passes.zeros(control), own=own, is_paired=True)
    return tuple(_specific(each, other) for each in results)


def _specific(one: Effect, control: _Pair) -> Effect:
    """An effect that as many other inputs have too is no effect of this slice."""
    if not takes_zeros(one):
        return one
    names = control.common() if one.layer == ALL_LAYERS else [one.layer]
    other = control.effect(Effect(step=one.step, layer=one.layer, intervention=PERMUTED), names)
    is_own = (other.difference or 0.0) > CONTROL_SHARE * (one.difference or 0.0)
    return one if is_own else replace(one, verdict="unclear", reasons={**one.reasons, "verdict": BY_HEART})


@dataclass(frozen=True, kw_only=True, eq=False)
class _Pair:
    """Zeros without and with one intervention."""

    before: ColumnZeros
    after: ColumnZeros
    own: Mapping[str, Array]
    """The slice's own columns by layer."""
    is_paired: bool
    """Whether batches hold the same rows."""

    def common(self) -> list[str]:
        """Layers that got gradients in all batches of both."""
        one, other = self.before.layers, self.after.layers
        return [name for name in one if name in other and len(one[name].zeros) == len(other[name].zeros)]

    def effect(self, bare: Effect, names: Sequence[str]) -> Effect:
        """On these layers together."""
        outside = [each.outside(names, self.own) for each in (self.before, self.after)]
        inside = [each.inside(names, self.own) for each in (self.before, self.after)]
        found, mechanical = (effect(*each, paired=self.is_paired) for each in (outside, inside))
        reasons: dict[str, str] = {}
        if mechanical is None:
            reasons["mechanical_difference"] = NOT_FINITE if inside[0].size else NO_OWN
        else:
            bare = replace(bare, mechanical_difference=mechanical.difference)
        if found is None:
            why = NOT_FINITE if outside[0].size else ALL_OWN
            return replace(bare, reasons=reasons | dict.fromkeys(_OUTSIDE, why))
        if found.interval is None:
            reasons["interval"] = FEW
        return replace(
            bare,
            zero_fraction=found.before,
            zero_fraction_after=found.after,
            difference=found.difference,
            interval=found.interval,
            verdict=found.verdict,
            reasons=reasons,
        )
