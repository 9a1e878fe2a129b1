"""Dead units begin anew: the output stays, the gradient comes back, nothing else is forgotten."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike
from torch import nn

from gradscope.errors import UsageError
from gradscope.remedy import dead_units, recycle_dead_units

torch.set_num_threads(1)
DEAD = [1, 4]


def dying(kind: str = "linear", *, dead: list[int] = DEAD) -> tuple[nn.Sequential, torch.Tensor]:
    """A network of six units, some of them dead, and its batch."""
    torch.manual_seed(0)
    if kind == "linear":
        net, rows = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 2)), torch.randn(32, 3)
    elif kind == "conv":
        net = nn.Sequential(nn.Conv2d(2, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3, bias=False))
        rows = torch.randn(8, 2, 7, 7)
    else:
        net = nn.Sequential(nn.Conv2d(2, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 9, 2))
        rows = torch.randn(8, 2, 5, 5)
    with torch.no_grad():
        net[0].bias[dead] = -100.0
    return net, rows


def trained(net: nn.Module, rows: torch.Tensor, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        net(rows).square().mean().backward()
        optimizer.step()


def test_units_are_dead_that_are_zero_on_every_row() -> None:
    net, rows = dying()
    assert dead_units(net[:2](rows)).nonzero().flatten().tolist() == DEAD
    assert dead_units(torch.zeros(2, 5, 3)).tolist() == [True] * 3
    seldom = torch.zeros(100, 3)
    seldom[7, 1], seldom[3, 2], seldom[0, 0] = 1e-45, torch.nan, -0.0
    assert dead_units(seldom).tolist() == [True, False, False]
    with pytest.raises(UsageError, match="no rows"):
        dead_units(torch.zeros(0, 3))


@given(st.integers(1, 4), st.integers(1, 3), st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_channels_are_dead_like_units(rows: int, side: int, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    maps = torch.randn(rows, 5, side, side, generator=draw).relu()
    slow = [all(maps[row, unit].eq(0).all() for row in range(rows)) for unit in range(5)]
    assert dead_units(maps, unit_axis=1).tolist() == slow


@pytest.mark.parametrize("kind", ["linear", "conv", "flattened"])
def test_the_output_stays_and_the_gradient_comes_back(kind: str) -> None:
    net, rows = dying(kind)
    unit_axis = -1 if kind == "linear" else 1
    output, before = net(rows).detach(), deepcopy(net)
    dead = dead_units(net[:2](rows), unit_axis=unit_axis)
    assert recycle_dead_units(net[0], net[-1], dead=dead, generator=torch.Generator().manual_seed(3)) == 2
    assert torch.equal(net(rows), output)
    assert not dead_units(net[:2](rows), unit_axis=unit_axis).any()
    alive = [0, 2, 3, 5]
    assert torch.equal(net[0].weight[alive], before[0].weight[alive])
    assert torch.equal(net[0].bias[alive], before[0].bias[alive])
    outgoing = [each.weight.unflatten(1, (6, -1)) for each in (net[-1], before[-1])]
    assert torch.equal(outgoing[0][:, alive], outgoing[1][:, alive])
    assert (outgoing[0][:, DEAD] == 0).all()
    sgd = torch.optim.SGD(net.parameters(), lr=0.01)
    trained(net, rows, sgd, 1)
    gradients = [net[-1].weight.grad.unflatten(1, (6, -1))[:, DEAD], net[0].weight.grad[DEAD]]
    assert [bool((each != 0).any()) for each in gradients] == [True, False]  # outgoing weights go first
    trained(net, rows, sgd, 1)
    assert (net[0].weight.grad[DEAD] != 0).any()
    # Left alone, the same units have no gradient for ever.
    trained(before, rows, torch.optim.SGD(before.parameters(), lr=0.01), 3)
    assert (before[0].weight.grad[DEAD] == 0).all()


def test_the_new_weights_are_as_the_layer_s_own_initialisation_or_as_told() -> None:
    net, _ = dying()
    twin = deepcopy(net)
    state = torch.random.get_rng_state()
    for each in (net, twin):
        recycle_dead_units(each[0], each[2], dead=DEAD, generator=torch.Generator().manual_seed(7))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(net[0].weight, twin[0].weight)
    torch.manual_seed(11)
    recycle_dead_units(net[0], net[2], dead=DEAD)
    torch.manual_seed(11)
    fresh = nn.Linear(3, 6)
    assert torch.equal(net[0].weight[DEAD], fresh.weight[DEAD])
    assert torch.equal(net[0].bias[DEAD], fresh.bias[DEAD])
    recycle_dead_units(net[0], net[2], dead=DEAD, initialise=lambda layer: nn.init.constant_(layer.weight, 5))
    assert (net[0].weight[DEAD] == 5).all()
    assert (net[0].weight[[0, 2, 3, 5]] != 5).all()


MEMORIES: dict[str, Any] = {
    "Adam": lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=0.01),
    "NAdam": lambda p: torch.optim.NAdam(p, lr=0.01),
    "Adamax": lambda p: torch.optim.Adamax(p, lr=0.01),
    "RMSprop": lambda p: torch.optim.RMSprop(p, lr=0.01, centered=True, momentum=0.9),
    "Adagrad": lambda p: torch.optim.Adagrad(p, lr=0.01),
    "Adadelta": lambda p: torch.optim.Adadelta(p, lr=0.01),
    "SGD": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9),
    "RMSpropTFLike": lambda p: RMSpropTFLike(p, lr=0.01),
}


START = {"RMSpropTFLike": 1}


@pytest.mark.parametrize("name", MEMORIES)
def test_only_the_recycled_rows_and_columns_are_forgotten(name: str) -> None:
    net, rows = dying(dead=[])
    optimizer = MEMORIES[name](net.parameters())
    trained(net, rows, optimizer, 5)
    before = deepcopy(optimizer.state_dict()["state"])
    recycle_dead_units(net[0], net[2], optimizer, dead=DEAD)
    after = optimizer.state_dict()["state"]
    alive, forgotten = [0, 2, 3, 5], 0
    for place, axis in ((0, 0), (1, 0), (2, 1)):
        for entry, value in after[place].items():
            old = before[place][entry]
            if not torch.is_tensor(value) or value.dim() == 0:
                assert value == {"step": 0, "mu_product": 1}[entry] != old
                continue
            kept, gone = torch.tensor(alive), torch.tensor(DEAD)
            assert torch.equal(value.index_select(axis, kept), old.index_select(axis, kept)), entry
            assert (value.index_select(axis, gone) == START.get(name, 0)).all(), entry
            assert (old.index_select(axis, gone) != START.get(name, 0)).any(), entry
            forgotten += 1
    assert forgotten >= 3
    # The next layer's bias was not touched.
    assert str(after[3]) == str(before[3])
    trained(net, rows, optimizer, 1)
    assert all(torch.isfinite(each).all() for each in net.parameters())


def long_trained(shape: tuple[int, ...]) -> dict[str, torch.Tensor]:
    """Adam's memory after a steady gradient of 1: every update is one learning rate."""
    return {
        "step": torch.tensor(20_000.0),
        "exp_avg": torch.ones(shape),
        "exp_avg_sq": torch.ones(shape),
    }


