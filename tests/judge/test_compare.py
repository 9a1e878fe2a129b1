from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from compare_makers import SIZE, a_run, by_step, collapse_and_cure, taken, unknown, zeros
from hypothesis import given
from hypothesis import strategies as st
from makers import CASE_LAYER

from gradscope.judge.compare_zeros import zero_difference
from gradscope.records import ALL_LAYERS, ComparedGradient, CompareVerdict, Origin, Status, ZeroAnatomy
from gradscope.run.compared import compared

if TYPE_CHECKING:
    from gradscope.records import Report

SAME, UNCLEAR, MIXED = CompareVerdict.SAME, CompareVerdict.UNCLEAR, CompareVerdict.MIXED
A_WORSE, B_WORSE = CompareVerdict.A_WORSE, CompareVerdict.B_WORSE
VOID = CompareVerdict.NOT_COMPARABLE
OTHER = "actor.mu.weight"
MIRRORED = {A_WORSE: B_WORSE, B_WORSE: A_WORSE}


def side(fraction: float | None, fresh: float | None = 0.0, **changes: object) -> ComparedGradient:
    bare = ComparedGradient(
        zero_fraction=fraction,
        unexpected_zero_fraction=fraction,
        baseline_zero_fraction=fresh,
        num_nonfinite=0,
    )
    return replace(bare, **changes)


@pytest.mark.parametrize(
    ("a", "b", "verdict"),
    [
        (side(0.10), side(0.15), B_WORSE),
        (side(0.10), side(0.149), SAME),
        (side(0.25), side(0.20), A_WORSE),
        (side(0.45, 0.45), side(0.10, 0.10), SAME),
        (side(0.60, None), side(0.10, 0.10), A_WORSE),
        (side(1.0, 0.09), side(1.0, 0.02), SAME),
        (side(0.60, 0.50), side(0.30, 0.00), UNCLEAR),
        (side(None), side(0.60), VOID),
        (side(0.10, num_nonfinite=3), side(0.10), A_WORSE),
        (side(None, num_nonfinite=3), side(0.10), A_WORSE),
        (side(0.10, num_nonfinite=3), side(0.10, num_nonfinite=1), SAME),
    ],
    ids=[
        "margin",
        "below the margin",
        "0.25 - 0.20 in floats",
        "fresh networks have them too",
        "fresh not known",
        "only fresh networks differ",
        "opposite",
        "unknown",
        "nan in one",
        "all nan in one",
        "nan in both",
    ],
)
def test_zeros_count_from_the_margin_on_and_beyond_fresh_networks(
    a: ComparedGradient, b: ComparedGradient, verdict: CompareVerdict
) -> None:
    found = zero_difference(a, b)
    assert found.verdict is verdict
    assert zero_difference(b, a).verdict is MIRRORED.get(verdict, verdict)
    for key in ("difference", "difference_beyond_fresh", "interval"):
        assert getattr(found, key) is not None or found.reasons[key]


fractions = st.floats(0, 1)


@given(fractions, fractions, fractions, fractions)
def test_a_run_is_never_worse_with_fewer_zeros(a: float, b: float, fresh_a: float, fresh_b: float) -> None:
    found = zero_difference(side(a, fresh_a), side(b, fresh_b))
    mirrored = zero_difference(side(b, fresh_b), side(a, fresh_a))
    assert mirrored.verdict is MIRRORED.get(found.verdict, found.verdict)
    assert mirrored.difference == -(found.difference or 0.0)
    if found.verdict in MIRRORED:
        assert (b > a) == (found.verdict is B_WORSE)
        assert abs(b - a) >= 0.05 - 1e-9


def test_what_lies_within_the_spread_of_the_batches_is_unclear() -> None:
    a, b = side(0.10, interval=(0.08, 0.12)), side(0.20, interval=(0.15, 0.25))
    found = zero_difference(a, b)
    assert found.verdict is B_WORSE
    assert found.interval == pytest.approx((0.1 - 0.0029**0.5, 0.1 + 0.0029**0.5))
    wide = replace(b, interval=(0.05, 0.35))
    assert zero_difference(a, wide).verdict is UNCLEAR
    assert (
        zero_difference(a, replace(b, interval=None)).reasons["interval"] == "no interval over batches in B"
    )


