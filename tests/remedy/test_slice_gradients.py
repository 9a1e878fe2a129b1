"""Scaling gradients works under SGD and cancels under Adam; a slice's learning rate works under both."""

from __future__ import annotations

import copy
import pickle
import warnings
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike

from gradscope.errors import UsageError
from gradscope.remedy import scale_slice_gradients, slice_learning_rate

if TYPE_CHECKING:
    from collections.abc import Callable

torch.set_num_threads(1)
OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "SGD": lambda parameters: torch.optim.SGD(parameters, lr=0.01, momentum=0.9, weight_decay=0.01),
    "Adam": lambda parameters: torch.optim.Adam(parameters, lr=0.01),
    "AdamW": lambda parameters: torch.optim.AdamW(parameters, lr=0.01, weight_decay=0.1),
    "RMSprop": lambda parameters: torch.optim.RMSprop(parameters, lr=0.01),
}


def layer(width: int = 5) -> torch.nn.Linear:
    torch.manual_seed(0)
    return torch.nn.Linear(width, 3)


def update(net: torch.nn.Module, optimizer: torch.optim.Optimizer, *, steps: int = 1) -> torch.Tensor:
    """What some steps changed in the weight; every call draws the same batches."""
    before = net.weight.detach().clone()
    draw = torch.Generator().manual_seed(1)
    for _ in range(steps):
        optimizer.zero_grad()
        net(torch.randn(16, net.in_features, generator=draw)).square().sum().backward()
        optimizer.step()
    return net.weight.detach() - before


def updates(make: Any, *, factor: float | None, steps: int = 1) -> torch.Tensor:
    net = layer()
    if factor is not None:
        scale_slice_gradients(net, "3:", factor)
    return update(net, make(net.parameters()), steps=steps)


@given(st.floats(0, 10), st.integers(1, 3))
@settings(max_examples=20, deadline=None)
def test_the_gradient_of_the_slice_is_multiplied_however_often_it_is_accumulated(
    factor: float, num_backwards: int
) -> None:
    plain, scaled = layer(), layer()
    scale_slice_gradients(scaled.weight, range(3, 5), factor)
    for net in (plain, scaled):
        for seed in range(num_backwards):
            net(torch.randn(4, 5, generator=torch.Generator().manual_seed(seed))).square().sum().backward()
    assert plain.weight.grad is not None
    expected = plain.weight.grad * torch.tensor([1, 1, 1, factor, factor])
    torch.testing.assert_close(scaled.weight.grad, expected)


def test_under_sgd_the_slice_learns_a_tenth_as_fast() -> None:
    plain = updates(lambda p: torch.optim.SGD(p, lr=0.01), factor=None)
    scaled = updates(lambda p: torch.optim.SGD(p, lr=0.01), factor=0.1)
    torch.testing.assert_close(scaled[:, 3:], 0.1 * plain[:, 3:])
    assert torch.equal(scaled[:, :3], plain[:, :3])


@pytest.mark.parametrize("factor", [0.1, 10.0])
def test_under_adam_a_constant_factor_cancels(factor: float) -> None:
    """It cannot help: this is why the case's second fix changed nothing."""
    plain = updates(OPTIMIZERS["Adam"], factor=None, steps=20)
    scaled = updates(OPTIMIZERS["Adam"], factor=factor, steps=20)
    assert (scaled - plain).abs().max() < 1e-5 * plain.abs().max()
    # Where eps is as large as the gradients it does not cancel: the test can tell.
    blunt = [updates(lambda p: torch.optim.Adam(p, lr=0.01, eps=10), factor=each) for each in (None, factor)]
    assert (blunt[1] - blunt[0])[:, 3:].abs().max() > 0.3 * blunt[0].abs().max()


class Prodigy(torch.optim.Optimizer):
    """One that only its betas give away."""

    def __init__(self, parameters: Any, lr: float) -> None:
        super().__init__(parameters, {"lr": lr, "betas": (0.9, 0.999)})

    def step(self, closure: Any = None) -> Any:
        return closure


