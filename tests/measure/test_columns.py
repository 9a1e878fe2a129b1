"""Inputs that never moved: columns parallel to the bias gradient, and what only looks like it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gradscope.measure import columns
from gradscope.measure.columns import (
    FEW_UNITS,
    NO_BIAS,
    NOT_FINITE,
    RANK_ONE,
    ParallelInputs,
    parallel_inputs,
)
from gradscope.measure.layer_facts import LayerFacts
from gradscope.measure.zero_details import MAX_LISTED, DetailTally
from gradscope.measure.zeros import counted_lines, zero_count

if TYPE_CHECKING:
    from gradscope.records import ZeroDetails

Pair = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]


def gradients(model: nn.Module, rows: torch.Tensor, layer: nn.Module) -> Pair:
    model.zero_grad()
    model(rows).square().mean().backward()
    grads = [each.grad for each in (layer.weight, layer.bias)]
    assert isinstance(grads[0], torch.Tensor)
    assert isinstance(grads[1], torch.Tensor)
    return grads[0].numpy().copy(), grads[1].numpy().copy()


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 1))


def constants(weight: Any, bias: Any, **known: Any) -> dict[int, float]:
    found = parallel_inputs(weight, bias, LayerFacts(**known))
    assert isinstance(found, ParallelInputs), found
    return {int(place): float(found.constants[place]) for place in np.flatnonzero(~np.isnan(found.constants))}


def details(*batches: Pair) -> ZeroDetails:
    tally = DetailTally()
    for weight, bias in batches:
        tally.add(counted_lines(weight, name="a.weight")[1], parallel_inputs(weight, bias))
    return tally.details()


def test_centering_hides_flat_inputs_and_they_are_found_as_parallel() -> None:
    # SCIENCE 2.2: the same information, 29.7 % zeros as it is, 6.3 % once VecNormalize has moved 0 away.
    model, draw = network(), np.random.default_rng(0)
    flat = list(range(20, 28))
    rows = draw.normal(size=(256, 32)).astype(np.float32)
    rows[:, flat] = 0
    with torch.no_grad():
        model[0].weight[:4], model[0].bias[:4] = 0, -1
    plain = gradients(model, torch.from_numpy(rows), model[0])
    mean, spread = draw.uniform(0.2, 0.9, 32), draw.uniform(0.5, 2, 32)
    normalised = ((rows - mean) / spread).astype(np.float32)
    hidden = gradients(model, torch.from_numpy(normalised), model[0])
    before, after = (zero_count(weight, name="a.weight") for weight, _ in (plain, hidden))
    assert before.num_zero / before.num_elements == pytest.approx(0.297, abs=0.005)
    assert after.num_zero / after.num_elements == pytest.approx(0.0625, abs=0.005)
    assert constants(*plain) == {}
    found = constants(*hidden)
    assert list(found) == flat
    assert [found[each] for each in flat] == pytest.approx(normalised[0, flat].tolist(), rel=1e-3)
    assert details(plain).dead_inputs == details(hidden).parallel_inputs == tuple(flat)
    # The healthy twin: no input stands still.
    moving = draw.normal(size=(256, 32)).astype(np.float32)
    assert details(gradients(model, torch.from_numpy(moving), model[0])).num_parallel_inputs == 0


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(-9, 9).filter(lambda each: abs(each) > 1e-3), st.integers(1, 7))
def test_a_constant_is_found_whatever_its_size_and_the_blocks(seed: int, constant: float, chunk: int) -> None:
    draw = np.random.default_rng(seed)
    deltas, rows = draw.normal(size=(40, 6)), draw.normal(size=(40, 5))
    rows[:, 2] = constant
    rows[:, 4] = 0
    scale = 10.0 ** draw.integers(-150, 150)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "CHUNK_ELEMENTS", chunk)
        found = constants(deltas.T @ rows * scale, deltas.sum(0) * scale)
    assert found == {2: pytest.approx(constant, rel=1e-6)}


def test_cosine_and_ratio_are_those_of_the_whole_column() -> None:
    draw = np.random.default_rng(0)
    bias = draw.normal(size=50)
    for angle, is_parallel in ((1.2e-3, True), (1.7e-3, False)):
        other = draw.normal(size=50)
        other -= bias * (other @ bias) / (bias @ bias)
        tilted = bias / np.linalg.norm(bias) + np.tan(angle) * other / np.linalg.norm(other)
        weight = np.stack([tilted, draw.normal(size=50)], axis=1)
        cosine = abs(weight[:, 0] @ bias) / np.linalg.norm(weight[:, 0]) / np.linalg.norm(bias)
        assert bool(cosine >= columns.PARALLEL) is is_parallel
        assert (list(constants(weight, bias)) == [0]) is is_parallel


def test_a_moving_input_of_small_spread_is_not_parallel_to_others() -> None:
    model = network()
    rows = torch.randn(64, 32)
    rows[:, 3] = 1 + 0.05 * torch.randn(64)
    assert constants(*gradients(model, rows, model[0])) == {}


def test_what_cannot_be_told_has_its_reason() -> None:
    model = network()
    one_row = gradients(model, torch.randn(1, 32), model[0])
    assert parallel_inputs(*one_row) == RANK_ONE
    weight, bias = gradients(model, torch.randn(64, 32), model[0])
    assert parallel_inputs(weight, None) == NO_BIAS
    assert parallel_inputs(weight, bias[:3]) == NO_BIAS
    assert parallel_inputs(bias, bias) == NO_BIAS
    few = np.zeros_like(bias)
    few[:2] = 1
    assert parallel_inputs(weight, few) == FEW_UNITS
    assert parallel_inputs(weight, np.where(bias > 0, np.nan, bias)) == NOT_FINITE
    assert details(one_row).reasons["num_parallel_inputs"] == RANK_ONE
    assert details(one_row).num_parallel_inputs is None


def test_a_nan_in_one_column_takes_nothing_from_the_others() -> None:
    model, rows = network(), torch.randn(64, 32)
    rows[:, 5] = -0.75
    weight, bias = gradients(model, rows, model[0])
    weight[0, 0], weight[1, 1] = np.nan, np.inf
    assert constants(weight, bias) == {5: pytest.approx(-0.75, rel=1e-4)}


@pytest.mark.parametrize(("kind", "kernel"), [("Conv1d", 2), ("ConvTranspose1d", 1)])
def test_a_channel_that_never_moved(kind: str, kernel: int) -> None:
    torch.manual_seed(0)
    layer = getattr(nn, kind)(3, 6, kernel)
    model, rows = nn.Sequential(layer, nn.Tanh()), torch.randn(16, 3, 9)
    rows[:, 1] = 0.5
    weight, bias = gradients(model, rows, layer)
    assert constants(weight, bias, module=kind) == {1: pytest.approx(0.5, rel=1e-3)}


def test_inputs_are_parallel_only_where_they_are_in_every_batch_at_one_value() -> None:
    model = network()
    batches = []
    for value, other in ((2.0, 1.0), (2.0, -1.0)):
        rows = torch.randn(64, 32)
        rows[:, 7], rows[:, 9] = value, other
        rows[:, 11] = 0
        batches.append(gradients(model, rows, model[0]))
    found = details(*batches)
    assert (found.parallel_inputs, found.num_parallel_inputs) == ((7,), 1)
    assert found.parallel_constants == (pytest.approx(2.0, rel=1e-3),)
    assert found.dead_inputs == (11,)
    alone = gradients(model, torch.randn(1, 32), model[0])
    assert details(*batches, alone).parallel_inputs == (7,)
    assert details(alone, *batches).parallel_inputs == (7,)


def test_units_are_dead_only_where_they_are_in_every_batch() -> None:
    first, second = np.ones((6, 4)), np.ones((6, 4))
    first[[1, 2]] = second[[2, 3]] = 0
    bias = np.arange(6.0)
    found = details((first, bias), (second, bias))
    assert (found.dead_units, found.num_dead_units) == ((2,), 1)


def test_lists_are_bounded_and_counts_are_not() -> None:
    many = details((np.zeros((MAX_LISTED + 88, 2)), np.zeros(MAX_LISTED + 88)))
    assert len(many.dead_units) == MAX_LISTED
    assert many.num_dead_units == MAX_LISTED + 88
