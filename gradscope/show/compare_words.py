"""The verdict of ``compare`` in plain words, with the numbers it rests on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gradscope.records import ALL_LAYERS, CompareVerdict, Status
from gradscope.records.percent import percent
from gradscope.show.rows import count, sentence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradscope.records import (
        ComparedSnapshot,
        ComparedStep,
        Comparison,
    )

LETTERS: Final = {CompareVerdict.A_WORSE: ("A", "B"), CompareVerdict.B_WORSE: ("B", "A")}
"""Worse and better run."""


def verdict_title(verdict: CompareVerdict) -> str:
    """The verdict as a headline: "A is worse"."""
    return verdict.value[:1].upper() + verdict.value[1:]


def verdict_words(found: Comparison) -> str:
    """One or two sentences; names from files are not escaped yet."""
    known = [step for step in found.steps if step.verdict is not CompareVerdict.NOT_COMPARABLE]
    match found.verdict:
        case CompareVerdict.NOT_COMPARABLE:
            why = found.reasons.get("verdict", "no common step with a known gradient")
            return f"{sentence(why)}."
        case CompareVerdict.SAME:
            return _same(found, known)
        case CompareVerdict.UNCLEAR:
            step = next(each for each in known if each.verdict is CompareVerdict.UNCLEAR)
            return f"Neither run is shown to be worse. {sentence(_when(step))}, {step.reasons['verdict']}."
        case CompareVerdict.MIXED:
            return _mixed(found, known)
    return f"{_worse(found, known)} {_since(found, known)}".strip()


def _same(found: Comparison, known: Sequence[ComparedStep]) -> str:
    largest = max(known, key=lambda step: abs(step.difference or 0.0))
    where = f"at any of {len(known)} common steps" if len(known) > 1 else _when(known[0])
    return (
        f"Neither run has {_margin(found)} more zeros than the other {where}; all layers together differ by "
        f"{'at most ' if len(known) > 1 else ''}{_points(largest.difference)}."
    )


def _worse(found: Comparison, known: Sequence[ComparedStep]) -> str:
    """Said of the last step with this verdict."""
    step = [each for each in known if each.verdict is found.verdict][-1]
    worse, better = LETTERS[found.verdict]
    bad, good = (step.a, step.b) if worse == "A" else (step.b, step.a)
    assert bad is not None
    assert good is not None
    lost = bad.status.rank >= Status.WARN.rank and good.status is Status.OK
    numbers = f"{_when(step)} {_numbers(found, step)}."
    return f"{better} keeps its gradients where {worse} loses them: {numbers}" if lost else sentence(numbers)


def _numbers(found: Comparison, step: ComparedStep) -> str:
    """Like "A has 46.4 % zeros (collapse), B 0.3 % (ok)"; of a layer where the total does not show it."""
    assert step.a is not None
    assert step.b is not None
    if words := _nonfinite(step.a, step.b):
        return words
    if step.layer in {None, ALL_LAYERS}:
        one, other = percent(step.a.zero_fraction), percent(step.b.zero_fraction)
        return f"A has {one} zeros ({step.a.status.value}), B {other} ({step.b.status.value})"
    layer = next(each for each in found.layers if each.name == step.layer)
    point = next((each for each in layer.points if each.step == step.step), None)
    if point is None:
        return (
            f"A is {step.a.status.value}, B {step.b.status.value}, by {layer.name}, "
            f"which {'A' if layer.shape_b is None else 'B'} alone has"
        )
    whole = f"all layers together {percent(step.a.zero_fraction)} and {percent(step.b.zero_fraction)}"
    one, other = percent(point.a.unexpected_zero_fraction), percent(point.b.unexpected_zero_fraction)
    statuses = f"{point.a.status.value} and {point.b.status.value}"
    return f"{layer.name} has {one} zeros in A, {other} in B ({statuses}; {whole})"


def _nonfinite(a: ComparedSnapshot, b: ComparedSnapshot) -> str:
    if bool(a.num_nonfinite) == bool(b.num_nonfinite):
        return ""
    letter, one, other = ("A", a, "B") if a.num_nonfinite else ("B", b, "A")
    return f"{letter} has {count(one.num_nonfinite)} NaN or infinite gradient values, {other} none"


def _since(found: Comparison, known: Sequence[ComparedStep]) -> str:
    """From which step on, or at how many; nothing where one step is all there is."""
    same = [step for step in known if step.verdict is found.verdict]
    if len(known) == 1:
        return ""
    if known[-len(same) :] == same:
        before = "" if len(same) == len(known) else ", and not before"
        return f"So from {_when(same[0]).removeprefix('at ')} on{before}."
    return f"So at {len(same)} of {len(known)} common steps, and no longer {_when(known[-1])}."


def _mixed(found: Comparison, known: Sequence[ComparedStep]) -> str:
    parts = []
    for verdict, (worse, _) in LETTERS.items():
        steps = [step for step in known if step.verdict is verdict]
        if steps:
            clearest = max(steps, key=lambda step: (step.layer == ALL_LAYERS, abs(step.difference or 0.0)))
            parts.append(
                (clearest.step or 0, f"{worse} is worse {_when(clearest)}: {_numbers(found, clearest)}.")
            )
    torn = [step for step in known if step.verdict is CompareVerdict.MIXED]
    words = [text for _, text in sorted(parts)]
    if torn:
        words.append(f"{_when(torn[-1]).capitalize()} some layers are worse in A, others in B.")
    return " ".join(words)


def _when(step: ComparedStep) -> str:
    return "in these snapshots" if step.step is None else f"at step {count(step.step)}"


def _margin(found: Comparison) -> str:
    return f"{100 * found.margin:g} points"


def _points(difference: float | None) -> str:
    return f"{100 * abs(difference or 0.0):.1f} points"
