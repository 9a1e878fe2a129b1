"""try_remedies.py: each remedy is really in the training that bears its name, and the training runs."""

from __future__ import annotations

import importlib
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from gradscope.remedy import InputLayerNorm, SliceNormalizer

if TYPE_CHECKING:
    from collections.abc import Iterator

SAMPLES = Path(__file__).parent.parent / "sample_checkpoints"
RUNS = ("collapse", "confounded")
NUM_STEPS = 200  # 25 updates
REMEDIES = (
    "none slice-normalizer input-layer-norm one-input-layer-norm slice-gradient-scale slice-learning-rate "
    "activity-learning-rate recycle-dead-units clip-by-group none-sgd slice-gradient-scale-sgd "
    "none-slow-sgd slice-gradient-scale-slow-sgd"
).split()


@pytest.fixture(scope="module")
def scripts() -> Iterator[Any]:
    """try_remedies and what it imports, gone afterwards: other tests load the samples' code their own way."""
    before = set(sys.modules)
    sys.path.insert(0, str(SAMPLES))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield importlib.import_module("try_remedies")
    torch.set_num_threads(threads)
    sys.path.remove(str(SAMPLES))
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None)).startswith(str(SAMPLES)):
            del sys.modules[name]


def prepared(scripts: Any, run: str, remedy: str) -> tuple[Any, list[Any]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # fix 2 says itself that it cancels under Adam
        return scripts.prepared(run, remedy, seed=0)


def test_the_list_is_complete(scripts: Any) -> None:
    assert set(scripts.REMEDIES) == set(REMEDIES)


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("remedy", REMEDIES)
def test_a_training_runs_and_is_watched(scripts: Any, run: str, remedy: str) -> None:
    model, callbacks = prepared(scripts, run, remedy)
    watch = scripts.Watch()
    model.get_env().envs[0].unwrapped.num_steps = 5_000  # positions may be opened at once
    model.learn(NUM_STEPS, callback=[*callbacks, watch])
    assert watch.zeros
    assert all(series for series in watch.zeros.values())
    assert all(parameter.isfinite().all() for parameter in model.policy.parameters())
    kinds = {"slice-normalizer": SliceNormalizer, "input-layer-norm": InputLayerNorm}
    if kind := kinds.get(remedy.removeprefix("one-")):
        norms = [each for each in model.policy.modules() if isinstance(each, kind)]
        assert len(norms) == {"collapse": 2, "confounded": 4}[run]  # target networks have theirs
        # (DQN's target takes its statistics over at step 500 only.)
        assert isinstance(norms[0], InputLayerNorm) or norms[0].running_num_rows.max() > 0
    if remedy == "activity-learning-rate":
        assert model.logger.name_to_value["train/active_fraction"] > 0


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("remedy", ["slice-gradient-scale", "slice-gradient-scale-sgd"])
def test_the_slices_gradient_is_a_tenth(scripts: Any, run: str, remedy: str) -> None:
    model, _ = prepared(scripts, run, remedy)
    assert ("sgd" in remedy) == isinstance(next(scripts.first_layers(model))[1], torch.optim.SGD)
    for layer, _, columns in scripts.first_layers(model):
        layer.weight.sum().backward()
        is_own = torch.zeros(layer.weight.shape[1], dtype=torch.bool).index_fill(
            0, torch.tensor(columns), True
        )
        assert torch.equal(layer.weight.grad[0], torch.where(is_own, 0.1, 1.0))


@pytest.mark.parametrize("run", RUNS)
def test_the_slices_update_is_a_tenth(scripts: Any, run: str) -> None:
    model, _ = prepared(scripts, run, "slice-learning-rate")
    for layer, optimizer, columns in scripts.first_layers(model):
        before = layer.weight.detach().clone()
        layer.weight.grad = torch.ones_like(layer.weight)
        optimizer.step()
        moved = (before - layer.weight.detach())[0] / 1e-3
        assert moved[columns].mean().item() == pytest.approx(0.1, rel=1e-3)
        assert moved[0].item() == pytest.approx(1.0, rel=1e-3)


@pytest.mark.parametrize("run", RUNS)
def test_dead_units_are_found_and_begin_anew(scripts: Any, run: str) -> None:
    model, (recycling,) = prepared(scripts, run, "recycle-dead-units")
    recycling.every = recycling.next_at = 10
    layer, _, _ = next(scripts.first_layers(model))
    with torch.no_grad():
        layer.weight[3] = 0.0
        layer.bias[3] = -1.0
    model.learn(NUM_STEPS, callback=recycling)
    assert recycling.num_recycled >= 1
    assert layer.weight[3].abs().min() > 0


@pytest.mark.parametrize("run", RUNS)
def test_each_group_is_clipped_by_its_own_norm(scripts: Any, run: str) -> None:
    model, _ = prepared(scripts, run, "clip-by-group")
    layer, optimizer, _ = next(scripts.first_layers(model))
    for parameter in model.policy.parameters():
        parameter.grad = torch.zeros_like(parameter)
    layer.weight.grad = torch.ones_like(layer.weight)
    optimizer.step()
    assert layer.weight.grad.norm().item() == pytest.approx(10.0, rel=1e-4)