def first_update(*, reset_step: bool) -> tuple[float, float]:
    """Largest update of recycled and of surviving outgoing weights, in learning rates."""
    net, _ = dying(dead=[])
    adam = torch.optim.Adam(net.parameters(), lr=1e-3, eps=1e-30)
    adam.state[net[2].weight] = long_trained((2, 6))
    recycle_dead_units(net[0], net[2], adam, dead=DEAD, reset_step=reset_step)
    before = net[2].weight.detach().clone()
    net[2].weight.grad = torch.ones(2, 6)
    adam.step()
    moved = (net[2].weight.detach() - before).abs().max(dim=0).values / 1e-3
    return float(moved[DEAD].max()), float(moved[[0, 2, 3, 5]].max())


def test_with_the_step_kept_the_first_update_is_more_than_three_times_too_large() -> None:
    assert first_update(reset_step=False) == pytest.approx((0.1 / 0.001**0.5, 1.0), rel=1e-2)
    assert first_update(reset_step=True) == pytest.approx((1.0, 0.001**0.5 / 0.1), rel=1e-2)


def test_how_far_survivors_move_after_the_step_was_reset() -> None:
    """The figures in the docstring, for a steady gradient and full moments."""
    adam = torch.optim.Adam([weight := nn.Parameter(torch.zeros(1))], lr=1.0, eps=1e-30)
    adam.state[weight] = long_trained((1,)) | {"step": torch.tensor(0.0)}
    moved = []
    for _ in range(1000):
        before, weight.grad = weight.item(), torch.ones(1)
        adam.step()
        moved.append(before - weight.item())
    assert [moved[step - 1] for step in (1, 12, 100, 1000)] == pytest.approx(
        [0.32, 0.15, 0.31, 0.80], abs=5e-3
    )
    assert min(moved) == pytest.approx(0.15, abs=5e-3)


