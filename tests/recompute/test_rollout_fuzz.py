"""Settings that somebody else wrote: whatever they are, there are gradients or a reason."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recompute.rollout_library import OnPolicyCase, trained_on_policy

from gradscope.read.sb3_training import sb3_training
from gradscope.recompute import Refusal, recompute_rollout

if TYPE_CHECKING:
    from recompute.rollout_library import OnPolicyFiles

CASES = {
    "PPO": OnPolicyCase(algorithm="PPO", action_space=spaces.MultiDiscrete([2, 3])),
    "A2C": OnPolicyCase(algorithm="A2C"),
    "RecurrentPPO": OnPolicyCase(
        algorithm="RecurrentPPO",
        policy="MlpLstmPolicy",
        policy_kwargs={"net_arch": [4], "lstm_hidden_size": 3},
    ),
}
PLAIN = st.none() | st.booleans() | st.integers(-(10**300), 10**300) | st.floats(-1e300, 1e300)
TEXTS = st.sampled_from(["inf", "nan", "Box", "Discrete", "MultiDiscrete", "MultiBinary", "x" * 300])
VALUES = st.recursive(
    PLAIN | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["kind", "sizes", "shape", "dropout"]), inner, max_size=3)
    ),
    max_leaves=5,
)
KEYS = ("ent_coef clip_range clip_range_vf max_grad_norm vf_coef batch_size normalize_advantage "
        "action_space lstm log_std_init ortho_init use_sde").split()  # fmt: skip


@pytest.fixture(scope="module", params=CASES)
def files(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> OnPolicyFiles:
    return trained_on_policy(CASES[request.param], tmp_path_factory.mktemp("run"))


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.dictionaries(st.sampled_from(KEYS), VALUES, min_size=1, max_size=2))
def test_settings_of_any_kind(files: OnPolicyFiles, changes: dict[str, Any]) -> None:
    rollout = files.opened()
    lying = replace(rollout, settings={**rollout.settings, **changes})
    found = recompute_rollout(sb3_training(files.zip), lying, batches=1, batch_size=None, seed=0)
    if isinstance(found, Refusal):
        assert "\n" not in found.reason
        assert len(found.reason) < 400
    else:
        assert (len(list(found.batches())), len(list(found.fresh_batches()))) == (1, 8)


@pytest.mark.parametrize("kind", ["float16", "uint16", "uint64", "bool", "complex64"])
def test_actions_of_another_type(files: OnPolicyFiles, kind: str) -> None:
    rollout = files.opened()
    lying = replace(rollout, actions=np.abs(rollout.actions).astype(kind))
    found = recompute_rollout(sb3_training(files.zip), lying, batches=1, batch_size=None, seed=0)
    assert isinstance(found, Refusal)
    assert "do not fit a space" in found.reason
