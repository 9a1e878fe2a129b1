"""Interventions on one slice: same weights, same batches, and what becomes of the zeros."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from gradscope.judge import causal_verdict
from gradscope.records import Status
from gradscope.run.activity import activity
from gradscope.run.step_effects import moment_effects

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradscope.records import AssociationReport, Effect, SnapshotGradient
    from gradscope.run.find import Progress
    from gradscope.run.given import Means
    from gradscope.run.inputs import RunSlices
    from gradscope.run.join import Moment
    from gradscope.run.step_effects import Told

MOST_STEPS: Final = 2
NOT_ASKED: Final = "interventions recompute gradients, and --source {source} asks for others"
NEVER_ACTIVE: Final = "the slice is active at no step that has a checkpoint"
NO_SLICE: Final = "no slice is called {name!r}: {why}"


@dataclass(frozen=True, kw_only=True)
class Effects:
    """What the interventions of one run showed."""

    effects: tuple[Effect, ...] = ()
    reasons: tuple[str, ...] = ()
    """Steps at which none could be made, and why."""


def run_effects(
    moments: Sequence[Moment],
    snapshots: Sequence[SnapshotGradient],
    means: Means,
    known: RunSlices,
    name: str,
    *,
    layers: Sequence[str] = (),
    progress: Progress | None = None,
) -> Effects:
    """Interventions on a slice at the steps where they matter most (``chosen_steps``).

    Args:
        moments: of one run, in order.
        snapshots: measured, one a moment.
        means: settings, consent, what --replay named.
        known: the run's slices.
        name: of the slice.
        layers: looked at beside those at warn or worse and all layers pooled.
        progress: told of each gradient pass.
    """
    wanted, source = known.named(name), means.settings.source
    if wanted is None:
        return Effects(reasons=(NO_SLICE.format(name=name, why=known.reason or "define it with --slice"),))
    if source in {"stored", "optimizer"}:
        return Effects(reasons=(NOT_ASKED.format(source=source),))
    chosen = chosen_steps(moments, snapshots, known, name)
    if not chosen:
        return Effects(reasons=(NEVER_ACTIVE,))
    found: list[Effect] = []
    reasons: list[str] = []
    for place, (moment, snapshot) in enumerate(chosen):
        bad = [each.name for each in snapshot.layers if each.status.rank >= Status.WARN.rank]
        told = _part_of(progress, place, len(chosen))
        one = moment_effects(moment, means, known, name, layers=(*bad, *layers), told=told)
        if isinstance(one, str):
            reasons.append(f"step {moment.step:,}: {one}" if moment.step is not None else one)
        else:
            found.extend(one)
    return Effects(effects=tuple(found), reasons=tuple(reasons))


def _part_of(progress: Progress | None, place: int, num_parts: int) -> Told | None:
    """Progress of one step among several."""
    if progress is None:
        return None
    return lambda done, total: progress("intervening", place * total + done, num_parts * total)


def with_effects(
    found: AssociationReport,
    moments: Sequence[Moment],
    snapshots: Sequence[SnapshotGradient],
    *,
    means: Means,
    known: RunSlices,
    progress: Progress | None = None,
) -> AssociationReport:
    """The association with interventions on its slice, and the verdict that they allow."""
    together = [each.name for each in found.layers if each.verdict == "associated"]
    made = run_effects(moments, snapshots, means, known, found.slice, layers=together, progress=progress)
    why = "; ".join(made.reasons) or None
    verdict, reason = causal_verdict(found.slice, found.verdict, found.reason, made.effects)
    reasons = {**found.reasons, "effects": why} if why else found.reasons
    return replace(found, effects=made.effects, verdict=verdict, reason=reason, reasons=reasons)


def chosen_steps(
    moments: Sequence[Moment], snapshots: Sequence[SnapshotGradient], known: RunSlices, name: str
) -> list[tuple[Moment, SnapshotGradient]]:
    """The step with the most zeros among those with the slice active, and the first critical one."""
    pairs = [
        (moment, snapshot)
        for moment, snapshot in zip(moments, snapshots, strict=True)
        # Where the activity is not known, it may be active.
        if activity(moment, known, name).fraction != 0
    ]
    if not pairs:
        return []
    worst = max(pairs, key=lambda pair: (pair[1].status.rank, pair[1].zero_fraction or 0, pair[0].step or 0))
    critical = [pair for pair in pairs if pair[1].status.rank >= Status.CRITICAL.rank]
    chosen = [*critical[:1], worst]
    return [pair for pair in pairs if any(pair is each for each in chosen)][:MOST_STEPS]
