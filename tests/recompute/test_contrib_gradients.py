"""QR-DQN and TQC against sb3-contrib's own train(), to the last bit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from recompute.library import Case, assert_equal, library_gradients, loaded, trained

if TYPE_CHECKING:
    from pathlib import Path

NORMALIZED: dict[str, Any] = {"clip_obs": 2.0}
SMALL: dict[str, Any] = {"net_arch": [16, 8], "n_quantiles": 7}
CASES = {
    "qrdqn": Case(algorithm="QRDQN"),
    "qrdqn-clips": Case(
        algorithm="QRDQN",
        num_environments=2,
        normalize=NORMALIZED,
        policy_kwargs=SMALL,
        options={"max_grad_norm": 0.1, "target_update_interval": 20, "tau": 0.4},
    ),
    "tqc": Case(algorithm="TQC"),
    "tqc-fixed": Case(
        algorithm="TQC",
        num_environments=2,
        normalize=NORMALIZED,
        policy_kwargs={**SMALL, "n_critics": 3},
        options={"ent_coef": 0.1, "top_quantiles_to_drop_per_net": 3},
    ),
}
NUM_LAYERS = {"qrdqn": 6, "qrdqn-clips": 6, "tqc": 21, "tqc-fixed": 26}


@pytest.mark.parametrize("name", CASES)
def test_every_tensor_is_the_librarys(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    for checkpoint in trained(case, tmp_path):
        model = loaded(case, checkpoint)
        if case.algorithm == "QRDQN":
            model._on_step()  # runs between the checkpoint callback and train()
        found = checkpoint.recomputed()
        (one,) = found.batches()
        assert_equal(one.gradients, library_gradients(model))
        assert len(found.layers) == NUM_LAYERS[name]
        assert ("target_network" in found.reasons) == (name == "qrdqn-clips")
        if name == "qrdqn-clips":
            assert one.clipping.clip_coefficient is not None
            assert one.clipping.clip_coefficient < 1


@pytest.mark.parametrize("name", ["qrdqn-clips", "tqc", "tqc-fixed"])
def test_the_baseline_is_a_fresh_model_on_the_same_batches(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    checkpoint = trained(case, tmp_path)[-1]
    old = loaded(case, checkpoint)
    options = {"buffer_size": 60, "batch_size": 8, **case.options}
    fresh = case.maker("MlpPolicy", old.env, seed=5, policy_kwargs=dict(case.policy_kwargs), **options)
    fresh.replay_buffer, fresh._logger = old.replay_buffer, old.logger
    first = next(checkpoint.recomputed().fresh_batches())
    assert_equal(first.gradients, library_gradients(fresh))
    assert all(np.isfinite(gradient).all() for gradient in first.gradients.values())
