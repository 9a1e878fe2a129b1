"""Association of activity and zeros: what it must find, what it must not, and how often it is fooled."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy import stats

from gradscope.measure import associations

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradscope.records import Association

NUM_STEPS = 200
NUM_LAYERS = 20
NUM_RUNS = 80


def associate(activity: Any, layers: Any, every: int = 20) -> tuple[tuple[Association, ...], int | None]:
    named = {f"layer{place}": layer for place, layer in enumerate(layers)}
    return associations(np.asarray(activity), named, every * np.arange(len(activity)))


def alarms(make: Callable[[np.random.Generator], tuple[Any, Any]]) -> float:
    """Share of runs in which any of the layers is called associated."""
    draw = np.random.default_rng(1)
    runs = (associate(*make(draw))[0] for _ in range(NUM_RUNS))
    return sum(any(each.verdict == "associated" for each in layers) for layers in runs) / NUM_RUNS


def chains(draw: np.random.Generator, phi: float, number: int) -> Any:
    noise = draw.normal(size=(number, NUM_STEPS + 100))
    for place in range(1, noise.shape[1]):
        noise[:, place] += phi * noise[:, place - 1]
    return noise[:, 100:]


def opened(number: int, at: float = 0.5) -> Any:
    return (np.arange(number) >= at * number).astype(float)


def shared_line(draw: np.random.Generator) -> tuple[Any, Any]:
    line = np.linspace(0, 10, NUM_STEPS)
    return line + draw.normal(size=NUM_STEPS), line + draw.normal(size=(NUM_LAYERS, NUM_STEPS))


def shared_curve(power: float) -> Callable[[np.random.Generator], tuple[Any, Any]]:
    curve = np.linspace(0, 1, NUM_STEPS) ** power

    def make(draw: np.random.Generator) -> tuple[Any, Any]:
        return curve + 0.1 * draw.normal(size=NUM_STEPS), curve + 0.1 * draw.normal(
            size=(NUM_LAYERS, NUM_STEPS)
        )

    return make


def independent_steps(draw: np.random.Generator) -> tuple[Any, Any]:
    zeros = opened(NUM_STEPS, draw.uniform()) + 0.05 * draw.normal(size=(NUM_LAYERS, NUM_STEPS))
    return opened(NUM_STEPS, draw.uniform()), zeros


def steps_of_their_own(draw: np.random.Generator) -> tuple[Any, Any]:
    places = draw.uniform(0.2, 0.8, NUM_LAYERS)
    zeros = np.stack([opened(NUM_STEPS, place) for place in places])
    activity = opened(NUM_STEPS, draw.uniform(0.2, 0.8)) + 0.02 * draw.normal(size=NUM_STEPS)
    return activity, zeros + 0.02 * draw.normal(size=zeros.shape)


def opened_beside_chains(draw: np.random.Generator) -> tuple[Any, Any]:
    return opened(NUM_STEPS), chains(draw, 0.9, NUM_LAYERS)


def opened_beside_lines(draw: np.random.Generator) -> tuple[Any, Any]:
    return opened(NUM_STEPS), shared_line(draw)[1]


def independent_chains(phi: float) -> Callable[[np.random.Generator], tuple[Any, Any]]:
    return lambda draw: (chains(draw, phi, 1)[0], chains(draw, phi, NUM_LAYERS))


# Nominal is 0.05 for any of 20 layers. Long simulations (300-500 runs each, n = 200) gave 0.02 for lines,
# (80 runs: 0.02 for parabolas, where a straight line taken out left 0.27; 0.14 for square roots, from 0.43)
# 0.01-0.03 for chains up to 0.9, 0.02 for steps, 0.05 for an opening beside chains of 0.9; chains of 0.98,
# whose memory is a quarter of the series, 0.10. The draw is
# fixed; by chance alone 80 runs at 0.05 would exceed 0.10 once in forty times.
@pytest.mark.parametrize(
    "make",
    [
        shared_line,
        shared_curve(2),
        shared_curve(3),
        independent_chains(0.0),
        independent_chains(0.9),
        independent_steps,
        steps_of_their_own,
        opened_beside_chains,
        opened_beside_lines,
    ],
    ids=[
        "shared line",
        "parabola",
        "cubic",
        "noise",
        "chains",
        "steps",
        "own steps",
        "opened beside chains",
        "opened beside lines",
    ],
)
def test_false_alarms_are_no_more_often_than_promised(
    make: Callable[[np.random.Generator], tuple[Any, Any]],
) -> None:
    assert alarms(make) <= 0.10


def test_a_shared_line_correlates_and_is_still_not_called_associated() -> None:
    layers, _ = associate(*shared_line(np.random.default_rng(0)))
    assert all(each.pearson is not None and each.pearson > 0.8 for each in layers)
    assert {each.verdict for each in layers} == {"not associated"}


@pytest.mark.parametrize("noise", [0.05, 0.3])
def test_a_common_step_is_found_in_nearly_every_layer(noise: float) -> None:
    draw = np.random.default_rng(0)
    activity = opened(NUM_STEPS)
    layers, change = associate(activity, activity + noise * draw.normal(size=(NUM_LAYERS, NUM_STEPS)))
    assert change == NUM_STEPS * 20 // 2
    assert sum(each.verdict == "associated" for each in layers) >= 0.9 * NUM_LAYERS
    for each in layers:
        assert each.lag == 0
        assert each.change_step == pytest.approx(change, abs=40)
        assert each.p_value is not None
        assert each.p_value_adjusted is not None
        assert each.p_value <= each.p_value_adjusted <= 0.05


def test_one_layer_among_quiet_ones_is_found_and_the_others_are_not() -> None:
    draw = np.random.default_rng(0)
    activity = opened(NUM_STEPS)
    zeros = draw.normal(size=(NUM_LAYERS, NUM_STEPS))
    zeros[3] = 0.6 * activity + 0.1 * zeros[3]
    layers, _ = associate(activity, zeros)
    assert [each.verdict == "associated" for each in layers] == [place == 3 for place in range(NUM_LAYERS)]


def test_zeros_that_rise_in_plateaus_once_positions_open_are_associated() -> None:
    """The real shape: activity fills the batch within a tenth of the run, zeros follow in leaps."""
    draw = np.random.default_rng(0)
    time = np.linspace(0, 10_000, 500)
    activity = draw.binomial(256, np.clip((time - 5000) / 1000, 0, 1)) / 256
    zeros = 0.09 + 0.1 * (time >= 5080) + 0.15 * (time >= 5900) + 0.26 * (time >= 7000)
    quiet = 0.02 + 0.01 * draw.normal(size=(6, 500))
    layers, change = associate(activity, [zeros + 0.01 * draw.normal(size=500), *quiet])
    assert change == pytest.approx(5500, abs=200)
    assert layers[0].verdict == "associated"
    assert "rise above their first level from step 50" in layers[0].reasons["verdict"]
    assert {each.verdict for each in layers[1:]} == {"not associated"}


def test_zeros_that_rise_long_after_positions_opened_are_not_called_associated() -> None:
    draw = np.random.default_rng(0)
    zeros = opened(500, 0.8) + 0.05 * draw.normal(size=(3, 500))
    assert {each.verdict for each in associate(opened(500), zeros)[0]} == {"not associated"}


def test_correlations_agree_with_scipy() -> None:
    draw = np.random.default_rng(0)
    activity = draw.integers(0, 5, size=60) / 4
    layers, _ = associate(activity, draw.integers(0, 9, size=(3, 60)) + activity)
    zeros = np.random.default_rng(0)
    zeros.integers(0, 5, size=60)
    for each, values in zip(layers, zeros.integers(0, 9, size=(3, 60)) + activity, strict=True):
        assert each.pearson == pytest.approx(stats.pearsonr(activity, values).statistic)
        assert each.spearman == pytest.approx(stats.spearmanr(activity, values).statistic)


def test_zeros_that_follow_later_have_a_positive_lag_in_rows() -> None:
    draw = np.random.default_rng(0)
    activity = chains(draw, 0.8, 1)[0]
    layers, _ = associate(activity, [np.roll(activity, 7), np.roll(activity, -4), -activity])
    assert [each.lag for each in layers] == [7, -4, 0]


def test_a_long_timeline_is_averaged_and_says_so() -> None:
    draw = np.random.default_rng(0)
    activity = opened(5000)
    layers, change = associate(activity, activity + draw.normal(size=(2, 5000)), every=2)
    assert change == 5000
    assert layers[0].verdict == "associated"
    assert "rows averaged by 10" in layers[0].reasons["verdict"]
    assert (layers[0].num_steps, layers[0].lag) == (5000, 0)
    assert layers[0].change_step == pytest.approx(5000, abs=100)


@pytest.mark.parametrize("number", [0, 1, 6, 40])
def test_too_few_steps_say_how_many_are_needed(number: int) -> None:
    layers, _ = associate(opened(number), opened(number)[None] + 0.1)
    assert layers[0].verdict == "too few steps"
    assert layers[0].p_value_adjusted is None
    for key in ("p_value", "p_value_adjusted", "lag", "effective_num_steps"):
        assert layers[0].reasons[key]
    if number:
        assert "under 41" in layers[0].reasons["verdict"]


def test_what_never_changes_is_not_associated_and_says_so() -> None:
    noise = np.random.default_rng(0).normal(size=100)
    layers, change = associate(np.full(100, 0.5), [noise])
    assert (layers[0].verdict, change) == ("not associated", None)
    assert layers[0].reasons["pearson"] == layers[0].reasons["p_value"] == "the activity never changes"
    layers, _ = associate(opened(100), [np.full(100, 1 / 3), noise])
    assert (layers[0].verdict, layers[0].p_value_adjusted) == ("not associated", None)
    for key in ("pearson", "spearman", "p_value", "p_value_adjusted", "lag", "change_step"):
        assert getattr(layers[0], key) is None
        assert layers[0].reasons[key] == "the layer's zeros never change"
    assert layers[1].p_value_adjusted is not None


def test_unknown_rows_are_left_out_for_all_layers_together() -> None:
    draw = np.random.default_rng(0)
    activity = opened(NUM_STEPS)
    zeros = activity + 0.1 * draw.normal(size=(3, NUM_STEPS))
    activity[7], zeros[0, 3], zeros[1, 150] = math.nan, math.nan, math.inf
    kept = np.isfinite(activity) & np.isfinite(zeros).all(axis=0)
    steps = 20 * np.arange(NUM_STEPS)
    named = {str(place): layer for place, layer in enumerate(zeros)}
    found, _ = associations(activity, named, steps)
    wanted, _ = associations(activity[kept], {k: v[kept] for k, v in named.items()}, steps[kept])
    assert found == wanted
    assert found[0].num_steps == NUM_STEPS - 3


def test_a_sparse_layer_does_not_take_the_others_rows() -> None:
    draw = np.random.default_rng(0)
    activity = opened(NUM_STEPS)
    zeros = activity + 0.1 * draw.normal(size=(3, NUM_STEPS))
    zeros[1, 30:] = math.nan
    zeros[2] = math.nan
    layers, _ = associate(activity, zeros)
    assert [each.num_steps for each in layers] == [NUM_STEPS, 30, 0]
    assert [each.verdict for each in layers] == ["associated", "too few steps", "too few steps"]
    assert "less than half" in layers[1].reasons["verdict"]
    assert "no step" in layers[2].reasons["verdict"]


def test_nothing_at_all_gives_nothing() -> None:
    assert associations(np.zeros(0), {}, np.zeros(0, np.int64)) == ((), None)
    layers, change = associations(np.full(3, math.nan), {"a": np.zeros(3)}, np.arange(3))
    assert (layers[0].verdict, change) == ("too few steps", None)


def test_flat_inputs_that_come_alive_take_their_zeros_away_and_that_is_not_associated() -> None:
    """What every healthy run does when positions open: the slice's own columns stop being zero."""
    draw = np.random.default_rng(0)
    time = np.linspace(0, 10_000, 200)
    activity = draw.binomial(256, np.clip((time - 5000) / 1000, 0, 1)) / 256
    zeros = np.where(activity > 0, 0.0, 0.0875) + 1e-4 * draw.normal(size=200)
    layers, _ = associate(activity, [zeros, 0.02 + 0.01 * draw.normal(size=200)])
    assert [layer.verdict for layer in layers] == ["not associated"] * 2
    assert layers[0].pearson is not None
    assert layers[0].pearson < -0.9
    rising, _ = associate(activity, [0.0875 - zeros, 0.02 + 0.01 * draw.normal(size=200)])
    assert rising[0].verdict == "associated"