WARNED = [
    torch.optim.Adam,
    torch.optim.AdamW,
    torch.optim.NAdam,
    torch.optim.RAdam,
    torch.optim.Adamax,
    torch.optim.RMSprop,
    torch.optim.Adagrad,
    torch.optim.Adadelta,
    torch.optim.Rprop,
    RMSpropTFLike,
    Prodigy,
    type("AdamLike", (torch.optim.AdamW,), {}),
]


@pytest.mark.parametrize("kind", WARNED, ids=lambda kind: kind.__name__)
def test_it_warns_once_where_the_factor_cancels(kind: Any) -> None:
    net = layer()
    optimizer = kind(net.parameters(), lr=0.01)
    with pytest.warns(UserWarning, match="slice_learning_rate") as caught:
        scale_slice_gradients(net, "3:", optimizer=optimizer)
    assert [each.filename for each in caught] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        update(net, optimizer, steps=3)


def test_it_is_silent_where_the_factor_counts() -> None:
    net = layer()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scale_slice_gradients(net, "3:", optimizer=torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9))


def test_bars_of_a_flat_input_and_convolutions_over_bars() -> None:
    flat = layer(10)
    scale_slice_gradients(flat, "3:", 0.0, sequence_length=2)
    flat(torch.ones(2, 10)).sum().backward()
    assert flat.weight.grad is not None
    assert (flat.weight.grad == 0).all(dim=0).nonzero().flatten().tolist() == [3, 4, 8, 9]
    filters = torch.nn.Conv1d(5, 2, 3)
    scale_slice_gradients(filters, "3:", 0.0)
    filters(torch.ones(1, 5, 4)).sum().backward()
    assert filters.weight.grad is not None
    assert (filters.weight.grad == 0).all(dim=(0, 2)).nonzero().flatten().tolist() == [3, 4]


