"""What interventions may be called, in words."""

from __future__ import annotations

from typing import Any

import pytest

from gradscope.judge import causal_verdict
from gradscope.judge.interventions import interpreted, takes_zeros
from gradscope.records import ALL_LAYERS, Effect

ASSOCIATED = "associated, effect not testable"


def one(intervention: str, before: float, after: float, verdict: str | None = None, **more: Any) -> Effect:
    change = after - before
    values = {
        "step": 8000,
        "layer": "first.weight",
        "intervention": intervention,
        "zero_fraction": before,
        "zero_fraction_after": after,
        "difference": change,
        "interval": (change, change),
        "verdict": verdict or ("effect" if abs(change) >= 0.05 else "no effect"),
    }
    return Effect(**(values | more))


def undone(intervention: str, reason: str) -> Effect:
    return Effect(step=8000, layer=ALL_LAYERS, intervention=intervention, reasons={"difference": reason})


@pytest.mark.parametrize(
    ("found", "is_cause"),
    [
        (one("flat", 0.5, 0.0), True),
        (one("rescaled", 0.5, 0.25), True),
        (one("flat", 0.5, 0.26), False),
        (one("flat", 0.5, 0.0, "unclear"), False),
        (one("flat", 0.5, 1.0), False),
        (one("inactive rows", 0.5, 0.0), False),
        (one("flat", 0.09, 0.0), False),
        (undone("flat", "x"), False),
    ],
)
def test_a_cause_takes_most_of_many_zeros_away(found: Effect, is_cause: bool) -> None:
    assert takes_zeros(found) == is_cause


def test_size_is_told_from_values() -> None:
    flat, still, size = one("flat", 0.5, 0), one("permuted", 0.5, 0.48), one("rescaled", 0.5, 0)
    moved = one("permuted", 0.5, 0)
    unscaled = one("rescaled", 0.5, 0.5)
    assert (
        "the size of the values of 'position' causes them, not which row"
        in interpreted("position", [flat, still, size]).text
    )
    assert (
        "which row the values of 'position' stand on matters"
        in interpreted("position", [flat, moved, size]).text
    )
    assert (
        "'position' away from rest causes them, at any size"
        in interpreted("position", [flat, still, unscaled]).text
    )
    text = interpreted("position", [flat, still, size]).text
    assert "first.weight at step 8,000" in text
    assert "50.0 %; flat 0.0 %, permuted 48.0 %, rescaled 0.0 %." in text


def test_verdicts_are_the_contracts() -> None:
    cause, still = [one("flat", 0.5, 0.0)], [one("flat", 0.5, 0.5), one("rescaled", 0.5, 0.44)]
    assert causal_verdict("position", ASSOCIATED, "Together.", cause)[0] == "associated and causal"
    verdict, reason = causal_verdict("position", ASSOCIATED, "Together.", still)
    assert verdict == "associated, no effect found"
    assert reason.startswith("Together. Interventions: zeros of first.weight")
    assert "(at most from 50.0 % to 44.0 % at first.weight, rescaled)" in reason
    assert causal_verdict("position", "not associated", "No.", cause)[0] == "not associated"
    assert "causes them" in causal_verdict("position", "too few steps", "No.", cause)[1]


def test_what_is_not_clear_is_not_testable() -> None:
    wide = [one("flat", 0.5, 0.3, "unclear"), undone("permuted", "why not")]
    verdict, reason = causal_verdict("position", ASSOCIATED, "Together.", wide)
    assert verdict == ASSOCIATED
    assert "try more --batches" in reason
    verdict, reason = causal_verdict("position", ASSOCIATED, "Together.", [undone("flat", "why not")])
    assert verdict == ASSOCIATED
    assert "why not" in reason
    assert causal_verdict("position", ASSOCIATED, "Together.", []) == (ASSOCIATED, "Together.")


def test_no_zeros_are_no_finding() -> None:
    assert "no zeros to take away" in interpreted("position", [one("flat", 0.0, 0.0)]).text


def test_the_layer_that_takes_the_slice_speaks_first() -> None:
    behind = one("flat", 0.6, 0.0, layer="second.weight")
    pooled = one("flat", 0.4, 0.0, layer=ALL_LAYERS, mechanical_difference=0.3)
    first = one("flat", 0.5, 0.0, mechanical_difference=0.4)
    assert "zeros of first.weight" in interpreted("position", [pooled, behind, first]).text
    assert "zeros of second.weight" in interpreted("position", [pooled, behind]).text
    assert "zeros of all layers" in interpreted("position", [pooled]).text
