"""What interventions on a slice say about its zeros; the only place that may call it a cause."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gradscope.records import ALL_LAYERS
from gradscope.records.percent import percent
from gradscope.settings import WARN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradscope.records import Effect

CAUSAL: Final = "associated and causal"
NO_EFFECT_FOUND: Final = "associated, no effect found"
NOT_TESTABLE: Final = "associated, effect not testable"
ON_VALUES: Final = ("flat", "permuted", "rescaled")
"""Interventions that change the slice and nothing else; other rows differ in everything that goes with it."""
BY_HEART: Final = (
    "permuting as many other inputs takes these zeros too: they are of the rows, not of the slice"
)
"""Weights know the rows they were trained on: whatever breaks a row up opens units that are shut on it."""
LEAST_TAKEN: Final = 0.5
"""Share of a layer's zeros that an intervention must take away to be called their cause: most of them."""


@dataclass(frozen=True, kw_only=True)
class Interpreted:
    """What the interventions come to."""

    is_tested: bool
    """Whether at least one on the slice's values gave a clear answer."""
    is_cause: bool
    text: str
    """One to three sentences, lower case."""


def takes_zeros(one: Effect) -> bool:
    """Whether an intervention on the slice's values takes most zeros of a layer away."""
    if one.intervention not in ON_VALUES or one.verdict != "effect":
        return False
    before, change = one.zero_fraction or 0.0, one.difference or 0.0
    # Below the first limit zeros are those of a healthy network.
    return before >= WARN and -change >= LEAST_TAKEN * before


def interpreted(slice_name: str, effects: Sequence[Effect]) -> Interpreted:
    """Interventions on one slice at some steps, in words.

    Args:
        slice_name: whose values were changed.
        effects: of one run; several steps, layers and interventions.
    """
    tested = [each for each in effects if each.intervention in ON_VALUES and each.difference is not None]
    clear = [each for each in tested if each.verdict != "unclear"]
    causes = [each for each in effects if takes_zeros(each)]
    if not tested:
        why = next((why for each in effects for why in each.reasons.values()), "nothing was changed")
        return Interpreted(is_tested=False, is_cause=False, text=f"no intervention could be made: {why}.")
    if causes:
        best = max(causes, key=_telling)
        text = f"{_figures(best, tested)} {_cause(slice_name, best, causes)}"
        return Interpreted(is_tested=True, is_cause=True, text=text)
    # All layers pooled stand for the others where nothing is taken away anywhere.
    worst = max(tested, key=lambda each: (each.layer == ALL_LAYERS, each.zero_fraction or 0.0))
    text = f"{_figures(worst, tested)} {_no_cause(slice_name, tested, clear)}"
    return Interpreted(is_tested=bool(clear), is_cause=False, text=text)


def causal_verdict(slice_name: str, verdict: str, reason: str, effects: Sequence[Effect]) -> tuple[str, str]:
    """The verdict on a slice once interventions have been tried, and its reason.

    An association keeps its own verdict where there is none in time; the reason tells what was shown.

    Args:
        slice_name: whose values were changed.
        verdict: on the association in time.
        reason: why.
        effects: of the interventions; where none could be made, the verdict stays.
    """
    if not effects:
        return verdict, reason
    found = interpreted(slice_name, effects)
    if verdict == NOT_TESTABLE and found.is_tested:
        verdict = CAUSAL if found.is_cause else NO_EFFECT_FOUND
    return verdict, f"{reason} Interventions: {found.text}"


def _telling(one: Effect) -> tuple[bool, bool, float]:
    """Layers that take the slice directly tell most: what lies behind them follows."""
    is_layer = one.layer != ALL_LAYERS
    return is_layer and one.mechanical_difference is not None, is_layer, -(one.difference or 0.0)


def _figures(one: Effect, tested: Sequence[Effect]) -> str:
    """Zeros of one layer at one step as they are, and after each change of the slice's values."""
    same = [each for each in tested if (each.step, each.layer) == (one.step, one.layer)]
    after = ", ".join(f"{each.intervention} {percent(each.zero_fraction_after)}" for each in same)
    where = "all layers" if one.layer == ALL_LAYERS else one.layer
    when = "" if one.step is None else f" at step {one.step:,}"
    now = f"zeros of {where}{when}, the slice's own columns apart, are {percent(one.zero_fraction)}"
    return f"{now}; {after}."


def _cause(slice_name: str, best: Effect, causes: Sequence[Effect]) -> str:
    ways = {each.intervention for each in causes if (each.step, each.layer) == (best.step, best.layer)}
    if "rescaled" in ways and "permuted" not in ways:
        what = f"the size of the values of {slice_name!r} causes them, not which row they stand on"
    elif "permuted" in ways:
        what = f"which row the values of {slice_name!r} stand on matters: they cause them"
    elif "flat" in ways:
        what = f"{slice_name!r} away from rest causes them, at any size"
    else:
        what = f"the size of the values of {slice_name!r} causes them"
    return f"With these weights, {what}."


def _no_cause(slice_name: str, tested: Sequence[Effect], clear: Sequence[Effect]) -> str:
    if any(each.reasons.get("verdict") == BY_HEART for each in tested):
        return f"{BY_HEART[0].upper()}{BY_HEART[1:]}."
    if not clear:
        return "Too far apart from batch to batch to tell: try more --batches."
    if max(each.zero_fraction or 0.0 for each in tested) == 0:
        return "There are no zeros to take away."
    most = min(tested, key=lambda each: each.difference or 0.0)
    least = ""
    if most.verdict == "effect" and (most.difference or 0.0) < 0:
        least = (
            f" (at most from {percent(most.zero_fraction)} to {percent(most.zero_fraction_after)} at "
            f"{most.layer}, {most.intervention})"
        )
    return f"No change of {slice_name!r} takes most zeros of any layer away{least}."