def test_collapse_is_worse_from_the_step_where_they_part() -> None:
    found = collapse_and_cure()
    assert (found.verdict, found.step) == (A_WORSE, 8000)
    assert [each.step for each in found.steps] == [2000, 4000, 6000, 8000]
    assert [each.verdict for each in found.steps] == [VOID, SAME, A_WORSE, A_WORSE]
    assert found.steps[0].b is None
    assert found.steps[0].reasons["b"] == "no snapshot of this step in B"
    assert found.steps[-1].layer == ALL_LAYERS
    assert "B keeps its gradients where A loses them: at step 8,000" in found.reason
    layer = next(each for each in found.layers if each.name == CASE_LAYER)
    assert (layer.parted_step, layer.step, layer.verdict) == (6000, 8000, A_WORSE)
    alone = next(each for each in found.layers if each.shape_a is None)
    assert alone.reasons["difference"] == "only B has this layer"


def test_swapping_the_runs_swaps_the_verdict() -> None:
    a, b = by_step("a", {1: 0.0, 2: 0.6}), by_step("b", {1: 0.0, 2: 0.1})
    one, other = compared(a, b), compared(b, a)
    assert (one.verdict, other.verdict) == (A_WORSE, B_WORSE)
    assert [each.difference for each in one.steps] == [-(each.difference or 0.0) for each in other.steps]


@pytest.mark.parametrize(
    ("a", "b", "verdict", "words"),
    [
        ({1: 0.1, 2: 0.1}, {1: 0.1, 2: 0.14}, SAME, "at any of 2 common steps"),
        ({1: 0.6, 2: 0.1}, {1: 0.1, 2: 0.6}, MIXED, "A is worse at step 1: A has 59.9 % zeros"),
        ({1: 0.6, 2: 0.1}, {1: 0.1, 2: 0.1}, A_WORSE, "no longer at step 2"),
        ({1: 0.07, 2: 0.07}, {1: 0.0, 2: 0.0}, A_WORSE, "At step 2 A has 7.0 % zeros (ok), B 0.0 % (ok)"),
        ({1: 0.6}, {2: 0.6, 3: 0.6}, VOID, "No common step: A has step 1, B steps 2 to 3"),
    ],
)
def test_the_verdict_is_over_all_common_steps(
    a: dict[int, float], b: dict[int, float], verdict: CompareVerdict, words: str
) -> None:
    # Two snapshots each: single ones would be a pair whatever their steps.
    found = compared(by_step("a", a), by_step("b", b))
    assert found.verdict is verdict
    assert words in found.reason


def test_a_collapsed_layer_is_not_hidden_by_the_total() -> None:
    large = zeros(0.0, OTHER, num_elements=40 * SIZE, shape=(40 * SIZE,))
    runs = [a_run(name, [taken(1, large, zeros(part)), taken(2, large, zeros(part))]) for name, part in PARTS]
    found = compared(*runs)
    assert (found.verdict, found.steps[0].layer) == (A_WORSE, CASE_LAYER)
    assert abs(found.steps[0].difference or 0.0) < 0.05
    assert f"{CASE_LAYER} has 90.0 % zeros in A, 0.0 % in B" in found.reason


PARTS = (("a", 0.9), ("b", 0.0))


def test_a_small_layer_is_listed_but_decides_nothing() -> None:
    runs = [
        a_run(
            name,
            [taken(1, zeros(0.0), zeros(part, OTHER, num_elements=8, shape=(8,), num_zero=round(8 * part)))],
        )
        for name, part in PARTS
    ]
    found = compared(*runs)
    assert found.verdict is SAME
    small = next(each for each in found.layers if each.name == OTHER)
    assert (small.verdict, small.decides) == (A_WORSE, False)


def test_expected_zeros_are_no_difference() -> None:
    expected = zeros(0.33, anatomy=ZeroAnatomy(expected=round(0.33 * SIZE)), status=Status.OK)
    found = compared(a_run("a", [taken(1, expected)]), by_step("b", {1: 0.0}))
    assert found.verdict is SAME


