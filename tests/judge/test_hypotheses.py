from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from fact_makers import (
    FIRST,
    SECOND,
    dead_network,
    facts,
    moved,
    one_effect,
    one_layer,
    one_snapshot,
    past,
    shut_network,
    units,
    with_layers,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from gradscope.judge.hypotheses import HYPOTHESES, findings
from gradscope.judge.hypothesis_facts import Facts, InputColumns, how_to_try
from gradscope.judge.interventions import BY_HEART
from gradscope.records import OptimizerEvidence, Status, Verdict, ZeroDetails

if TYPE_CHECKING:
    from gradscope.records import Finding

CODES = (
    "flat-input dead-units saturation domain-shift scale-mismatch explosion-clipping underflow "
    "expected-zeros slice-is-cause never-trained"
).split()
SUPPORTED, REJECTED, NOT_TESTABLE = Verdict.SUPPORTED, Verdict.REJECTED, Verdict.NOT_TESTABLE


def found(given_facts: Facts, code: str) -> Finding:
    return next(each for each in findings(given_facts) if each.code == code)


def test_every_hypothesis_of_the_contract_is_answered_once() -> None:
    assert sorted(each.code for each in findings(facts())) == sorted(CODES)
    assert len(HYPOTHESES) == len(CODES)


@pytest.mark.parametrize("code", CODES)
def test_without_gradients_nothing_is_rejected(code: str) -> None:
    bare = with_layers(dead_network(), num_zero=None, anatomy=None, status=Status.UNKNOWN, optimizer=None)
    nothing = replace(
        bare, num_zero=None, status=Status.UNKNOWN, clip_coefficient=None, reasons={"num_zero": "no file"}
    )
    answer = found(Facts(snapshot=nothing), code)
    assert answer.verdict is NOT_TESTABLE
    assert answer.reason


def test_a_healthy_snapshot_supports_nothing() -> None:
    healthy = dead_network(0)
    given_facts = facts(healthy, units=(units(dead=(1,)),), shift=moved(), inputs={})
    given_facts = replace(given_facts, effects=(one_effect("flat", 0.0), one_effect("rescaled", 0.0)))
    assert {each.verdict for each in findings(given_facts)} == {REJECTED}


def test_dead_units_with_activations() -> None:
    answer = found(facts(units=(units(dead=tuple(range(40))),)), "dead-units")
    assert answer.verdict is SUPPORTED
    assert answer.share_of_zeros == 1.0
    assert set(answer.layers) == {FIRST, SECOND, "net.0.bias"}
    assert "40 of 64 units" in answer.reason
    alive = found(facts(units=(units(), units(SECOND))), "dead-units")
    assert alive.verdict is REJECTED


def test_dead_units_without_activations_are_seen_in_the_next_layer() -> None:
    assert found(facts(), "dead-units").verdict is SUPPORTED
    layers = [layer for layer in dead_network().layers if layer.name != SECOND]
    alone = facts(one_snapshot(*layers), reasons={"units": "no replay buffer"})
    answer = found(alone, "dead-units")
    # net.4 has as many inputs as net.0 has units and none of them is zero: nothing says they are dead.
    assert answer.verdict is REJECTED
    lonely = facts(one_snapshot(layers[0]), reasons={"units": "no replay buffer"})
    answer = found(lonely, "dead-units")
    assert answer.verdict is NOT_TESTABLE
    assert "no replay buffer" in answer.reason
    assert "replay buffer" in answer.what_to_do
    guarded = facts(one_snapshot(layers[0]), reasons={"units": "code of your own: add --trust --code DIR"})
    assert "--trust" in found(guarded, "dead-units").what_to_do


def test_saturation_shuts_off_everything_before_it() -> None:
    shut = units("actor.mu.2.weight", 1, activation="Tanh", saturated=(0,), saturated_fraction=1.0)
    answer = found(facts(shut_network(), units=(shut,)), "saturation")
    assert answer.verdict is SUPPORTED
    assert answer.share_of_zeros == 1.0
    assert set(answer.layers) == {"actor.mu.0.weight", "actor.mu.2.weight"}
    open_ = units("actor.mu.2.weight", 1, activation="Tanh", saturated_fraction=0.01)
    assert found(facts(shut_network(), units=(open_,)), "saturation").verdict is REJECTED
    assert found(facts(shut_network()), "saturation").verdict is NOT_TESTABLE


@pytest.mark.parametrize(
    ("name", "shuts"),
    [("critic.qf0.0.weight", True), ("critic.qf1.0.weight", False), ("value_net.0.weight", False)],
)
def test_the_first_critic_shuts_an_actor_that_learns_by_it(name: str, shuts: bool) -> None:
    other = units(name, 64, activation="Tanh", saturated_fraction=1.0)
    one = shut_network()
    one = replace(one, layers=(*one.layers, one_layer(name, (64, 8))))
    expected = SUPPORTED if shuts else REJECTED
    assert found(facts(one, units=(other,)), "saturation").verdict is expected


def test_saturated_rows_are_no_dead_units() -> None:
    rows = facts(units=(units(activation="Tanh", saturated=tuple(range(40))),))
    assert found(rows, "saturation").verdict is SUPPORTED
    assert FIRST not in found(rows, "dead-units").layers


def test_flat_inputs_and_those_that_centering_hides() -> None:
    layer = one_layer(FIRST, (64, 20), Status.CRITICAL, dead_input=5 * 64)
    snapshot = one_snapshot(layer, one_layer("net.2.weight", (1, 64)))
    flat = InputColumns(num_inputs=20, num_flat=5, names=("position",))
    answer = found(facts(snapshot, inputs={FIRST: flat}), "flat-input")
    assert answer.verdict is SUPPORTED
    assert answer.share_of_zeros == 1.0
    assert "position" in answer.reason
    hidden = InputColumns(num_inputs=20, num_parallel=5)
    clean = one_snapshot(one_layer(FIRST, (64, 20)))
    assert found(facts(clean, inputs={FIRST: hidden}), "flat-input").verdict is SUPPORTED
    moving = InputColumns(num_inputs=20, num_flat=1)
    assert found(facts(snapshot, inputs={FIRST: moving}), "flat-input").verdict is REJECTED
    assert found(facts(snapshot), "flat-input").verdict is NOT_TESTABLE


def test_a_slice_is_a_cause_only_after_an_intervention() -> None:
    assert found(facts(reasons={"effects": "no replay"}), "slice-is-cause").verdict is NOT_TESTABLE
    gone = found(facts(effects=(one_effect("flat", 0.0),)), "slice-is-cause")
    assert gone.verdict is SUPPORTED
    assert gone.share_of_zeros == pytest.approx(0.625 * 1280 / dead_network().num_zero)
    stays = found(facts(effects=(one_effect("flat", 0.62, "no effect"),)), "slice-is-cause")
    assert stays.verdict is REJECTED
    unclear = replace(one_effect("flat", 0.5, "unclear"), interval=(-0.4, 0.2))
    assert found(facts(effects=(unclear,)), "slice-is-cause").verdict is NOT_TESTABLE


def test_size_and_novelty_are_told_apart() -> None:
    flat, size, still = (
        one_effect("flat", 0.0),
        one_effect("rescaled", 0.0),
        one_effect("rescaled", 0.62, "no effect"),
    )
    by_size = facts(effects=(flat, size), shift=moved())
    assert found(by_size, "scale-mismatch").verdict is SUPPORTED
    assert found(by_size, "domain-shift").verdict is REJECTED
    assert "did shift" in found(by_size, "domain-shift").reason
    by_novelty = facts(effects=(flat, still), shift=moved())
    assert found(by_novelty, "scale-mismatch").verdict is REJECTED
    assert found(by_novelty, "domain-shift").verdict is SUPPORTED
    half = facts(effects=(flat,), shift=moved())
    assert found(half, "domain-shift").verdict is NOT_TESTABLE
    assert found(half, "scale-mismatch").verdict is NOT_TESTABLE


def test_a_shift_that_does_nothing_and_no_shift_are_rejected() -> None:
    bystander = facts(effects=(one_effect("flat", 0.62, "no effect"),), shift=moved())
    answer = found(bystander, "domain-shift")
    assert answer.verdict is REJECTED
    assert "did shift" in answer.reason
    assert found(facts(shift=moved(0.1)), "domain-shift").verdict is REJECTED
    assert found(facts(shift=moved(None)), "domain-shift").verdict is NOT_TESTABLE
    assert found(facts(), "domain-shift").verdict is NOT_TESTABLE


def test_inputs_of_one_size_are_no_mismatch_without_any_intervention() -> None:
    assert found(facts(shift=moved(largest=3.0)), "scale-mismatch").verdict is REJECTED
    assert found(facts(), "scale-mismatch").verdict is NOT_TESTABLE


def test_clipping_is_judged_by_what_it_can_have_made() -> None:
    clipped = replace(dead_network(), clip_coefficient=0.6, norm_before_clip=16.8)
    answer = found(facts(clipped, history=past(1, 1, 1, 1, 60, risen_at=4)), "explosion-clipping")
    assert answer.verdict is REJECTED
    assert "exactly 0" in answer.reason
    small = replace(clipped, num_exact_zero=0)
    pushed = facts(small, pushed_zeros={FIRST: 800})
    assert found(pushed, "explosion-clipping").verdict is SUPPORTED
    assert found(facts(small, pushed_zeros={}), "explosion-clipping").verdict is REJECTED
    assert found(facts(small), "explosion-clipping").verdict is NOT_TESTABLE
    never = replace(small, clip_coefficient=None, reasons={"clip_coefficient": "TD3 does not clip"})
    assert found(facts(never), "explosion-clipping").verdict is REJECTED
    unknown = replace(small, clip_coefficient=None, reasons={"clip_coefficient": "no recorder"})
    assert found(facts(unknown), "explosion-clipping").verdict is NOT_TESTABLE


def test_a_norm_that_is_not_finite_and_a_coefficient_of_zero_are_the_explosion() -> None:
    assert (
        found(facts(replace(dead_network(), clip_coefficient=0.0)), "explosion-clipping").verdict is SUPPORTED
    )
    assert found(facts(replace(shut_network(), num_nonfinite=7)), "explosion-clipping").verdict is SUPPORTED


@pytest.mark.parametrize(
    ("history", "words"),
    [
        (
            past(1, 1, 1, 1, 60, 60, risen_at=5),
            "exploded at step 5,000, clipped from 5,000, zeros from 6,000",
        ),
        (
            past(1, 1, 1, 1, 60, 60, risen_at=1),
            "exploded at step 5,000, clipped from 5,000, zeros from 2,000",
        ),
        (past(1, 1, 1, 1, 2, risen_at=3), "no explosion, nothing clipped so far, zeros from 4,000"),
        (past(1, 60, risen_at=1), "too few steps"),
    ],
)
def test_what_came_first_is_told(history: object, words: str) -> None:
    answer = found(facts(history=history), "explosion-clipping")
    assert words in answer.reason


def test_underflow_is_of_small_types_or_shown_by_float64() -> None:
    scattered = one_snapshot(one_layer(FIRST, (64, 20), Status.CRITICAL, scattered=640))
    assert found(facts(scattered), "underflow").verdict is REJECTED
    assert found(facts(with_layers(scattered, dtype="bfloat16")), "underflow").verdict is REJECTED
    assert found(facts(with_layers(scattered, dtype="float16")), "underflow").verdict is SUPPORTED
    assert found(facts(scattered, lost_fractions={FIRST: 600 / 1280}), "underflow").verdict is SUPPORTED
    assert found(facts(scattered, lost_fractions={FIRST: 3 / 1280}), "underflow").verdict is REJECTED
    assert found(facts(shut_network()), "underflow").verdict is NOT_TESTABLE
    shut = units("actor.mu.2.weight", 1, activation="Tanh", saturated=(0,), saturated_fraction=1.0)
    explained = facts(shut_network(), units=(shut,), lost_fractions={"actor.mu.0.weight": 1.0})
    assert found(explained, "underflow").verdict is REJECTED


def test_expected_zeros_are_supported_and_no_fault() -> None:
    bias = one_snapshot(one_layer("attention.in_proj_bias", (192,), expected=64))
    answer = found(facts(bias), "expected-zeros")
    assert answer.verdict is SUPPORTED
    assert answer.share_of_zeros == 1.0
    assert answer.what_to_do.startswith("Nothing")
    assert found(facts(), "expected-zeros").verdict is REJECTED


def test_actions_never_taken_are_expected_and_no_dead_units() -> None:
    head = one_layer("q_net.q_net.0.weight", (3, 64), Status.CRITICAL, dead_unit=64)
    details = ZeroDetails(num_dead_units=1, dead_units=(2,), untaken_actions=(2,))
    known = facts(one_snapshot(replace(head, details=details)))
    answer = found(known, "expected-zeros")
    assert answer.verdict is SUPPORTED
    assert answer.share_of_zeros == 1.0
    assert "never taken" in answer.reason
    assert found(known, "dead-units").verdict is REJECTED
    assert found(known, "saturation").verdict is REJECTED


def test_never_trained_is_what_the_optimizer_remembers() -> None:
    never = with_layers(dead_network(), optimizer=OptimizerEvidence(never_trained_fraction=0.6))
    assert found(facts(never), "never-trained").verdict is SUPPORTED
    assert found(facts(), "never-trained").verdict is REJECTED
    decayed = OptimizerEvidence(reasons={"never_trained_fraction": "L2 decay fills the moments"})
    answer = found(facts(with_layers(dead_network(), optimizer=decayed)), "never-trained")
    assert answer.verdict is NOT_TESTABLE
    assert "L2 decay" in answer.reason
    frozen = found(facts(unreached=("net.frozen.weight",)), "never-trained")
    assert frozen.verdict is SUPPORTED
    assert frozen.share_of_zeros == 0.0


def test_worst_comes_first() -> None:
    bias = one_layer("attention.in_proj_bias", (192,), expected=64)
    snapshot = one_snapshot(*dead_network().layers, bias)
    order = [each.verdict for each in findings(facts(snapshot, units=(units(dead=tuple(range(40))),)))]
    assert order == sorted(order, key=[SUPPORTED, NOT_TESTABLE, REJECTED].index)
    codes = [each.code for each in findings(facts(snapshot)) if each.verdict is SUPPORTED]
    assert codes[-1] == "expected-zeros"


@settings(max_examples=40, deadline=None)
@given(few=st.integers(0, 64), more=st.integers(0, 64))
def test_more_dead_units_never_turn_supported_into_rejected(few: int, more: int) -> None:
    few, more = sorted((few, more))
    verdicts = [
        found(facts(dead_network(num), units=(units(dead=tuple(range(num))),)), "dead-units").verdict
        for num in (few, more)
    ]
    assert verdicts != [SUPPORTED, REJECTED]


@settings(max_examples=40, deadline=None)
@given(
    small=st.floats(0, 0.625),
    large=st.floats(0, 0.625),
    distance=st.floats(0, 5),
    code=st.sampled_from(CODES),
)
def test_a_stronger_effect_of_the_slice_never_turns_supported_into_rejected(
    small: float, large: float, distance: float, code: str
) -> None:
    small, large = sorted((small, large))
    verdicts = []
    for after in (large, small):
        verdict = "effect" if 0.625 - after >= 0.05 else "no effect"
        changed = (one_effect("flat", after, verdict), one_effect("rescaled", 0.62, "no effect"))
        verdicts.append(found(facts(effects=changed, shift=moved(distance)), code).verdict)
    assert verdicts != [SUPPORTED, REJECTED]


@settings(max_examples=40, deadline=None)
@given(one=st.floats(0.0, 30.0), other=st.floats(0.0, 30.0))
def test_a_larger_shift_or_spread_never_turns_supported_into_rejected(one: float, other: float) -> None:
    effects = (one_effect("flat", 0.0), one_effect("rescaled", 0.0))
    for code, made in (
        ("domain-shift", (effects[0], one_effect("rescaled", 0.62, "no effect"))),
        ("scale-mismatch", effects),
    ):
        verdicts = [
            found(facts(effects=made, shift=moved(size, largest=size + 0.1)), code).verdict
            for size in sorted((one, other))
        ]
        assert verdicts != [SUPPORTED, REJECTED]


def test_what_as_many_other_inputs_do_too_is_not_the_slices() -> None:
    shared = replace(one_effect("permuted", 0.1, "unclear"), reasons={"verdict": BY_HEART})
    answer = found(
        facts(dead_network(), effects=(one_effect("flat", 0.625, "no effect"), shared)), "slice-is-cause"
    )
    assert answer.verdict is REJECTED
    answer = found(facts(dead_network(), effects=(replace(shared, intervention="flat"),)), "slice-is-cause")
    assert answer.verdict is REJECTED
    assert BY_HEART in answer.reason


@pytest.mark.parametrize(("size", "verdict"), [(4, REJECTED), (400, SUPPORTED)])
def test_layers_that_never_learned_count_where_a_fresh_network_has_their_zeros_too(
    size: int, verdict: Verdict
) -> None:
    """A slice's own norm that rests from the start is no fault; a branch multiplied by 0 is."""
    never = replace(
        one_layer("side.weight", (size,), whole_layer=size),
        optimizer=OptimizerEvidence(never_trained_fraction=1.0),
    )
    assert never.status is Status.OK
    learned = replace(one_layer(FIRST, (64, 20)), optimizer=OptimizerEvidence(never_trained_fraction=0.0))
    assert found(facts(one_snapshot(learned, never)), "never-trained").verdict is verdict


def test_actions_never_taken_are_expected_and_not_called_never_trained() -> None:
    head = one_layer("q_net.q_net.0.weight", (40, 64), dead_unit=24 * 64)
    details = ZeroDetails(num_dead_units=24, untaken_actions=tuple(range(24)))
    head = replace(head, details=details, optimizer=OptimizerEvidence(never_trained_fraction=0.6))
    assert found(facts(one_snapshot(head)), "never-trained").verdict is REJECTED
    assert found(facts(one_snapshot(head)), "expected-zeros").verdict is SUPPORTED


@pytest.mark.parametrize(
    ("why", "words"),
    [
        ("no column is constant early and varies later; try --slice position=A:B", "--slice position"),
        (
            "the file of --replay calls no rows observations: say --replay-keys observations=KEY",
            "--replay-keys",
        ),
        ("the extractor is code of your own: add --trust --code DIR", "--trust"),
        ("no replay buffer of this step", "Save a replay buffer"),
        ("the batches differ too much to tell", "--batches"),
    ],
)
def test_advice_names_what_is_missing(why: str, words: str) -> None:
    assert words in how_to_try(why)
