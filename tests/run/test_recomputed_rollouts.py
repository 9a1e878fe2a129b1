"""On-policy runs: recomputed from a stored rollout, or a reason that says how to get one."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from conftest import train_sb3

from gradscope import Settings, scan, true_gradients
from gradscope.record import GradscopeCallback
from gradscope.records import Origin

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NO_TORCH = "import sys, gradscope; gradscope.scan(sys.argv[1]); assert 'torch' not in sys.modules"


@pytest.fixture(scope="module")
def rollouts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ppo")
    model = train_sb3("PPO", folder / "first")
    model.learn(128, callback=GradscopeCallback(64, str(folder / "second"), save_rollout=True))
    return folder / "second"


def test_a_stored_rollout_gives_true_gradients(rollouts: Path) -> None:
    auto = scan(rollouts).snapshots[-1]
    asked = scan(rollouts, settings=Settings(source="recomputed", batches=2)).snapshots[-1]
    assert (auto.origin, asked.origin) == (Origin.STORED, Origin.RECOMPUTED)
    assert (asked.num_batches, asked.batch_size, asked.seed) == (2, 16, 0)
    batches = list(true_gradients(rollouts / asked.source, settings=Settings(batches=2)))
    for layer in asked.layers:
        zeros = sum(int(np.count_nonzero(np.abs(each[layer.name]) <= 1e-8)) for each in batches)
        assert layer.num_zero == zeros


def test_of_a_normalised_rollout_no_activity_is_claimed(rollouts: Path) -> None:
    settings = Settings(source="recomputed", batches=1, slices={"position": ("2:3",)}, slices_from="option")
    without = scan(rollouts, settings=settings).snapshots[-1]
    (rollouts / "rl_model_vecnormalize_64_steps.pkl").write_bytes(
        (rollouts.parent / "first" / "rl_model_vecnormalize_64_steps.pkl").read_bytes()
    )
    normalised = scan(rollouts, settings=settings).snapshots[-1]
    assert normalised.position_activity is None
    assert normalised.reasons["position_activity"]
    assert without.origin is normalised.origin is Origin.RECOMPUTED


@pytest.mark.parametrize("algorithm", ["PPO", "A2C"])
def test_without_a_rollout_the_reason_says_how_to_get_one(
    sb3_files: Callable[[str], Path], algorithm: str
) -> None:
    snapshot = scan(sb3_files(algorithm)).snapshots[-1]
    assert snapshot.origin is Origin.NONE
    expected = f"{algorithm} saves no rollout; record it: GradscopeCallback(..., save_rollout=True)"
    assert snapshot.reasons["zero_fraction"] == expected
    assert any(layer.optimizer is not None for layer in snapshot.layers)
    subprocess.run([sys.executable, "-c", NO_TORCH, str(sb3_files(algorithm))], check=True)