def test_recycled_with_the_step_kept_a_unit_dies_of_its_first_update() -> None:
    """Every row asks a unit's bias to fall; only an oversized step makes it fall below 0 for good."""
    alive = {}
    for reset_step in (False, True):
        net = nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1, bias=False))
        adam = torch.optim.Adam(net.parameters(), lr=0.1)
        zeros = torch.zeros(8, 1)
        for each in net.parameters():
            adam.state[each] = long_trained(tuple(each.shape))
        recycle_dead_units(
            net[0],
            net[2],
            adam,
            dead=[0],
            reset_step=reset_step,
            initialise=lambda layer: nn.init.constant_(layer.bias, 0.2),
        )
        with torch.no_grad():
            net[2].weight.fill_(1.0)
        adam.zero_grad()
        net(zeros).sum().backward()
        adam.step()
        alive[reset_step] = bool((net[:2](zeros) > 0).any())
    assert alive == {False: False, True: True}


def test_every_reader_of_a_shared_layer_is_cut_off() -> None:
    net, rows = dying()
    heads = [nn.Linear(6, 1), nn.Linear(6, 3)]
    outputs = [head(net[:2](rows)) for head in heads]
    adam = torch.optim.Adam([*net.parameters(), *heads[0].parameters(), *heads[1].parameters()])
    assert recycle_dead_units(net[0], heads, adam, dead=torch.tensor(DEAD)) == 2
    assert not adam.state
    for head, output in zip(heads, outputs, strict=True):
        assert torch.equal(head(net[:2](rows)), output)


def test_nothing_dead_draws_nothing_and_changes_nothing() -> None:
    net, _ = dying()
    before, state = deepcopy(net.state_dict()), torch.random.get_rng_state()
    adam = torch.optim.Adam(net.parameters())
    for dead in ([], torch.zeros(6, dtype=torch.bool)):
        assert recycle_dead_units(net[0], net[2], adam, dead=dead) == 0
    assert recycle_dead_units(net[0], net[2], dead=[1, 1]) == 1
    assert not torch.equal(torch.random.get_rng_state(), state)
    torch.random.set_rng_state(state)
    assert torch.equal(net[0].weight[0], before["0.weight"][0])
    assert not adam.state


def test_saturated_tanh_units_are_not_zero_so_the_output_jumps() -> None:
    """It cannot help: they are not dead in this sense."""
    net, rows = dying()
    net[1] = nn.Tanh()
    assert not dead_units(net[:2](rows)).any()
    output = net(rows).detach()
    recycle_dead_units(net[0], net[2], dead=DEAD)
    assert (net(rows) - output).abs().max() > 0.1


def test_a_compiled_network_sees_the_new_weights() -> None:
    net, rows = dying()
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    output = compiled(rows).detach()
    recycle_dead_units(net[0], net[2], dead=DEAD)
    torch.testing.assert_close(compiled(rows), output)
    torch.nn.init.ones_(net[2].weight)
    assert not torch.allclose(compiled(rows), output)


def test_what_does_not_fit_is_refused_and_nothing_has_changed() -> None:
    net, _ = dying()
    before = deepcopy(net.state_dict())
    conv = nn.Conv2d(2, 6, 3)
    attempts: list[tuple[nn.Module, Any, dict[str, Any]]] = [
        (net[0], nn.Linear(5, 2), {}),
        (net[0], nn.Linear(12, 2), {}),
        (net[0], nn.Conv2d(6, 2, 3), {}),
        (conv, nn.Conv2d(6, 6, 3, groups=2), {}),
        (conv, nn.Linear(13, 2), {}),
        (nn.LSTM(3, 6), net[2], {}),
        (nn.utils.parametrizations.weight_norm(nn.Linear(3, 6)), net[2], {}),
        (net[0], net[2], {"dead": [6]}),
        (net[0], net[2], {"dead": [-1]}),
        (net[0], net[2], {"dead": [0.5]}),
        (net[0], net[2], {"dead": torch.ones(5, dtype=torch.bool)}),
        (net[0], net[2], {"optimizer": torch.optim.Adam(net[0].parameters())}),
    ]
    for layer, follower, options in attempts:
        with pytest.raises(UsageError):
            recycle_dead_units(layer, follower, **{"dead": DEAD, **options})
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
