"""The committed sample runs: recomputed gradients judge every layer as the recorded ones do."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from makers import sb3_ring

from gradscope.judge import layer_status
from gradscope.measure import zero_count
from gradscope.read import open_file
from gradscope.read.sb3_blobs import sb3_blobs
from gradscope.read.sb3_training import sb3_training
from gradscope.recompute import recompute_gradients
from gradscope.recompute.trusted.user_code import UserCode
from gradscope.records import Snapshot
from gradscope.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradscope.records import Layer, ZeroCount

SAMPLES = Path(__file__).parents[2] / "sample_checkpoints"
STEPS = (2000, 4000, 6000, 8000, 10000)
LIMITS = Settings().limits

torch.set_num_threads(1)


def recorded(run: str, step: int) -> Mapping[str, Layer]:
    found = open_file(SAMPLES / run / f"rl_model_gradscope_{step}_steps.safetensors")
    assert isinstance(found, Snapshot)
    return found.layers


def recomputed(run: str, step: int) -> Any:
    checkpoint = SAMPLES / run / f"rl_model_{step}_steps.zip"
    return recompute_gradients(
        sb3_training(checkpoint),
        sb3_ring(SAMPLES / run / f"rl_model_replay_buffer_{step}_steps.pkl"),
        None,
        batches=8,
        batch_size=128,
        seed=0,
        user_code=UserCode(blobs=sb3_blobs(checkpoint), folder=SAMPLES),
    )


def unexpected(counts: list[ZeroCount]) -> float:
    """Zeros without the expected ones, over all batches."""
    zeros = sum(each.num_zero - each.anatomy.expected for each in counts)
    return zeros / sum(each.num_elements for each in counts)


def counted(batches: Any, name: str, module: str | None) -> float:
    return unexpected([zero_count(each.gradients[name], name=name, module=module) for each in batches])


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("run", ["collapse", "healthy", "confounded"])
def test_every_layer_is_judged_as_its_recorded_gradient(run: str, step: int) -> None:
    found, layers = recomputed(run, step), recorded(run, step)
    assert set(found.layers) == set(layers)
    batches, fresh = list(found.batches()), list(found.fresh_batches())
    assert "trading_agent" not in sys.modules
    for name, layer in layers.items():
        assert layer.gradient is not None
        stored = unexpected([zero_count(layer.gradient, name=name, module=layer.module)])
        again = counted(batches, name, found.modules.get(name, layer.module))
        baseline = counted(fresh, name, found.modules.get(name, layer.module))
        by_recorder = layer_status(stored, layer.baseline_zero_fraction, LIMITS)
        assert layer_status(again, baseline, LIMITS) == by_recorder, (name, stored, again, baseline)
        assert found.modules.get(name, layer.module) == layer.module


def test_the_recorded_norm_lies_among_the_recomputed_ones() -> None:
    """DQN clips at 10: 16.8 before clipping at step 8,000, as the recorder saw it."""
    norms = [each.clipping.norm_before_clip for each in recomputed("collapse", 8000).batches()]
    assert min(norms) < 16.8 < max(norms)
