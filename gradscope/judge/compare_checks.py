"""Are two runs measured alike? What differs is said before anything is concluded from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gradscope.judge.compare_shift import reference_steps

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gradscope.judge.compare_steps import Pair
    from gradscope.records import ComparedLayer, ComparedRun, Report, SnapshotGradient

MOST_NAMED: Final = 3
MANY: Final = 10
"""A norm this many times the other's deserves a word."""


def warnings(
    a: ComparedRun,
    b: ComparedRun,
    reports: tuple[Report, Report],
    pairs: Sequence[Pair],
    layers: Sequence[ComparedLayer],
) -> tuple[str, ...]:
    """One line for each thing that may make the two unlike, the weightiest first."""
    return (
        *_gradients(pairs),
        *_limits(a, b),
        *_layers(layers),
        *_steps(reports, pairs),
        *_inputs(a, b, reports),
        *(
            f"{letter}: {len(run.unreadable)} file{'' if len(run.unreadable) == 1 else 's'} could not be "
            f"read: {run.unreadable[0].source}: {run.unreadable[0].reason}"
            for letter, run in (("A", a), ("B", b))
            if run.unreadable
        ),
    )


def not_comparable(a: ComparedRun, b: ComparedRun, pairs: Sequence[Pair]) -> str:
    """Why nothing at all can be compared; empty where something can."""
    for letter, run in (("A", a), ("B", b)):
        if not run.num_snapshots:
            return f"no snapshot could be read in {letter}"
    if a.zero_tolerance != b.zero_tolerance:
        return f"a zero is |g| <= {a.zero_tolerance:g} in A and |g| <= {b.zero_tolerance:g} in B"
    if any(pair.known for pair in pairs):
        return ""
    if not any(pair.a and pair.b for pair in pairs):
        steps = [_range([pair.step for pair in pairs if getattr(pair, side)]) for side in ("a", "b")]
        return f"no common step: A has {steps[0]}, B {steps[1]}"
    return f"no common step with a known gradient: {next(_unknown(pairs))}"


def _gradients(pairs: Sequence[Pair]) -> Iterator[str]:
    """Origin and batches of the snapshots that are compared."""
    both = [(pair.a, pair.b) for pair in pairs if pair.known and pair.a and pair.b]
    origins = dict.fromkeys((a.origin.value, b.origin.value) for a, b in both if a.origin is not b.origin)
    for one, other in origins:
        yield f"gradients are {one} in A and {other} in B: other batches, maybe of other weights"
    batches = dict.fromkeys((_batches(a), _batches(b)) for a, b in both if _batches(a) != _batches(b))
    for mine, others in batches:
        yield f"batches differ: {mine} in A, {others} in B"


def _batches(snapshot: SnapshotGradient) -> str:
    number = f"{snapshot.num_batches or 'unknown number'} of"
    return f"{number} {snapshot.batch_size or 'unknown size'}"


def _limits(a: ComparedRun, b: ComparedRun) -> Iterator[str]:
    if (a.limits, a.layer_limits) != (b.limits, b.layer_limits):
        yield "limits differ, so statuses are not on one scale and do not count here"


def _layers(layers: Sequence[ComparedLayer]) -> Iterator[str]:
    in_both = [layer for layer in layers if layer.shape_a and layer.shape_b]
    alone = {letter for layer in layers for letter in "AB" if _has(layer, letter)}
    if len(alone) == len("AB") and not in_both:
        yield "no layer has the same name in both: only totals and statuses are compared"
    unlike = [layer for layer in in_both if layer.shape_a != layer.shape_b]
    for layer in unlike[:MOST_NAMED]:
        yield f"{layer.name} is {_shape(layer.shape_a)} in A and {_shape(layer.shape_b)} in B"
    if len(unlike) > MOST_NAMED:
        yield f"and {len(unlike) - MOST_NAMED} more layers differ in shape"
    known = [point for layer in in_both if layer.decides for point in layer.points]
    bare = [point for point in known if "difference_beyond_fresh" in point.reasons and point.difference]
    if bare:
        yield f"{bare[0].reasons['difference_beyond_fresh']}: such layers are compared as they are"


def _has(layer: ComparedLayer, letter: str) -> bool:
    return (layer.shape_a if letter == "A" else layer.shape_b) is not None


def _shape(shape: tuple[int, ...] | None) -> str:
    return " x ".join(map(str, shape or ())) or "one number"


def _steps(reports: tuple[Report, Report], pairs: Sequence[Pair]) -> Iterator[str]:
    for pair in pairs:
        if pair.a and pair.b and pair.a.step != pair.b.step:
            yield f"different steps: {_step(pair.a)} in A, {_step(pair.b)} in B"
    unknown = [*_unknown(pairs)]
    if any(pair.known for pair in pairs):
        yield from unknown[:MOST_NAMED]
        if len(unknown) > MOST_NAMED:
            yield f"and {len(unknown) - MOST_NAMED} more common steps have no gradient in A or B"
    for letter, report in zip("AB", reports, strict=True):
        steps = [snapshot.step for snapshot in report.snapshots]
        twice = sorted({step for step in steps if step is not None and steps.count(step) > 1})
        if twice:
            yield f"{letter} has several snapshots of step {twice[0]:,}; the first with a gradient is taken"
        if None in steps and len(pairs) > 1:
            number = steps.count(None)
            yield f"{number} snapshot{'' if number == 1 else 's'} of {letter} without a step: not compared"


def _unknown(pairs: Sequence[Pair]) -> Iterator[str]:
    """Common steps that cannot be compared, and why."""
    for pair in pairs:
        for letter, one in (("A", pair.a), ("B", pair.b)):
            if pair.a and pair.b and one and one.zero_fraction is None:
                why = one.reasons.get("zero_fraction", "not known why")
                yield f"{_step(one)} has no gradient in {letter}: {why}"
                break


def _step(snapshot: SnapshotGradient) -> str:
    return snapshot.source if snapshot.step is None else f"step {snapshot.step:,}"


def _range(steps: Sequence[int | None]) -> str:
    known = [step for step in steps if step is not None]
    if not known:
        return "snapshots without a step"
    return f"step {known[0]:,}" if len(known) == 1 else f"steps {known[0]:,} to {known[-1]:,}"


def _inputs(a: ComparedRun, b: ComparedRun, reports: tuple[Report, Report]) -> Iterator[str]:
    if a.slices != b.slices and a.slices and b.slices:
        names = [
            name for name in dict.fromkeys([*a.slices, *b.slices]) if a.slices.get(name) != b.slices.get(name)
        ]
        name = names[0]
        yield f"slices differ: {name} is {a.slices.get(name, 'none')} in A, {b.slices.get(name, 'none')} in B"
    guessed = [letter for letter, run in (("A", a), ("B", b)) if run.slices and run.slices_from == "guessed"]
    if guessed:
        yield f"slices were guessed in {' and '.join(guessed)}"
    references = [reference_steps(report)[:1] for report in reports]
    if all(references) and references[0] != references[1]:
        one, other = (f"step {each[0]:,}" if each[0] is not None else "no step" for each in references)
        yield f"shift is measured against {one} in A and {other} in B"
