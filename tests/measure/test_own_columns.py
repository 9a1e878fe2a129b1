"""Which weights take a slice directly, and zeros outside of them, against torch's own gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from gradscope.measure import ColumnZeros, own_columns, resolve_slices, slice_mask, zero_count

Array = np.ndarray[Any, Any]
torch.set_num_threads(1)
ROWS, BARS, WIDTH = 40, 4, 6
OWN = [4, 5]


def mask(shape: tuple[int, ...], length: int | None = None, selector: str = "4:6") -> Array:
    key = next((key for key in ("image",) if selector.startswith("key:")), "")
    slices = resolve_slices({"position": (selector,)}, shapes={key: shape}, sequence_length=length)
    return slice_mask(next(each for each in slices if each.name == "position"), shape, length)


@pytest.mark.parametrize(
    ("shape", "length", "selector", "places"),
    [
        ((6,), None, "4:6", [4, 5]),
        ((4, 6), None, "5", [5, 11, 17, 23]),
        ((24,), 4, "5", [5, 11, 17, 23]),
        ((24,), 4, "flat:5:7", [5, 6]),
        ((1, 2, 3), None, "key:image", [0, 1, 2, 3, 4, 5]),
        ((2, 2, 2), None, "3", [3]),
    ],
)
def test_masks(shape: tuple[int, ...], length: int | None, selector: str, places: list[int]) -> None:
    assert np.flatnonzero(mask(shape, length, selector)).tolist() == places


class Net(torch.nn.Module):
    """First layers of many kinds over [rows, bars, columns], and hidden layers of the same widths."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        inputs = {"bar": WIDTH, "flat": BARS * WIDTH, "actions": BARS * WIDTH + 3, "front": WIDTH + 3}.get(
            kind, 1
        )
        self.first = torch.nn.Linear(inputs, WIDTH)
        self.recurrent = torch.nn.GRU(WIDTH, WIDTH, batch_first=True) if kind == "recurrent" else None
        self.convolution = torch.nn.Conv1d(WIDTH, 5, 2) if kind == "convolution" else None
        self.norm = torch.nn.LayerNorm(len(OWN)) if kind == "normed" else None
        if self.norm is not None:
            torch.nn.init.constant_(self.norm.bias, 0.5)
        self.alone = torch.nn.Linear(len(OWN), 7) if kind == "alone" else None
        self.hidden = torch.nn.LazyLinear(WIDTH)
        self.last = torch.nn.Linear(WIDTH, 1)

    def forward(self, rows: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        match self.kind:
            case "bar":
                seen = self.first(rows).flatten(1)
            case "flat":
                seen = self.first(rows.flatten(1))
            case "actions":
                seen = self.first(torch.cat([rows.flatten(1), actions], 1))
            case "front":
                seen = self.first(torch.cat([actions, rows[:, -1]], 1))
            case "recurrent":
                seen = self.recurrent(rows)[0][:, -1]
            case "convolution":
                seen = self.convolution(rows.transpose(1, 2)).flatten(1)
            case "normed":
                seen = torch.cat([self.norm(rows[..., OWN]), rows[..., : OWN[0]]], -1).flatten(1)
            case _:
                seen = torch.cat([self.alone(rows[:, -1, OWN]), rows[:, -1, : OWN[0]]], 1)
        return self.last(torch.relu(self.hidden(torch.relu(seen)))).mean()


def gradients(net: Net, rows: torch.Tensor, actions: torch.Tensor) -> dict[str, Array]:
    net.zero_grad(set_to_none=True)
    net(rows, actions).backward()
    return {name: each.grad.numpy().copy() for name, each in net.named_parameters() if each.grad is not None}


EXPECTED: dict[str, dict[str, list[int]]] = {
    "bar": {"first.weight": OWN},
    "flat": {"first.weight": [bar * WIDTH + each for bar in range(BARS) for each in OWN]},
    "actions": {"first.weight": [bar * WIDTH + each for bar in range(BARS) for each in OWN]},
    "front": {"first.weight": [3 + each for each in OWN]},
    "recurrent": {"recurrent.weight_ih_l0": OWN},
    "convolution": {"convolution.weight": OWN},
    "normed": {"norm.weight": [0, 1]},
    "alone": {"alone.weight": [0, 1]},
}


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("kind", EXPECTED)
def test_first_layers_own_their_columns_and_hidden_ones_none(kind: str, seed: int) -> None:
    torch.manual_seed(seed)
    net, rows, actions = Net(kind), torch.randn(ROWS, BARS, WIDTH), torch.randn(ROWS, 3)
    net(rows, actions)
    silent = rows.clone()
    silent[..., OWN] = 0
    before, after = (ColumnZeros(tolerance=1e-8) for _ in range(2))
    for zeros, inputs in ((before, rows), (after, silent)):
        found = gradients(net, inputs, actions)
        zeros.add(found, found)
    where = np.zeros((BARS, WIDTH), dtype=bool)
    where[:, OWN] = True
    own = own_columns({"": where}, before.alive(), after.alive())
    assert {name: np.flatnonzero(each).tolist() for name, each in own.items()} == EXPECTED[kind]


def test_a_layer_that_learned_nothing_before_still_shows_its_columns() -> None:
    nothing, some = np.zeros(6, bool), np.array([1, 1, 1, 1, 0, 0], bool)
    where = {"": np.array([0, 0, 0, 0, 1, 1], bool)}
    assert own_columns(where, {"a": nothing}, {"a": some})["a"].tolist() == where[""].tolist()
    assert own_columns(where, {"a": ~nothing}, {"a": ~nothing}) == {}
    assert own_columns(where, {"a": ~nothing}, {}) == {}
    dead = np.array([0, 0, 1, 1, 0, 0], bool)
    assert own_columns(where, {"a": ~nothing}, {"a": dead}) == {}


@pytest.mark.parametrize("shape", [(7, 6), (6,), (5, 6, 2, 3), ()])
def test_parts_sum_to_the_whole(shape: tuple[int, ...]) -> None:
    draw = np.random.default_rng(0)
    batches = [
        np.where(draw.random(shape) < 0.4, 0, draw.normal(size=shape)).astype(np.float32) for _ in range(3)
    ]
    zeros = ColumnZeros(tolerance=1e-8)
    for each in batches:
        zeros.add({"a": each, "b": np.ones((2, 2))}, ["a"])
    own = {"a": np.array([0, 0, 0, 0, 1, 1], bool)} if shape else {}
    whole = [zero_count(each, name="a").num_zero for each in batches]
    size = max(int(np.prod(shape)), 1)
    share = own["a"].mean() if shape else 0
    outside = zeros.outside(["a"], own) * size * (1 - share)
    inside = zeros.inside(["a"], own) * size * share if shape else 0
    assert outside + inside == pytest.approx(whole)
    assert list(zeros.layers) == ["a"]


def test_expected_zeros_never_count_and_nan_is_unknown() -> None:
    zeros = ColumnZeros(tolerance=1e-8, modules={"a.in_proj_bias": "MultiheadAttention"})
    bias = np.array([1, 1, 0, 0, 1, 0], np.float32)
    zeros.add({"a.in_proj_bias": bias}, ["a.in_proj_bias"])
    assert zeros.outside(["a.in_proj_bias"], {}).tolist() == [pytest.approx(1 / 6)]
    broken = ColumnZeros(tolerance=1e-8)
    broken.add({"a": np.array([0, np.nan])}, ["a"])
    assert np.isnan(broken.outside(["a"], {})).all()
    assert broken.outside([], {}).size == 0
    assert broken.inside(["a"], {}).size == 0
