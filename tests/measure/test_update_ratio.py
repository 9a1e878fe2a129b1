"""The next step over the weight, against torch's own optimizers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from gradscope.measure.update_ratio import NOT_ADAM, UNKNOWN_DECAY, update_ratio


def trained(maker: Any, num_steps: int = 7, **options: Any) -> tuple[Any, ...]:
    """Weight, next gradient, moments and settings after some steps, and the ratio the next one has."""
    torch.manual_seed(1)
    weight = torch.nn.Parameter(torch.randn(5, 4))
    optimizer = maker([weight], **options)
    for _ in range(num_steps):
        weight.grad = torch.randn(5, 4) * 0.1
        optimizer.step()
    state = optimizer.state_dict()
    moments = {key: each.numpy().copy() for key, each in state["state"].get(0, {}).items()}
    group = {key: each for key, each in state["param_groups"][0].items() if key != "params"}
    before, gradient = weight.detach().numpy().copy(), torch.randn(5, 4)
    weight.grad = gradient
    optimizer.step()
    step = weight.detach().numpy().astype(float) - before
    ratio = np.sqrt(np.square(step).mean() / np.square(before.astype(float)).mean())
    return before, gradient.numpy(), moments, group, ratio


@pytest.mark.parametrize(
    ("maker", "options"),
    [
        (torch.optim.Adam, {"lr": 0.01}),
        (torch.optim.Adam, {"lr": 0.02, "eps": 1e-2, "betas": (0.5, 0.9)}),
        (torch.optim.Adam, {"lr": 0.01, "weight_decay": 0.3}),
        (torch.optim.AdamW, {"lr": 0.01, "weight_decay": 0.5}),
    ],
)
@pytest.mark.parametrize("num_steps", [1, 50])
def test_the_step_that_torch_does(maker: Any, options: dict[str, Any], num_steps: int) -> None:
    *given, expected = trained(maker, num_steps, **options)
    assert update_ratio(*given) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("maker", "options"),
    [
        (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}),
        (torch.optim.RMSprop, {"lr": 0.1}),
        (torch.optim.RAdam, {"lr": 0.1}),
        (torch.optim.NAdam, {"lr": 0.1}),
        (torch.optim.Adamax, {"lr": 0.1}),
        (torch.optim.Adam, {"lr": 0.1, "amsgrad": True}),
        (torch.optim.Adam, {"lr": 0.1, "maximize": True}),
    ],
)
def test_of_other_optimizers_nothing_is_claimed(maker: Any, options: dict[str, Any]) -> None:
    *given, _ = trained(maker, **options)
    assert str(update_ratio(*given)).startswith(NOT_ADAM)


def test_what_is_not_known_is_a_reason() -> None:
    weight, gradient, moments, group, _ = trained(torch.optim.Adam, lr=0.01)
    assert update_ratio(weight, gradient, {}, group) == "the file holds no optimizer state of this layer"
    old = {key: each for key, each in group.items() if key != "decoupled_weight_decay"}
    assert update_ratio(weight, gradient, moments, old | {"weight_decay": 0.1}) == UNKNOWN_DECAY
    assert isinstance(update_ratio(weight, gradient, moments, old), float)
    assert "lr" in str(update_ratio(weight, gradient, moments, group | {"lr": None}))
    assert "plain" in str(update_ratio(weight, gradient, moments, group | {"betas": (1.0, 0.9)}))
    assert "shape" in str(update_ratio(weight, gradient.T, moments, group))
    assert "finite" in str(update_ratio(weight * np.inf, gradient, moments, group))
    assert "negative" in str(update_ratio(weight, gradient, moments | {"exp_avg_sq": -(weight**2)}, group))
    assert update_ratio(weight * 0, gradient, moments, group) == "the weight is 0"
    assert update_ratio(weight, gradient, moments, group | {"lr": 0.0}) == 0