def test_layers_that_contradict_each_other_are_decided_by_the_status_or_mixed() -> None:
    one = a_run("a", [taken(1, zeros(0.60), zeros(0.0, OTHER))])
    other = a_run("b", [taken(1, zeros(0.20), zeros(0.40, OTHER))])
    assert compared(one, other).verdict is A_WORSE
    equal = a_run("b", [taken(1, zeros(0.0), zeros(0.60, OTHER))])
    found = compared(one, equal)
    assert found.verdict is MIXED
    assert "some layers are worse in A, others in B" in found.reason


def test_unknown_is_never_no_difference() -> None:
    found = compared(by_step("a", {1: 0.0, 2: 0.0}), a_run("b", [unknown(1), unknown(2)]))
    assert found.verdict is VOID
    assert "step 1 has no gradient in B: no replay buffer of this step" in found.reason
    partly = compared(by_step("a", {1: 0.0, 2: 0.0}), a_run("b", [unknown(1), taken(2, zeros(0.0))]))
    assert partly.verdict is SAME
    assert "step 1 has no gradient in B: no replay buffer of this step" in partly.warnings
    assert "at step 2" in partly.reason


def limits(run: Report) -> Report:
    return replace(run, limits={"warn": 0.2, "critical": 0.3, "collapse": 0.9})


def more_batches(run: Report) -> Report:
    return replace(run, snapshots=tuple(replace(each, batch_size=64) for each in run.snapshots))


def recomputed(run: Report) -> Report:
    return replace(run, snapshots=tuple(replace(each, origin=Origin.RECOMPUTED) for each in run.snapshots))


def other_slices(run: Report) -> Report:
    return replace(run, slices={"position": "3:4"}, slices_from="guessed")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (limits, "limits differ, so statuses are not on one scale"),
        (more_batches, "batches differ: 1 of 256 in A, 1 of 64 in B"),
        (recomputed, "gradients are stored in A and recomputed in B"),
        (other_slices, "slices differ: position is 146:153 in A, 3:4 in B"),
        (other_slices, "slices were guessed in B"),
    ],
)
def test_what_was_measured_otherwise_is_said_and_compared(change: object, words: str) -> None:
    assert callable(change)
    run = by_step("a", {1: 0.6, 2: 0.6})
    found = compared(run, change(run))
    assert found.verdict is SAME
    assert any(words in each for each in found.warnings)


def test_other_tolerances_are_not_compared() -> None:
    run = by_step("a", {1: 0.0})
    found = compared(run, replace(by_step("b", {1: 0.9}), zero_tolerance=1e-6))
    assert found.verdict is VOID
    assert "A zero is |g| <= 1e-08 in A and |g| <= 1e-06 in B" in found.reason
    assert found.steps[0].difference is None
    assert found.layers[0].points == ()


def test_other_architectures_are_compared_by_totals_and_statuses() -> None:
    one, other = (
        by_step("a", {1: 0.6, 2: 0.6}),
        a_run("b", [taken(step, zeros(0.6, OTHER)) for step in (1, 2)]),
    )
    found = compared(one, other)
    assert found.verdict is SAME
    assert any("no layer has the same name" in each for each in found.warnings)
    small = zeros(0.02, OTHER, status=Status.COLLAPSE)
    worse = compared(by_step("a", {1: 0.0}), a_run("b", [taken(1, small)]))
    assert worse.verdict is B_WORSE
    assert f"by {OTHER}, which B alone has" in worse.reason


def test_shapes_that_differ_are_said() -> None:
    other = a_run("b", [taken(1, zeros(0.0, shape=(64, 306)))])
    assert (
        f"{CASE_LAYER} is 128 x 153 in A and 64 x 306 in B"
        in compared(by_step("a", {1: 0.0}), other).warnings
    )


def test_single_snapshots_are_a_pair_whatever_their_steps() -> None:
    found = compared(by_step("a", {1: 0.6}), by_step("b", {2: 0.0}))
    assert (found.verdict, found.step) == (A_WORSE, None)
    assert found.reasons["step"]
    assert "different steps: step 1 in A, step 2 in B" in found.warnings
    undated = compared(a_run("a", [taken(None, zeros(0.6))]), by_step("b", {2: 0.0}))
    assert undated.verdict is A_WORSE


