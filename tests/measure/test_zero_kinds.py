"""Kinds of zeros of real torch modules: a planted fault in each, and a healthy twin."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import oracles
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import nn
from torch.nn.utils import prune

from gradscope.measure.layer_facts import LayerFacts, layer_facts
from gradscope.measure.zeros import counted_lines, zero_count
from gradscope.records import ZeroAnatomy

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradscope.measure.zero_kinds import ZeroLines

SPARSE = st.sampled_from([0.0, 0.0, 0.0, -0.0, 1e-9, 1.0, -2.0])
MODULES = [None, "Linear", "LSTM", "GRU", "RNN", "Embedding", "ConvTranspose1d", "MultiheadAttention"]
NAMES = [
    "weight",
    "bias",
    "weight_ih_l0",
    "bias_hh_l1_reverse",
    "weight_hh",
    "in_proj_weight",
    "in_proj_bias",
]


def gradients(module: nn.Module, loss: Callable[[], torch.Tensor]) -> dict[str, np.ndarray[Any, Any]]:
    module.zero_grad()
    loss().backward()
    return {name: each.grad.numpy() for name, each in module.named_parameters() if each.grad is not None}


def measured(module: nn.Module, name: str, gradient: Any, **known: Any) -> tuple[ZeroAnatomy, ZeroLines]:
    facts = LayerFacts(module=type(module).__name__, **known)
    count, lines = counted_lines(gradient, name=name, facts=facts)
    assert sum(asdict(count.anatomy).values()) == count.num_zero
    return count.anatomy, lines


def places(flags: Any) -> list[int]:
    return np.flatnonzero(flags).tolist()  # type: ignore[no-any-return]


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@settings(max_examples=400, deadline=None)
@given(
    hnp.arrays(np.float64, hnp.array_shapes(min_dims=1, max_dims=3, max_side=6), elements=SPARSE),
    st.sampled_from(MODULES),
    st.sampled_from(NAMES),
    st.booleans(),
    st.data(),
)
def test_kinds_add_up_and_agree_with_the_oracle(
    gradient: Any, module: str | None, leaf: str, has_mask: bool, data: Any
) -> None:
    masked = data.draw(hnp.arrays(np.bool_, gradient.shape)) if has_mask else None
    used = data.draw(st.none() | st.lists(st.integers(0, len(gradient) - 1)).map(np.array))
    facts = LayerFacts(module=module, masked=masked, looked_up=None if used is None else used.astype(int))
    count, lines = counted_lines(gradient, name=f"a.{leaf}", facts=facts)
    kinds, units, inputs = oracles.kinds_of_layer(gradient, leaf, module, masked, used)
    assert {kind: number for kind, number in asdict(count.anatomy).items() if number} == kinds
    assert count.num_zero == sum(kinds.values())
    assert places(lines.units) == units
    assert (None if lines.inputs is None else places(lines.inputs)) == inputs


def test_a_dead_unit_and_a_flat_input_of_a_linear_layer() -> None:
    layer, rows = nn.Linear(5, 4), torch.randn(32, 5)
    healthy = gradients(layer, lambda: layer(rows).relu().sum())["weight"]
    assert measured(layer, "weight", healthy)[0] == ZeroAnatomy()
    rows[:, 3] = 0
    with torch.no_grad():
        layer.weight[1], layer.bias[1] = 0, -1
    anatomy, lines = measured(layer, "weight", gradients(layer, lambda: layer(rows).relu().sum())["weight"])
    assert anatomy == ZeroAnatomy(dead_input=4, dead_unit=4)
    assert (places(lines.units), places(lines.inputs)) == ([1], [3])


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("kind", ["Conv", "ConvTranspose"])
def test_channels_of_convolutions(kind: str, dims: int) -> None:
    layer = getattr(nn, f"{kind}{dims}d")(3, 4, 2)
    rows = torch.randn(8, 3, *[4] * dims)
    healthy = gradients(layer, lambda: layer(rows).square().sum())["weight"]
    assert measured(layer, "weight", healthy)[0] == ZeroAnatomy()
    rows[:, 2] = 0
    anatomy, lines = measured(
        layer, "weight", gradients(layer, lambda: layer(rows)[:, [0, 2, 3]].square().sum())["weight"]
    )
    kernel = 2**dims
    assert anatomy == ZeroAnatomy(dead_input=4 * kernel, dead_unit=2 * kernel)
    assert (places(lines.units), places(lines.inputs)) == ([1], [2])


def test_rows_of_an_embedding_that_were_not_looked_up_are_expected() -> None:
    layer, tokens = nn.Embedding(6, 4, padding_idx=0), torch.tensor([[1, 2, 0], [4, 4, 0]])
    weight = gradients(layer, lambda: layer(tokens).square().sum())["weight"]
    assert measured(layer, "weight", weight)[0] == ZeroAnatomy(expected=12)
    used = np.unique(tokens.numpy())
    found, _ = measured(layer, "weight", weight, looked_up=used[used != 0])
    assert found == ZeroAnatomy(expected=12)
    no_padding, lines = measured(layer, "weight", weight, looked_up=used)
    assert no_padding == ZeroAnatomy(expected=8, dead_input=4)
    assert places(lines.inputs) == [0]


def test_a_dimension_of_an_embedding_that_nobody_listens_to_is_a_dead_unit() -> None:
    layer, tokens = nn.Embedding(6, 4), torch.tensor([1, 2, 4])
    weight = gradients(layer, lambda: layer(tokens)[:, :3].square().sum())["weight"]
    anatomy, lines = measured(layer, "weight", weight)
    assert anatomy == ZeroAnatomy(expected=12, dead_unit=3)
    assert (places(lines.units), places(lines.inputs)) == ([3], [])
    nothing = gradients(layer, lambda: 0 * layer(tokens).sum())["weight"]
    assert measured(layer, "weight", nothing)[0] == ZeroAnatomy(whole_layer=24)


@pytest.mark.parametrize(("kind", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
def test_a_unit_of_a_recurrent_layer_is_dead_in_all_gates(kind: str, gates: int) -> None:
    layer = getattr(nn, kind)(3, 5, batch_first=True)
    rows = torch.randn(6, 4, 3)
    healthy = gradients(layer, lambda: layer(rows)[0].square().sum())
    with torch.no_grad():
        layer.weight_hh_l0[:, 2] = 0
    found = gradients(layer, lambda: layer(rows)[0][..., [0, 1, 3, 4]].square().sum())
    for name in ("weight_ih_l0", "weight_hh_l0"):
        assert measured(layer, name, healthy[name])[0] == ZeroAnatomy()
        anatomy, lines = measured(layer, name, found[name])
        assert anatomy == ZeroAnatomy(dead_unit=gates * found[name].shape[1])
        assert places(lines.units) == [2]
    bias = measured(layer, "bias_ih_l0", found["bias_ih_l0"])
    assert (bias[0], places(bias[1].units)) == (ZeroAnatomy(dead_unit=gates), [2])


def test_a_row_of_one_gate_alone_is_no_dead_unit() -> None:
    layer, rows = nn.LSTM(3, 5, batch_first=True), torch.randn(6, 1, 3)
    found = gradients(layer, lambda: layer(rows)[0].square().sum())
    # One bar from a state of zeros: there is nothing to forget, and nothing comes back.
    anatomy, lines = measured(layer, "weight_ih_l0", found["weight_ih_l0"])
    assert anatomy == ZeroAnatomy(scattered=15)
    assert (places(lines.units), lines.blocks) == ([], ("forget gate",))
    assert measured(layer, "weight_hh_l0", found["weight_hh_l0"])[0] == ZeroAnatomy(whole_layer=100)


def test_attention_over_one_bar_learns_neither_queries_nor_keys() -> None:
    layer = nn.MultiheadAttention(4, 2, batch_first=True)
    for bars, blocks in ((5, ()), (1, ("query", "key"))):
        rows = torch.randn(8, bars, 4)
        found = gradients(layer, lambda rows=rows: layer(rows, rows, rows)[0].square().sum())
        anatomy, lines = measured(layer, "in_proj_weight", found["in_proj_weight"])
        assert anatomy == ZeroAnatomy(dead_unit=16 * len(blocks))
        assert lines.blocks == blocks


def test_rounding_in_the_key_bias_is_called_dust() -> None:
    layer, rows = nn.MultiheadAttention(8, 2, batch_first=True), 30 * torch.randn(64, 6, 8)
    bias = gradients(layer, lambda: layer(rows, rows, rows)[0].square().sum())["in_proj_bias"]
    anatomy, lines = measured(layer, "in_proj_bias", bias)
    assert anatomy.dead_unit == 0
    assert (lines.num_dust or 0) + anatomy.expected == 8
    assert lines.num_dust
    assert places(lines.units) == []
    assert measured(nn.Linear(1, 1), "bias", bias)[1].num_dust is None


def test_a_learned_key_gives_the_key_bias_an_effect() -> None:
    layer, rows = nn.MultiheadAttention(4, 2, add_bias_kv=True, batch_first=True), torch.randn(8, 3, 4)
    bias = gradients(layer, lambda: layer(rows, rows, rows)[0].square().sum())["in_proj_bias"]
    assert np.abs(bias[4:8]).max() > 1e-3 * np.abs(bias).max()
    shapes = {name: tuple(each.shape) for name, each in layer.named_parameters()}
    facts = layer_facts(shapes)["in_proj_bias"]
    assert zero_count(np.zeros(12), name="in_proj_bias", facts=facts).anatomy == ZeroAnatomy(whole_layer=12)


def test_pruned_weights_are_expected() -> None:
    layer, rows = nn.Linear(4, 3), torch.randn(16, 4)
    prune.random_unstructured(layer, "weight", amount=0.5)  # type: ignore[no-untyped-call]
    weight = gradients(layer, lambda: layer(rows).square().sum())["weight_orig"]
    masked = (layer.weight_mask == 0).numpy()
    assert measured(layer, "weight_orig", weight, masked=masked)[0] == ZeroAnatomy(expected=6)
    weight[~masked] = 0
    dead, lines = measured(layer, "weight_orig", weight, masked=masked)
    assert dead == ZeroAnatomy(expected=6, whole_layer=6)
    assert lines.units.any()


@pytest.mark.parametrize(("norm", "expected"), [(nn.BatchNorm1d(6), 6), (nn.LayerNorm(6), 0)])
def test_a_bias_before_a_batch_norm_has_no_effect(norm: nn.Module, expected: int) -> None:
    model, rows = nn.Sequential(nn.Linear(5, 6), norm, nn.Tanh(), nn.Linear(6, 1)), torch.randn(64, 5)
    found = gradients(model, lambda: model(rows).square().mean())
    modules = {name: type(model[int(name[0])]).__name__ for name in found}
    facts = layer_facts({name: each.shape for name, each in found.items()}, modules)
    counts = {
        name: zero_count(each, name=name, facts=facts[name], tolerance=1e-6) for name, each in found.items()
    }
    assert counts["0.bias"].anatomy == ZeroAnatomy(expected=expected)
    assert counts["1.weight"].anatomy == counts["1.bias"].anatomy == ZeroAnatomy()
    unknown = zero_count(found["0.bias"], name="0.bias", tolerance=1e-6).anatomy
    assert unknown == ZeroAnatomy(whole_layer=expected)


def test_a_norm_parameter_is_its_own_unit() -> None:
    norm, rows = nn.LayerNorm(6), torch.randn(16, 6)
    found = gradients(norm, lambda: norm(rows)[:, :4].square().sum())
    for name in ("weight", "bias"):
        anatomy, lines = measured(norm, name, found[name])
        assert anatomy == ZeroAnatomy(dead_unit=2)
        assert (places(lines.units), lines.inputs) == ([4, 5], None)


@pytest.mark.parametrize(
    ("kind", "options", "module"),
    [("LSTM", {}, "LSTM"), ("LSTM", {"proj_size": 2}, "LSTM"), ("GRU", {}, "GRU"), ("RNN", {}, "RNN")],
)
def test_recurrent_modules_are_told_by_their_weights(kind: str, options: Any, module: str) -> None:
    layer = getattr(nn, kind)(3, 5, num_layers=2, bidirectional=True, **options)
    shapes = {f"actor.{name}": tuple(each.shape) for name, each in layer.named_parameters()}
    facts = layer_facts(shapes)
    gated = {name: each.module for name, each in facts.items() if "weight_hr" not in name}
    assert set(gated.values()) == {module}
    assert layer_facts({"a.weight_ih_l0": (20, 3)})["a.weight_ih_l0"].module is None
