"""The watch on plain torch training loops, without any training library."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

from gradscope.measure import zero_count
from gradscope.record.gradients import (
    GradientCounts,
    OptimizerWatch,
    WatchedLayer,
    layer_counts,
    num_nonfinite,
    tensor_norm,
)


def watched(
    module: torch.nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[OptimizerWatch, list[GradientCounts]]:
    seen: list[GradientCounts] = []
    layers = [WatchedLayer(name=name, parameter=p) for name, p in module.named_parameters()]
    watch = OptimizerWatch(
        optimizer, name="all", layers=layers, on_step=lambda each: seen.append(each.counts(1e-8))
    )
    return watch, seen


def test_norm_before_is_of_the_last_accumulation_and_after_a_foreign_backward_only_ours_counts() -> None:
    torch.manual_seed(0)
    net = torch.nn.Linear(4, 2)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
    watch, seen = watched(net, optimizer)
    watch.arm()
    net(torch.randn(3, 4)).sum().backward()  # somebody else's
    optimizer.zero_grad()
    for _ in range(3):
        net(torch.randn(3, 4)).square().sum().backward()
    full = torch.cat([p.grad.flatten().double() for p in net.parameters() if p.grad is not None]).norm()
    torch.nn.utils.clip_grad_norm_(net.parameters(), 0.25)
    optimizer.step()
    assert seen[0].norm_before_clip == pytest.approx(float(full), rel=1e-7)
    assert seen[0].total_norm == pytest.approx(0.25, rel=1e-5)


def test_an_idle_watch_knows_no_norm_before_and_a_removed_one_is_silent() -> None:
    net = torch.nn.Linear(4, 2)
    optimizer = torch.optim.Adam(net.parameters())
    watch, seen = watched(net, optimizer)
    for arm in (False, True):
        if arm:
            watch.arm()
        optimizer.zero_grad()
        net(torch.ones(1, 4)).sum().backward()
        optimizer.step()
    assert [each.norm_before_clip is None for each in seen] == [True, False]
    assert watch.num_steps == 2
    watch.remove()
    optimizer.step()
    assert len(seen) == 2
    assert not net.weight._post_accumulate_grad_hooks


def test_the_count_of_steps_goes_on_where_the_optimizer_was_loaded() -> None:
    net = torch.nn.Linear(4, 2)
    first = torch.optim.Adam(net.parameters())
    for _ in range(7):
        net(torch.ones(1, 4)).sum().backward()
        first.step()
    second = torch.optim.Adam(net.parameters())
    second.load_state_dict(first.state_dict())
    assert watched(net, second)[0].num_steps == 7
    assert watched(net, torch.optim.SGD(net.parameters(), momentum=0.9))[0].num_steps == 0


def test_a_parameter_without_gradient_is_no_zero() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(4, 2), torch.nn.Linear(4, 2))
    watch, seen = watched(net, optimizer := torch.optim.SGD(net.parameters(), lr=0.1))
    net[0](torch.zeros(1, 4)).sum().backward()
    optimizer.step()
    assert seen[0].num_zero == [8, 0, None, None]
    assert seen[0].norm == [0.0, pytest.approx(2**0.5), None, None]
    assert watch.gradients()["1.weight"] is None
    optimizer.zero_grad()
    optimizer.step()
    assert seen[1].num_zero == [None] * 4
    assert seen[1].total_norm == 0


def test_sparse_gradients_count_untouched_rows() -> None:
    table = torch.nn.Embedding(10, 3, sparse=True)
    watch, seen = watched(table, optimizer := torch.optim.SparseAdam(table.parameters()))
    watch.arm()
    table(torch.tensor([1, 4])).sum().backward()
    optimizer.step()
    assert seen[0].num_zero == [24]
    assert seen[0].norm_before_clip == pytest.approx(6**0.5)


TRICKY = [0.0, -0.0, 1e-8, 9.9e-9, 1.1e-8, -1e-8, 1e-45, np.nan, np.inf, -np.inf, 1.0, -3e-9, 6e-8, 1e-30]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("tolerance", [0.0, 1e-8, 1e-4, 0.3])
def test_counts_equal_the_measures(dtype: torch.dtype, tolerance: float) -> None:
    gradient = torch.tensor(TRICKY, dtype=torch.float64).to(dtype)
    numpy_dtype: Any = {torch.bfloat16: ml_dtypes.bfloat16}.get(dtype)
    array = gradient.float().numpy().astype(numpy_dtype) if numpy_dtype else gradient.numpy()
    count = zero_count(array, name="bias", tolerance=tolerance)
    zeros, exact, expected = layer_counts(gradient, tolerance, None).tolist()
    nonfinite = num_nonfinite(gradient, float(tensor_norm(gradient)))
    assert (zeros, exact, nonfinite) == (count.num_zero, count.num_exact_zero, count.num_nonfinite)
    assert expected == 0


def test_expected_zeros_of_the_key_bias_equal_the_measures() -> None:
    torch.manual_seed(0)
    attention = torch.nn.MultiheadAttention(8, 2, batch_first=True)
    bars = torch.randn(5, 3, 8)
    attention(bars, bars, bars)[0].square().sum().backward()
    gradient = attention.in_proj_bias.grad
    assert gradient is not None
    count = zero_count(gradient.numpy(), name="in_proj_bias", module="MultiheadAttention", tolerance=1e-6)
    counted = layer_counts(gradient, 1e-6, slice(8, 16)).tolist()
    assert counted[2] == count.anatomy.expected == 8
