"""Lines under the worst layers: which units and inputs, since when, and silence where counts say it all."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from golden_files import assert_golden
from makers import HOSTILE, layer, report, snapshot
from rich.cells import cell_len

from gradscope.records import DeadSince, LayerGradient, ZeroAnatomy, ZeroDetails
from gradscope.show.dead_words import dead_words
from gradscope.show.scan_screen import scan_screen
from gradscope.show.screen import Look

NAMES = {"146": "position_size_long", "147": "position_size_short", "148": "position_margin"}


def since(**changes: Any) -> DeadSince:
    known: dict[str, Any] = {"previous_step": 8000, "num_before": 29, "num_same": 29, "overlap": 29 / 36}
    return DeadSince(**(known | {"since": {"8000": 29, "10000": 7}} | changes))


def with_details(name: str = "net.projection.weight", **details: Any) -> LayerGradient:
    return layer(name, details=ZeroDetails(**details))


def words(one: LayerGradient, *others: LayerGradient) -> str:
    return dead_words(one, [one, *others])


@pytest.mark.parametrize(
    ("compared", "text"),
    [
        (since(), "36 dead units, the 29 of step 8,000 and 7 new"),
        (since(num_same=20), "36 dead units, 20 of the 29 of step 8,000 and 16 new"),
        (since(num_same=0, num_before=3), "36 dead units, none of them dead at step 8,000"),
        (since(num_before=36, num_same=36, since={"8000": 36}), "36 dead units, the 36 of step 8,000"),
        (
            since(since={"2000": 4, "8000": 25, "10000": 7}),
            "36 dead units, the 29 of step 8,000 and 7 new, 4 since step 2,000",
        ),
        (None, "36 dead units"),
        (since(num_same=None, num_before=None), "36 dead units"),
    ],
)
def test_dead_units_are_compared_with_the_step_before(compared: DeadSince | None, text: str) -> None:
    one = with_details(num_dead_units=36, dead_units=tuple(range(36)), units_since=compared)
    assert words(one) == text


def test_inputs_without_gradient_are_named_with_their_slice() -> None:
    slices = dict.fromkeys(NAMES, "position")
    known: dict[str, Any] = {"num_dead_inputs": 3, "dead_inputs": (146, 147, 148), "input_names": NAMES}
    named = words(with_details(**known, input_slices=slices))
    assert named == "no gradient from position_size_long and 2 more (slice position)"
    two = words(with_details(**known, input_slices=slices | {"148": "market"}))
    assert two == "no gradient from position_size_long, position_size_short, position_margin"
    many = words(with_details(**(known | {"num_dead_inputs": 900}), input_slices=slices))
    assert many == "no gradient from position_size_long and 899 more (slice position)"


def test_dead_inputs_are_told_to_be_the_dead_units_of_the_layer_below() -> None:
    dead = {"num_dead_inputs": 3, "dead_inputs": (1, 4, 9)}
    above = replace(with_details("net.head.weight", **dead), shape=(5, 128))
    below = with_details(num_dead_units=3, dead_units=(1, 4, 9))
    assert words(above, below) == "3 dead inputs, at projection's dead units"
    assert words(above, replace(below, shape=(64, 153))) == ""
    assert words(above, below, replace(below, name="other.weight")) == ""


def test_inputs_that_never_moved_stand_beside_their_value() -> None:
    known: dict[str, Any] = {
        "num_parallel_inputs": 1,
        "parallel_inputs": (146,),
        "parallel_constants": (-0.517,),
    }
    assert words(with_details(**known)) == "1 input never moved, at values other than 0"
    assert words(with_details(**known, input_names=NAMES)) == "never moved: position_size_long, at -0.517"


def test_rows_of_actions_never_taken_are_called_so() -> None:
    assert words(with_details(num_dead_units=1, dead_units=(2,), untaken_actions=(2,))) == (
        "rows of an action never taken: 2"
    )
    assert words(with_details(num_dead_units=9, untaken_actions=tuple(range(9)))) == (
        "rows of actions never taken: 0, 1, 2 and 6 more"
    )


def test_nothing_is_said_where_the_counts_say_it_all() -> None:
    dead = {"num_dead_units": 3, "dead_units": (1, 4, 9)}
    weight = with_details(**dead)
    bias = replace(with_details("net.projection.bias", **dead), shape=(128,))
    assert words(bias, weight) == ""
    assert words(bias) == "3 dead units"
    assert words(replace(weight, anatomy=ZeroAnatomy(whole_layer=5367))) == ""
    assert words(with_details()) == words(layer()) == words(replace(weight, num_zero=0)) == ""


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_screen_is_as_it_was_looked_at(width: int) -> None:
    below = with_details(num_dead_units=36, dead_units=tuple(range(36)), units_since=since())
    dead = {"num_dead_inputs": 36, "dead_inputs": tuple(range(36))}
    above = replace(with_details("net.head.weight", **dead), shape=(153, 128))
    named = with_details(
        "net.entrance.weight",
        num_dead_inputs=3,
        dead_inputs=(146, 147, 148),
        input_names=NAMES | {"148": HOSTILE},
        input_slices=dict.fromkeys(NAMES, HOSTILE),
    )
    text = scan_screen(report(snapshots=(snapshot(10_000, layers=(below, above, named)),)), Look(width=width))
    assert_golden(f"dead_{width}.txt", text)
    assert max(cell_len(line) for line in text.splitlines()) <= width
    assert "\x1b" not in text
