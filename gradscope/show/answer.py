"""The answer in plain words: what collapsed, when, where, what the inputs did, what is not known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gradscope.records import Origin, Status
from gradscope.records.percent import percent
from gradscope.show.answer_inputs import inputs
from gradscope.show.order import (
    heavy_names,
    layer_crossings,
    nonfinite_words,
    of_run,
    step_words,
    worst_layers,
    worst_snapshot,
)
from gradscope.show.rows import count, kinds, plural, safe, sentence

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradscope.records import Crossing, LayerGradient, Report, SnapshotGradient

MOST_NAMED: Final = 2
NOT_KNOWN: Final = "Not known: there are no gradients."


def answer(report: Report, run: str, why: str = "") -> list[tuple[str, str]]:
    """Question and answer pairs for one run; ``why`` is what its hypotheses came to, where tested."""
    return [
        ("What", what(report, run)),
        ("When", when(report, run)),
        ("Where", where(report, run)),
        *([("Why", why)] if why else []),
        ("Inputs", " ".join(inputs(report, run))),
        ("Together", together(report, run)),
        ("Not known", " ".join(not_known(report, run))),
    ]


def what(report: Report, run: str) -> str:
    """The worst status and how many layers reached it."""
    worst = worst_snapshot(report, run)
    if worst is None:
        return "There are no gradients here, so nothing can be said about zeros."
    unknown = _unknown_words(report, run)
    if worst.status is Status.UNKNOWN:
        return f"Not known{unknown}."
    aside = f" Not known{unknown}." if unknown else ""
    if worst.status is Status.OK:
        small = {each.layer for each in layer_crossings(report, run)} - heavy_names(report, run)
        aside += f" {plural(len(small), 'small layer')} reached a limit." if small else ""
        most = f"most zeros: {percent(worst.zero_fraction)} at {step_words(worst)}"
        return f"No layer that matters reached a limit; {most}.{aside}"
    least = min(worst.status.rank, Status.CRITICAL.rank)
    bad = sum(layer.status.rank >= least for layer in worst.layers)
    reached = "on warn" if worst.status is Status.WARN else "critical or worse"
    return (
        f"{worst.status.value.upper()} at {step_words(worst)}: "
        f"{percent(worst.zero_fraction)} of all gradients are zero; "
        f"{bad} of {plural(len(worst.layers), 'layer')} {'is' if bad == 1 else 'are'} {reached}.{aside}"
    )


def _unknown_words(report: Report, run: str) -> str:
    """Where gradients were measured and could not be judged, and why; empty where all could."""
    unknown = [
        f" at {step_words(each)}: {nonfinite_words(each) or 'the gradients could not be judged'}"
        for each in _unjudged(report, run)
    ]
    more = f" and {len(unknown) - MOST_NAMED} more" if len(unknown) > MOST_NAMED else ""
    return ";".join(unknown[:MOST_NAMED]) + more


def _unjudged(report: Report, run: str) -> list[SnapshotGradient]:
    return [
        each
        for each in of_run(report, run)
        if each.origin is not Origin.NONE and each.status is Status.UNKNOWN
    ]


def _none_crossed(report: Report, run: str, words: str) -> str:
    """``words`` where every gradient could be judged; else that it is not known."""
    unknown = _unjudged(report, run)
    if not unknown:
        return words
    judged = [each for each in of_run(report, run) if each.status is not Status.UNKNOWN]
    return f"Not known at {step_words(unknown[0])}. Elsewhere: {words}" if judged else "Not known."


def when(report: Report, run: str) -> str:
    """First crossing of each limit, against the first step with open positions."""
    if worst_snapshot(report, run) is None:
        return NOT_KNOWN
    found = layer_crossings(report, run)
    heavy = heavy_names(report, run)
    if not found:
        return _none_crossed(report, run, "No limit was crossed.")
    large = [each for each in found if each.layer in heavy]
    words = "; ".join([*_limit_words(report, large or found), *_opened_words(report, run)])
    return f"{sentence(words)}." if large else f"Only small layers: {words}."


def _limit_words(report: Report, found: list[Crossing]) -> list[str]:
    """First step of each limit; of several reached at one step only the worst."""
    by_step: dict[int, str] = {}
    for limit in report.limits:
        steps = [each.step for each in found if each.limit == limit and each.step is not None]
        if steps:
            by_step[min(steps)] = limit
    return [f"{limit} from step {count(step)}" for step, limit in sorted(by_step.items())]


def _opened_words(report: Report, run: str) -> list[str]:
    opened = [each.step for each in of_run(report, run) if each.position_activity and each.step is not None]
    return [f"positions first seen open at step {count(min(opened))}"] if opened else []


def where(report: Report, run: str) -> str:
    """Kinds of zeros in the layer that crossed first, and the layers that are as bad by now."""
    worst = worst_snapshot(report, run)
    if worst is None:
        return NOT_KNOWN
    layer = _first_bad_layer(report, worst)
    if layer is None and worst.status.rank >= Status.WARN.rank:
        return "Not known: its layers are not listed."
    if layer is None:
        return _none_crossed(report, run, "Nowhere above a limit.")
    others = [each for each in worst_layers(worst.layers, len(worst.layers)) if each.status is layer.status]
    names = [safe(each.name) for each in others if each is not layer]
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    also = f" As bad by now: {', '.join(names[:MOST_NAMED])}{more}." if names else ""
    last = worst.layers[-1]
    still = f" {safe(last.name)} still gets gradient." if last.num_zero == 0 and last.norm else ""
    return (
        f"{safe(layer.name)}, the first to cross: {percent(layer.zero_fraction)} zeros "
        f"at {step_words(worst)} ({kinds(layer.anatomy, worst.num_batches)}).{also}{still}"
    )


def _first_bad_layer(report: Report, worst: SnapshotGradient) -> LayerGradient | None:
    """Of the layers that are bad in this snapshot, the one that reached its limit first."""
    bad = {each.name: each for each in worst.layers if each.status.rank >= Status.WARN.rank}
    if worst.status.rank < Status.WARN.rank:
        return None
    heavy = heavy_names(report, worst.run)
    crossed = sorted(
        (each for each in layer_crossings(report, worst.run) if each.layer in bad and each.layer in heavy),
        key=lambda each: (
            Status(each.limit).rank < min(Status.CRITICAL.rank, worst.status.rank),
            each.step is None,
            each.step,
            -each.zero_fraction,
        ),
    )
    return bad[crossed[0].layer] if crossed else next(iter(worst_layers(bad.values(), 1)), None)


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
    yield from _missing_layers(snapshots)
    if any(layer.baseline_zero_fraction is None for each in snapshots for layer in _measured(each)):
        yield "Zeros of a fresh network of this shape, for some layers."
    if report.slices and report.slices_from == "guessed":
        yield "The slices were guessed."
    found = next((each for each in report.associations if each.run == run), None)
    if found is not None and not found.effects:
        yield "The cause: no intervention was made, so what goes together is not shown to cause anything."
    if report.unreadable:
        yield f"{plural(len(report.unreadable), 'file')} could not be read."


def _missing_layers(snapshots: list[SnapshotGradient]) -> Iterator[str]:
    """Layers without a gradient in snapshots that have others; at the snapshot that lacks most."""
    lacking = [
        (each, [safe(layer.name) for layer in each.layers if layer.origin is Origin.NONE])
        for each in snapshots
        if each.origin is not Origin.NONE
    ]
    snapshot, names = max(lacking, key=lambda pair: len(pair[1]), default=(None, []))
    if snapshot is not None and names:
        named = ", ".join(names[:MOST_NAMED]) + (", ..." if len(names) > MOST_NAMED else "")
        yield (
            f"Gradients of {len(names)} of {plural(len(snapshot.layers), 'layer')} "
            f"at {step_words(snapshot)}: not stored ({named})."
        )


def _measured(snapshot: SnapshotGradient) -> Iterator[LayerGradient]:
    return (layer for layer in snapshot.layers if layer.origin is not Origin.NONE)
