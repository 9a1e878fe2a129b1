"""Two reports of one run each -> which run is worse, at which steps, in which layers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from gradscope.judge.compare_checks import not_comparable, warnings
from gradscope.judge.compare_layers import WORSE, compared_crossings, compared_layers
from gradscope.judge.compare_shift import compared_shift, shift_reasons
from gradscope.judge.compare_steps import compared_step, pairs
from gradscope.judge.compare_zeros import MARGIN, NO_COMMON_STEP, differs
from gradscope.records import ComparedRun, CompareVerdict, Comparison

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gradscope.records import ComparedLayer, ComparedStep, Report

NEITHER: Final = "the verdict is not of one step"


def compared_run(report: Report, name: str) -> ComparedRun:
    """How the gradients of one run were measured."""
    measured = [each for each in report.snapshots if each.zero_fraction is not None]
    run = report.snapshots[0].run if report.snapshots else None
    return ComparedRun(
        name=name,
        path=report.path,
        run=run,
        num_snapshots=len(report.snapshots),
        num_measured=len(measured),
        origins=tuple(dict.fromkeys(each.origin.value for each in measured)),
        num_batches=tuple(dict.fromkeys(each.num_batches for each in measured if each.num_batches)),
        batch_sizes=tuple(dict.fromkeys(each.batch_size for each in measured if each.batch_size)),
        zero_tolerance=report.zero_tolerance,
        limits=report.limits,
        layer_limits=report.layer_limits,
        slices=report.slices,
        slices_from=report.slices_from,
        unreadable=report.unreadable,
        reasons={} if run is not None else {"run": "nothing was read"},
    )


def comparison(a: Report, b: Report, names: tuple[str, str]) -> Comparison:
    """Both runs by step and layer, crossings, shift and verdict; its ``reason`` is left to be worded.

    A step's verdict rests on the zeros of all layers together and of each layer that holds 1 % of the
    elements; the whole verdict on those of all common steps. Like is compared only with like: what was
    measured otherwise is said in ``warnings``, and other zero tolerances are not compared at all.

    Args:
        a: report of one run, with its shift.
        b: the other's.
        names: of the two.
    """
    one, other = compared_run(a, names[0]), compared_run(b, names[1])
    paired = pairs(a, b)
    why_not = not_comparable(one, other, paired)
    same_limits = (one.limits, one.layer_limits) == (other.limits, other.layer_limits)
    steps = [compared_step(pair, same_limits=same_limits) for pair in paired]
    layers = compared_layers(a, b, paired)
    if one.zero_tolerance != other.zero_tolerance:
        steps, layers = [_void_step(each, why_not) for each in steps], _void_layers(layers, why_not)
    verdict = CompareVerdict.NOT_COMPARABLE if why_not else _verdict(steps)
    decisive = [each for each in steps if each.verdict is verdict and verdict in WORSE]
    shift = compared_shift(a, b, paired)
    reasons = shift_reasons(a, b, shift) | ({"verdict": why_not} if why_not else {})
    if not decisive or decisive[-1].step is None:
        reasons["step"] = why_not or (NO_COMMON_STEP if decisive else NEITHER)
    return Comparison(
        a=one,
        b=other,
        verdict=verdict,
        step=decisive[-1].step if decisive else None,
        margin=MARGIN,
        warnings=warnings(one, other, (a, b), paired, layers),
        notes=tuple(_notes(one, other, steps, layers)),
        steps=tuple(steps),
        layers=layers,
        crossings=compared_crossings(a, b),
        shift=shift,
        reasons=reasons,
    )


def _verdict(steps: Sequence[ComparedStep]) -> CompareVerdict:
    """Over all steps: one run alone is worse somewhere, each is, or neither."""
    found = {step.verdict for step in steps} - {CompareVerdict.NOT_COMPARABLE}
    if not found:
        return CompareVerdict.NOT_COMPARABLE
    if CompareVerdict.MIXED in found or set(WORSE) <= found:
        return CompareVerdict.MIXED
    order = (*WORSE, CompareVerdict.UNCLEAR, CompareVerdict.SAME)
    return next(verdict for verdict in order if verdict in found)


def _notes(
    a: ComparedRun, b: ComparedRun, steps: Sequence[ComparedStep], layers: Sequence[ComparedLayer]
) -> Iterator[str]:
    """What bounds the verdict without making the runs unlike."""
    single = [letter for letter, run in (("A", a), ("B", b)) if 1 in run.num_batches]
    if single and a.num_measured and b.num_measured:
        where = "each" if len(single) == 2 else f"in {single[0]}"  # noqa: PLR2004  both
        yield f"one batch {where}: no interval, so how far batches spread is not known"
    yield from _explained_by_fresh(steps, layers)
    yield from _edges(steps)


def _edges(steps: Sequence[ComparedStep]) -> Iterator[str]:
    """Statuses that differ although the zeros do not."""
    found = [
        (step, step.a.status.value, step.b.status.value)
        for step in steps
        if step.verdict is CompareVerdict.SAME and step.a and step.b and step.a.status is not step.b.status
    ]
    if found:
        step, one, other = found[-1]
        more = f" (and at {len(found) - 1} more)" if len(found) > 1 else ""
        yield (
            f"{_at(step.step)}{more} A is {one}, B {other}, although no layer that decides differs: "
            "one is at the edge of a limit, or fresh networks differ"
        )


def _explained_by_fresh(steps: Sequence[ComparedStep], layers: Sequence[ComparedLayer]) -> Iterator[str]:
    """Differences that do not count, because each run's fresh network has these zeros too."""
    if any(step.verdict in {*WORSE, CompareVerdict.MIXED} for step in steps):
        return
    found = [
        (layer, point)
        for layer in layers
        if layer.decides
        for point in layer.points
        if differs(point.difference) and point.verdict is CompareVerdict.SAME
    ]
    if found:
        layer, point = max(found, key=lambda pair: abs(pair[1].difference or 0.0))
        more, less = ("B", "A") if (point.difference or 0.0) > 0 else ("A", "B")
        yield (
            f"{_at(point.step)}: {layer.name} has {100 * abs(point.difference or 0.0):.1f} points more zeros "
            f"in {more} than in {less}, but not {100 * MARGIN:g} points more beyond its fresh network"
        )


def _at(step: int | None) -> str:
    return "in the snapshots" if step is None else f"at step {step:,}"


def _void_step(step: ComparedStep, why: str) -> ComparedStep:
    keys = ("difference", "difference_beyond_fresh", "interval", "verdict", "layer")
    return replace(
        step,
        difference=None,
        difference_beyond_fresh=None,
        interval=None,
        verdict=CompareVerdict.NOT_COMPARABLE,
        layer=None,
        reasons={**step.reasons, **dict.fromkeys(keys, why)},
    )


def _void_layers(layers: Sequence[ComparedLayer], why: str) -> tuple[ComparedLayer, ...]:
    keys = ("step", "difference", "verdict", "parted_step")
    return tuple(
        replace(
            layer,
            points=(),
            step=None,
            difference=None,
            verdict=CompareVerdict.NOT_COMPARABLE,
            parted_step=None,
            reasons={**layer.reasons, **dict.fromkeys(keys, why)},
        )
        for layer in layers
    )
