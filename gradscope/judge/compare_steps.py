"""Snapshots of both runs, paired by step, and which run is worse at each."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Final

from gradscope.judge.compare_layers import WORSE, layer_points
from gradscope.judge.compare_zeros import NO_COMMON_STEP, ZeroDifference, worse, zero_difference
from gradscope.judge.status import deciding_layers, judged_fractions
from gradscope.records import (
    ALL_LAYERS,
    ComparedSnapshot,
    ComparedStep,
    CompareVerdict,
    Status,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from gradscope.records import LayerPoint, Report, SnapshotGradient

    Voice = tuple[CompareVerdict, float, str]
    """What one layer, or the pooled total "*", says; by how much; its name."""

NO_INTERVAL: Final = "not every layer has one"
NO_STEP: Final = "the file does not tell its step"
NOTHING: Final = (ALL_LAYERS, None, None, None)
SNAPSHOT_FIELDS: Final = frozenset(each.name for each in fields(ComparedSnapshot))


@dataclass(frozen=True, kw_only=True)
class Pair:
    """The snapshots of both runs at one step."""

    step: int | None
    a: SnapshotGradient | None
    b: SnapshotGradient | None

    @property
    def known(self) -> bool:
        """Whether both have a gradient."""
        return _measured(self.a) and _measured(self.b)


def pairs(a: Report, b: Report) -> tuple[Pair, ...]:
    """One a step of either run, in order; snapshots without a step come last, each alone.

    Of several snapshots of one step the first with a gradient is taken. Where each run has a single
    snapshot, these two are a pair whatever their steps.
    """
    if len(a.snapshots) == len(b.snapshots) == 1:
        one, other = a.snapshots[0], b.snapshots[0]
        return (Pair(step=one.step if one.step == other.step else None, a=one, b=other),)
    in_a, in_b = _by_step(a), _by_step(b)
    found = [Pair(step=step, a=in_a.get(step), b=in_b.get(step)) for step in sorted({*in_a, *in_b})]
    found += [Pair(step=None, a=each, b=None) for each in a.snapshots if each.step is None]
    found += [Pair(step=None, a=None, b=each) for each in b.snapshots if each.step is None]
    return tuple(found)


def compared_step(pair: Pair, *, same_limits: bool) -> ComparedStep:
    """Both runs at one step. Statuses break a tie, and speak for layers of one run alone."""
    a, b = _snapshot(pair.a), _snapshot(pair.b)
    reasons = {
        side: f"no snapshot of this step in {side.upper()}"
        for side, one in (("a", a), ("b", b))
        if one is None
    }
    if pair.step is None:
        reasons["step"] = NO_COMMON_STEP if a and b else NO_STEP
    if a is None or b is None:
        why = reasons["a" if a is None else "b"]
        keys = ("difference", "difference_beyond_fresh", "interval", "verdict")
        return ComparedStep(step=pair.step, a=a, b=b, reasons=reasons | dict.fromkeys(keys, why))
    pooled = zero_difference(a, b)
    verdict, layer, why = _verdict(pair, pooled, same_limits=same_limits)
    reasons |= {key: text for key, text in pooled.reasons.items() if key != "verdict"}
    plain = _plain_difference(pair)
    return ComparedStep(
        step=pair.step,
        a=a,
        b=b,
        difference=plain,
        difference_beyond_fresh=pooled.difference_beyond_fresh,
        interval=_moved(pooled.interval, (plain or 0.0) - (pooled.difference or 0.0)),
        verdict=verdict,
        layer=layer,
        reasons=reasons | ({"verdict": why} if why else {}),
    )


def _verdict(
    pair: Pair, pooled: ZeroDifference, *, same_limits: bool
) -> tuple[CompareVerdict, str | None, str]:
    """Which run is worse, the layer that shows it best, and why where it is neither."""
    assert pair.a is not None
    assert pair.b is not None
    if pooled.verdict is CompareVerdict.NOT_COMPARABLE:
        return pooled.verdict, None, pooled.reasons["verdict"]
    points = _deciding_points(pair)
    voices: list[Voice] = [(pooled.verdict, abs(pooled.difference or 0.0), ALL_LAYERS)]
    voices.extend((point.verdict, abs(point.difference or 0.0), name) for name, point in points.items())
    if same_limits:
        voices.extend(_alone(pair))
    heard: set[CompareVerdict] = {verdict for verdict, _, _ in voices if verdict in WORSE}
    if not heard:
        return _neither({ALL_LAYERS: pooled, **points})
    winner = heard.pop() if len(heard) == 1 else _tie(pair, pooled, same_limits=same_limits)
    if winner is CompareVerdict.MIXED:
        return winner, None, "some layers are worse in A, others in B"
    return winner, _clearest(winner, voices), ""


def _plain_difference(pair: Pair) -> float | None:
    if pair.a is None or pair.b is None or pair.a.zero_fraction is None or pair.b.zero_fraction is None:
        return None
    return pair.b.zero_fraction - pair.a.zero_fraction


def _moved(interval: tuple[float, float] | None, by: float) -> tuple[float, float] | None:
    """The interval of the plain difference: expected zeros are the same in every batch."""
    return (interval[0] + by, interval[1] + by) if interval else None


def _deciding_points(pair: Pair) -> dict[str, LayerPoint]:
    deciding = {
        layer.name for side in (pair.a, pair.b) if side is not None for layer in deciding_layers(side.layers)
    }
    return {name: point for name, point in layer_points(pair).items() if name in deciding}


def _neither(found: Mapping[str, ZeroDifference | LayerPoint]) -> tuple[CompareVerdict, str | None, str]:
    """No difference, unless one of them is unclear."""
    for name, each in found.items():
        if each.verdict is CompareVerdict.UNCLEAR:
            which = "all layers together" if name == ALL_LAYERS else name
            size = 100 * abs(each.difference or 0.0)
            return each.verdict, None, f"{which}: {size:.1f} points, but {each.reasons['verdict']}"
    return CompareVerdict.SAME, None, ""


def _alone(pair: Pair) -> Iterator[Voice]:
    """A worse status that comes from a layer which the other run does not have."""
    assert pair.a is not None
    assert pair.b is not None
    if Status.UNKNOWN in {pair.a.status, pair.b.status} or pair.a.status is pair.b.status:
        return
    a_is_worse = pair.a.status.rank > pair.b.status.rank
    bad, good = (pair.a, pair.b) if a_is_worse else (pair.b, pair.a)
    others = {layer.name for layer in good.layers}
    for layer in deciding_layers(bad.layers):
        if layer.status is bad.status and layer.name not in others:
            yield worse(-1.0 if a_is_worse else 1.0), layer.zero_fraction or 0.0, layer.name


def _tie(pair: Pair, pooled: ZeroDifference, *, same_limits: bool) -> CompareVerdict:
    """Layers contradict each other: the worse status decides, then the pooled total, else it is mixed."""
    assert pair.a is not None
    assert pair.b is not None
    known = Status.UNKNOWN not in {pair.a.status, pair.b.status}
    if same_limits and known and pair.a.status is not pair.b.status:
        return worse(pair.b.status.rank - pair.a.status.rank)
    return pooled.verdict if pooled.verdict in WORSE else CompareVerdict.MIXED


def _clearest(winner: CompareVerdict, voices: Sequence[Voice]) -> str:
    """The pooled total where it says so too, else the layer that differs most."""
    own = [(size, name) for verdict, size, name in voices if verdict is winner]
    return ALL_LAYERS if own[0][1] == ALL_LAYERS else max(own)[1]


def _by_step(report: Report) -> Mapping[int, SnapshotGradient]:
    found: dict[int, SnapshotGradient] = {}
    for snapshot in report.snapshots:
        if snapshot.step is None or snapshot.double_of is not None:
            continue
        earlier = found.get(snapshot.step)
        if earlier is None or (not _measured(earlier) and _measured(snapshot)):
            found[snapshot.step] = snapshot
    return found


def _measured(snapshot: SnapshotGradient | None) -> bool:
    return snapshot is not None and snapshot.zero_fraction is not None


def _snapshot(snapshot: SnapshotGradient | None) -> ComparedSnapshot | None:
    if snapshot is None:
        return None
    # The last is the pooled total.
    *_, pooled = (NOTHING, *judged_fractions(snapshot))
    _, _, unexpected, baseline = pooled
    reasons = {key: why for key, why in snapshot.reasons.items() if key in SNAPSHOT_FIELDS}
    interval = _interval(snapshot)
    if interval is None:
        reasons["interval"] = "one batch" if snapshot.num_batches == 1 else NO_INTERVAL
    if unexpected is None:
        reasons["unexpected_zero_fraction"] = reasons.get("zero_fraction", "no finite gradient value")
    if baseline is None:
        reasons["baseline_zero_fraction"] = "no fresh network to compare with"
    return ComparedSnapshot(
        step=snapshot.step,
        source=snapshot.source,
        origin=snapshot.origin,
        num_batches=snapshot.num_batches,
        batch_size=snapshot.batch_size,
        zero_fraction=snapshot.zero_fraction,
        unexpected_zero_fraction=unexpected,
        baseline_zero_fraction=baseline,
        interval=interval,
        num_nonfinite=snapshot.num_nonfinite,
        norm=snapshot.norm,
        norm_before_clip=snapshot.norm_before_clip,
        clip_coefficient=snapshot.clip_coefficient,
        position_activity=snapshot.position_activity,
        status=snapshot.status,
        reasons=reasons,
    )


def _interval(snapshot: SnapshotGradient) -> tuple[float, float] | None:
    """Of the pooled total, from those of its layers: standard deviations of a sum add up at most."""
    measured = [layer for layer in snapshot.layers if layer.zero_fraction is not None]
    if snapshot.zero_fraction is None or not all(layer.interval for layer in measured):
        return None
    below = above = 0.0
    for layer in measured:
        if layer.interval is not None and layer.zero_fraction is not None:
            below += layer.num_elements * (layer.zero_fraction - layer.interval[0])
            above += layer.num_elements * (layer.interval[1] - layer.zero_fraction)
    elements = sum(layer.num_elements for layer in measured)
    return snapshot.zero_fraction - below / elements, snapshot.zero_fraction + above / elements