def test_several_snapshots_of_a_step_and_none_of_any_are_said() -> None:
    twice = [unknown(1), taken(1, zeros(0.6)), taken(None, zeros(0.0))]
    found = compared(a_run("a", twice), by_step("b", {1: 0.0}))
    assert found.verdict is A_WORSE
    assert any("A has several snapshots of step 1" in each for each in found.warnings)
    assert any("1 snapshot of A without a step" in each for each in found.warnings)
    assert found.steps[-1].step is None
    assert found.steps[-1].reasons["step"]


def test_crossings_stand_side_by_side_with_why_not() -> None:
    found = collapse_and_cure()
    mine = {each.limit: each for each in found.crossings if each.layer == CASE_LAYER}
    assert mine["collapse"].a is not None
    assert mine["collapse"].a.step == 8000
    assert mine["collapse"].b is None
    assert mine["collapse"].reasons == {"b": "not reached"}
    other = compared(by_step("a", {1: 0.6, 2: 0.6}), a_run("b", [taken(1, zeros(0.0, OTHER))]))
    assert {each.reasons["b"] for each in other.crossings if each.layer == CASE_LAYER} == {"no such layer"}


def test_shift_is_side_by_side_at_common_steps_or_has_a_reason() -> None:
    found = collapse_and_cure()
    assert [(each.step, each.slice) for each in found.shift] == [(4000, "position"), (6000, "position")]
    assert found.shift[1].a is not None
    assert found.shift[1].a.wasserstein == 3.1
    without = compared(by_step("a", {1: 0.0}), replace(by_step("b", {1: 0.0}), shift=None))
    assert without.shift == ()
    assert without.reasons["shift"].startswith("B: not measured")


def test_several_batches_bound_the_verdict_and_one_batch_says_that_it_does_not() -> None:
    def run(name: str, fraction: float, width: float) -> Report:
        spread = (max(fraction - width, 0.0), fraction + width)
        one = zeros(fraction, interval=spread, num_zero=8 * round(fraction * SIZE), zero_fraction=fraction)
        return a_run(name, [taken(1, one, num_batches=8, zero_fraction=fraction)])

    assert compared(run("a", 0.1, 0.01), run("b", 0.3, 0.01)).verdict is B_WORSE
    found = compared(run("a", 0.1, 0.2), run("b", 0.3, 0.2))
    assert found.verdict is UNCLEAR
    assert "the batches spread as far as the two differ" in found.reason
    assert found.notes == ()
    assert any(
        "one batch each" in each for each in compared(by_step("a", {1: 0.0}), by_step("b", {1: 0.0})).notes
    )


def test_differences_that_fresh_networks_have_too_are_a_note() -> None:
    a, b = (a_run(name, [taken(1, zeros(part, fresh=part))]) for name, part in (("a", 0.45), ("b", 0.1)))
    found = compared(a, b)
    assert found.verdict is SAME
    assert any("35.0 points more zeros in A than in B" in each for each in found.notes)


def test_statuses_at_the_edge_of_a_limit_are_a_note() -> None:
    found = compared(by_step("a", {1: 0.26, 2: 0.26}), by_step("b", {1: 0.24, 2: 0.24}))
    assert found.verdict is SAME
    assert any("at step 2 (and at 1 more) A is critical, B warn" in each for each in found.notes)


def test_nan_in_one_run_is_said_in_numbers() -> None:
    found = compared(by_step("a", {1: 0.1}), a_run("b", [taken(1, zeros(0.1, num_nonfinite=20))]))
    assert found.verdict is B_WORSE
    assert "B has 20 NaN or infinite gradient values, A none" in found.reason


def test_nothing_read_is_not_comparable() -> None:
    found = compared(by_step("a", {1: 0.0}), a_run("b", [], shift=None))
    assert found.verdict is VOID
    assert found.reason == "No snapshot could be read in B."
    assert found.b.reasons["run"]