def test_the_hook_goes_and_copies_never_had_it() -> None:
    net = layer()
    handle = scale_slice_gradients(net, "3:", 0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        twins = [copy.deepcopy(net), pickle.loads(pickle.dumps(net))]
    handle.remove()
    for each in (net, *twins):
        each(torch.ones(1, 5)).sum().backward()
        assert each.weight.grad is not None
        assert (each.weight.grad != 0).all()


def test_a_compiled_layer_scales_too() -> None:
    net = layer()
    scale_slice_gradients(net, "3:", 0.0)
    torch.compile(net, fullgraph=True, backend="aot_eager")(torch.ones(1, 5)).sum().backward()
    assert net.weight.grad is not None
    assert (net.weight.grad[0] != 0).tolist() == [True, True, True, False, False]


def test_half_float_weights_keep_their_type() -> None:
    net = layer().bfloat16()
    scale_slice_gradients(net, "3:", 0.5)
    net(torch.ones(1, 5, dtype=torch.bfloat16)).sum().backward()
    assert net.weight.grad is not None
    assert net.weight.grad.dtype == torch.bfloat16
    assert net.weight.grad[0].tolist() == [1, 1, 1, 0.5, 0.5]


@pytest.mark.parametrize(
    ("weight", "columns", "factor"),
    [
        (torch.nn.ReLU(), "3:", 0.1),
        (torch.nn.Parameter(torch.ones(5)), "3:", 0.1),
        (torch.ones(3, 5), "3:", 0.1),
        (torch.nn.Linear(5, 3), "3:6", 0.1),
        (torch.nn.Linear(5, 3), "3:", -0.1),
        (torch.nn.Linear(5, 3), "3:", float("nan")),
    ],
)
def test_what_cannot_be_scaled_is_refused(weight: Any, columns: str, factor: float) -> None:
    with pytest.raises(UsageError):
        scale_slice_gradients(weight, columns, factor)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("factor", [0.0, 0.1, 1.0])
def test_a_slice_keeps_its_part_of_each_update_under_every_optimizer(name: str, factor: float) -> None:
    """One step on the same weights and batch, since later steps have other gradients."""
    plain, slow = layer(), layer()
    full = update(plain, OPTIMIZERS[name](plain.parameters()))
    optimizer = OPTIMIZERS[name](slow.parameters())
    slice_learning_rate(optimizer, slow, "3:", factor)
    part = update(slow, optimizer)
    assert full.abs().min() > 1e-6
    torch.testing.assert_close(part[:, 3:], factor * full[:, 3:], rtol=1e-4, atol=1e-7)
    assert torch.equal(part[:, :3], full[:, :3])
    assert torch.equal(slow.bias, plain.bias)


def test_it_is_what_a_learning_rate_of_its_own_does() -> None:
    """The oracle: Adam on two parameters in two groups, over many steps."""
    net, draw = layer(), torch.Generator().manual_seed(2)
    market = net.weight.detach()[:, :3].clone().requires_grad_()
    position = net.weight.detach()[:, 3:].clone().requires_grad_()
    bias = net.bias.detach().clone().requires_grad_()
    groups = [{"params": [market, bias]}, {"params": [position], "lr": 0.001}]
    oracle = torch.optim.Adam(groups, lr=0.01)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    slice_learning_rate(optimizer, net.weight, "3:", 0.1)
    for _ in range(30):
        rows = torch.randn(8, 5, generator=draw)
        oracle.zero_grad()
        torch.nn.functional.linear(rows, torch.cat((market, position), dim=1), bias).square().sum().backward()
        oracle.step()
        optimizer.zero_grad()
        net(rows).square().sum().backward()
        optimizer.step()
    torch.testing.assert_close(net.weight, torch.cat((market, position), dim=1), rtol=1e-4, atol=1e-5)


def test_two_slices_have_two_rates_and_each_ends_alone() -> None:
    net, plain = layer(), layer()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    first = slice_learning_rate(optimizer, net, "0", 0.0)
    second = slice_learning_rate(optimizer, net, "3:", 0.5)
    full = update(plain, torch.optim.SGD(plain.parameters(), lr=0.01))
    torch.testing.assert_close(update(net, optimizer), full * torch.tensor([0, 1, 1, 0.5, 0.5]))
    first.remove()
    net.load_state_dict(layer().state_dict())
    torch.testing.assert_close(update(net, optimizer), full * torch.tensor([1, 1, 1, 0.5, 0.5]))
    with second:
        pass
    net.load_state_dict(layer().state_dict())
    torch.testing.assert_close(update(net, optimizer), full)
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks


def test_the_optimizer_s_own_files_do_not_carry_it() -> None:
    net = layer()
    optimizer = torch.optim.Adam(net.parameters())
    slice_learning_rate(optimizer, net, "3:", 0.0, sequence_length=1)
    update(net, optimizer)
    for twin in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        assert not twin._optimizer_step_pre_hooks
    assert set(optimizer.state_dict()) == {"state", "param_groups"}


def test_a_step_that_fails_leaves_the_next_one_whole() -> None:
    net, plain = layer(), layer()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    slice_learning_rate(optimizer, net, "3:", 0.1)

    def fails() -> float:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        optimizer.step(fails)
    full = update(plain, torch.optim.SGD(plain.parameters(), lr=0.01))
    torch.testing.assert_close(update(net, optimizer)[:, 3:], 0.1 * full[:, 3:])


def test_a_gradient_scaler_that_skips_a_step_skips_it_here_too() -> None:
    net = layer()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
    slice_learning_rate(optimizer, net, "3:")
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    before = net.weight.detach().clone()
    for size, moves in ((torch.inf, False), (1.0, True)):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = net(torch.full((1, 5), size)).sum()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        assert bool((net.weight != before).any()) is moves
    torch.testing.assert_close((net.weight - before)[0], torch.tensor([-0.1, -0.1, -0.1, -0.01, -0.01]))


def test_a_weight_of_another_optimizer_is_refused() -> None:
    net = layer()
    with pytest.raises(UsageError, match="does not step it"):
        slice_learning_rate(torch.optim.Adam(layer().parameters()), net, "3:")
    with pytest.raises(UsageError, match="factor"):
        slice_learning_rate(torch.optim.Adam(net.parameters()), net, "3:", -1)
