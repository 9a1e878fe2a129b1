"""The verdict over all layers: plain words, and never a cause."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gradscope.judge import association_verdict
from gradscope.measure import associations
from gradscope.records import ALL_LAYERS, Association

STEPS = np.arange(200) * 50


def one(name: str, verdict: str, p: float | None = None, **changes: Any) -> Association:
    values = {"name": name, "num_steps": 200, "verdict": verdict, "p_value_adjusted": p, "pearson": 0.9}
    return Association(**(values | changes))


def test_an_association_is_named_and_no_cause_is_claimed() -> None:
    layers = [one(ALL_LAYERS, "associated", 0.01), one("a", "associated", 0.02), one("b", "associated", 0.01)]
    verdict, reason = association_verdict("position", [*layers, one("c", "not associated", 0.9)], 5000)
    assert verdict == "associated, effect not testable"
    assert reason.startswith("zeros of 2 of 3 layers (b, a) rise together with 'position' activity")
    assert "5,000" in reason
    assert "not a cause" in reason


def test_long_lists_of_layers_are_cut_short() -> None:
    layers = [one(f"layer{place}", "associated", 0.01) for place in range(9)]
    assert "and 6 more" in association_verdict("position", layers, None)[1]


def test_nothing_together_says_how_close_it_was() -> None:
    layers = [one("a", "not associated", 0.4), one("b", "not associated", 0.2)]
    verdict, reason = association_verdict("position", layers, 5000)
    assert verdict == "not associated"
    assert "0.2 over 2 layers" in reason


@pytest.mark.parametrize(("number", "verdict"), [(6, "too few steps"), (200, "not associated")])
def test_what_cannot_be_tested_says_why(number: int, verdict: str) -> None:
    zeros = np.random.default_rng(0).uniform(size=number)
    layers, change = associations(np.zeros(number), {"a": zeros}, STEPS[:number])
    found, reason = association_verdict("position", layers, change)
    assert found == verdict
    assert ("6 steps" in reason) if number == 6 else ("never changes" in reason)


def test_no_layer_at_all_is_too_few() -> None:
    assert association_verdict("position", [], None)[0] == "too few steps"


def test_the_pooled_total_alone_is_enough_and_is_called_so() -> None:
    layers = [one(ALL_LAYERS, "associated", 0.03), one("a", "not associated", 0.2)]
    verdict, reason = association_verdict("position", layers, 5000)
    assert verdict == "associated, effect not testable"
    assert "all layers together" in reason
    assert "not a cause" in reason


def test_an_unknown_activity_and_an_unused_timeline_are_the_reason_not_too_short_a_recording() -> None:
    few = [one("w", "too few steps", reasons={"verdict": "5 steps"})]
    assert "denser" in association_verdict("position", few, None)[1]
    unknown = association_verdict("position", few, None, unknown="no slice")
    assert unknown == ("too few steps", "the activity of 'position' is not known: no slice.")
    unused = association_verdict("position", few, None, unused="t.jsonl is not used: why")
    assert unused == ("too few steps", "5 steps. t.jsonl is not used: why.")
