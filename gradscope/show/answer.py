"""The answer in plain words: what collapsed, when, where, what the inputs did, what is not known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gradscope.records import Origin, Status
from gradscope.show.rows import (
    count,
    heavy_layers,
    kinds,
    layer_crossings,
    number,
    of_run,
    percent,
    safe,
    sentence,
    worst_layers,
    worst_snapshot,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradscope.records import LayerGradient, Report, SliceShift, SnapshotGradient, StepShift

MOST_NAMED: Final = 2
NOT_KNOWN: Final = "Not known: there are no gradients."
MISMATCH: Final = 10.0
"""rms ratio of a slice to the others that deserves a word (SCIENCE: above 10)."""


def answer(report: Report, run: str) -> list[tuple[str, str]]:
    """Question and answer pairs for one run."""
    return [
        ("What", what(report, run)),
        ("When", when(report, run)),
        ("Where", where(report, run)),
        ("Inputs", " ".join(inputs(report, run))),
        ("Together", together(report, run)),
        ("Not known", " ".join(not_known(report, run))),
    ]


def what(report: Report, run: str) -> str:
    """The worst status and how many layers reached it."""
    worst = worst_snapshot(report, run)
    if worst is None:
        return "No gradients are stored here, so nothing can be said about zeros."
    if worst.status in {Status.OK, Status.UNKNOWN}:
        small = layer_crossings(report, run)
        aside = f" {len(small)} small layers crossed a limit." if small else ""
        most = f"most zeros: {percent(worst.zero_fraction)} at step {count(worst.step)}"
        return f"No layer that matters reached a limit; {most}.{aside}"
    bad = [layer for layer in worst.layers if layer.status.rank >= Status.CRITICAL.rank]
    number_bad = (
        f"{len(bad)} of {len(worst.layers)} layers are critical or worse" if bad else "one is on warn"
    )
    return (
        f"{worst.status.value.upper()} at step {count(worst.step)}: "
        f"{percent(worst.zero_fraction)} of all gradients are zero; {number_bad}."
    )


def when(report: Report, run: str) -> str:
    """First crossing of each limit, against the first step with open positions."""
    if worst_snapshot(report, run) is None:
        return NOT_KNOWN
    found = layer_crossings(report, run)
    if not found:
        return "No limit was crossed."
    parts = []
    for limit in report.limits:
        steps = [each.step for each in found if each.limit == limit and each.step is not None]
        if steps:
            parts.append(f"{limit} from step {count(min(steps))}")
    opened = [each.step for each in of_run(report, run) if each.position_activity and each.step is not None]
    if opened:
        parts.append(f"positions first seen open at step {count(min(opened))}")
    return sentence("; ".join(parts)) + "."


def where(report: Report, run: str) -> str:
    """Kinds of zeros in the layer that crossed first, and the layers that are as bad by now."""
    worst = worst_snapshot(report, run)
    if worst is None:
        return NOT_KNOWN
    layer = _first_bad_layer(report, worst)
    if layer is None:
        return "Nowhere above a limit."
    others = [each for each in worst_layers(worst.layers, len(worst.layers)) if each.status is layer.status]
    names = [safe(each.name) for each in others if each is not layer][:MOST_NAMED]
    also = f" As bad by now: {', '.join(names)}." if names else ""
    last = worst.layers[-1]
    still = f" {safe(last.name)} still learns." if last.num_zero == 0 and last.norm else ""
    return (
        f"{safe(layer.name)}, the first to cross: {percent(layer.zero_fraction)} zeros at step "
        f"{count(worst.step)} ({kinds(layer.anatomy)}).{also}{still}"
    )


def _first_bad_layer(report: Report, worst: SnapshotGradient) -> LayerGradient | None:
    """Of the layers that are bad in this snapshot, the one that reached its limit first."""
    bad = {each.name: each for each in worst.layers if each.status.rank >= Status.WARN.rank}
    if worst.status.rank < Status.WARN.rank:
        return None
    heavy = heavy_layers(worst)
    crossed = sorted(
        (each for each in layer_crossings(report, worst.run) if each.layer in bad and each.layer in heavy),
        key=lambda each: (
            Status(each.limit).rank < min(Status.CRITICAL.rank, worst.status.rank),
            each.step is None,
            each.step,
            -each.zero_fraction,
        ),
    )
    return bad[crossed[0].layer] if crossed else worst_layers(bad.values(), 1)[0]


def inputs(report: Report, run: str) -> Iterator[str]:
    """What the slices did at the step where they moved most."""
    steps = [step for step in report.shift.steps if step.run == run] if report.shift else []
    if not steps:
        reason = report.shift.reasons.get(run) if report.shift else None
        yield f"Not known: {safe(reason)}." if reason else "Not measured."
        return
    for name in dict.fromkeys(each.name for step in steps for each in step.slices):
        pairs = [(step, each) for step in steps for each in step.slices if each.name == name]
        yield _slice_words(*max(pairs, key=lambda pair: pair[1].wasserstein or 0))


def _slice_words(step: StepShift, found: SliceShift) -> str:
    name = safe(found.name)
    if found.status is Status.UNKNOWN:
        return f"{name}: not known ({safe(next(iter(found.reasons.values()), 'no rows'))})."
    if found.status is Status.OK:
        return f"{name} did not shift."
    ratio = found.rms_ratio
    mismatch = (
        f", {number(ratio)} times the other columns' rms: a scale mismatch"
        if ratio is not None and ratio >= MISMATCH
        else ""
    )
    return (
        f"{name} shifted by {number(found.wasserstein)} standard deviations at step {count(step.step)} "
        f"({percent(found.activity)} of rows active){mismatch}."
    )


def together(report: Report, run: str) -> str:
    """The association's verdict; never a cause."""
    found = next((each for each in report.associations if each.run == run), None)
    if found is None:
        return "Not measured."
    return f"{found.slice}: {found.verdict}. {sentence(safe(found.reason))}"


def not_known(report: Report, run: str) -> Iterator[str]:
    """Everything this report could not settle."""
    snapshots = of_run(report, run)
    missing = [each for each in snapshots if each.origin is Origin.NONE]
    if missing:
        yield f"Gradients of {len(missing)} of {len(snapshots)} snapshots: not stored."
    if any(layer.baseline_zero_fraction is None for each in snapshots for layer in _measured(each)):
        yield "Zeros of a fresh network of this shape, for some layers."
    if report.slices and report.slices_from == "guessed":
        yield "The slices were guessed."
    found = next((each for each in report.associations if each.run == run), None)
    if found is not None and not found.effects:
        yield "The cause: no intervention was made, so what goes together is not shown to cause anything."
    if report.unreadable:
        yield f"{len(report.unreadable)} files could not be read."


def _measured(snapshot: SnapshotGradient) -> Iterator[LayerGradient]:
    return (layer for layer in snapshot.layers if layer.origin is not Origin.NONE)
