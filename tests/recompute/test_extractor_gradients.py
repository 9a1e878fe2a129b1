"""CnnPolicy, MultiInputPolicy and spaces of numbers against the library's own train(), to the last bit."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from gymnasium import spaces
from recompute.library import Case, Files, assert_equal, library_gradients, loaded, trained
from stable_baselines3.common.torch_layers import FlattenExtractor, NatureCNN
from stable_baselines3.common.utils import set_random_seed

if TYPE_CHECKING:
    from collections.abc import Callable

IMAGE = spaces.Box(0, 255, (3, 40, 36), np.uint8)
CHANNELS_LAST = spaces.Box(0, 255, (36, 40, 3), np.uint8)
SCALED = spaces.Box(-9, 9, (1, 36, 36), np.float32)
VECTOR = spaces.Box(-9, 9, (3,), np.float32)
MIXED = spaces.Dict(
    {
        "zero": VECTOR,
        "camera": spaces.Box(0, 255, (36, 36, 3), np.uint8),
        "gear": spaces.Discrete(4),
        "doors": spaces.MultiBinary([2, 2]),
        "wheels": spaces.MultiDiscrete([3, 5]),
    }
)
FLOATS = spaces.Dict({"b": VECTOR, "a": spaces.Box(-9, 9, (2, 2), np.float64), "gear": spaces.Discrete(3)})
WITH_IMAGE = spaces.Dict({"camera": IMAGE, "zero": VECTOR})
SCALED_DICT = spaces.Dict({"camera": SCALED, "b": VECTOR})

NATURE: dict[str, Any] = {"net_arch": [8], "features_extractor_kwargs": {"features_dim": 16}}
COMBINED: dict[str, Any] = {"net_arch": [8], "features_extractor_kwargs": {"cnn_output_dim": 12}}
SHARED = {"share_features_extractor": True}
MEMORY: dict[str, Any] = {
    "optimize_memory_usage": True,
    "replay_buffer_kwargs": {"handle_timeout_termination": False},
}
PENDING: dict[str, Any] = {"target_update_interval": 20, "tau": 0.3}


def cnn(algorithm: str, space: spaces.Space[Any] = IMAGE, **changes: Any) -> Case:
    settings = {"policy": "CnnPolicy", "space": space, "policy_kwargs": NATURE, "steps": 40}
    return Case(**{"algorithm": algorithm, **settings, **changes})


def multi(algorithm: str, space: spaces.Space[Any] = MIXED, **changes: Any) -> Case:
    return cnn(algorithm, space, **{"policy": "MultiInputPolicy", "policy_kwargs": COMBINED, **changes})


CASES = {
    "dqn-cnn": cnn("DQN", options=PENDING),
    "dqn-cnn-default": cnn("DQN", policy_kwargs={}),
    "dqn-cnn-memory": cnn("DQN", CHANNELS_LAST, options=MEMORY, num_environments=2, steps=80),
    "dqn-cnn-scaled": cnn("DQN", SCALED, policy_kwargs={**NATURE, "normalize_images": False}),
    "dqn-cnn-normalized": cnn(
        "DQN", normalize={"clip_obs": 2.0}, policy_kwargs={**NATURE, "normalize_images": False}
    ),
    "dqn-mlp-nature": cnn("DQN", policy="MlpPolicy", policy_kwargs={"features_extractor_class": NatureCNN}),
    "dqn-cnn-flat": cnn("DQN", policy_kwargs={"net_arch": [8], "features_extractor_class": FlattenExtractor}),
    "qrdqn-cnn": cnn("QRDQN", policy_kwargs={**NATURE, "n_quantiles": 5}, options=PENDING),
    "sac-cnn": cnn("SAC"),
    "sac-cnn-shared": cnn("SAC", CHANNELS_LAST, policy_kwargs={**NATURE, **SHARED}, num_environments=2),
    "sac-cnn-unscaled": cnn(
        "SAC", policy_kwargs={**NATURE, "normalize_images": False}, options={"ent_coef": 0.1}
    ),
    "td3-cnn": cnn("TD3", CHANNELS_LAST),
    "td3-cnn-shared": cnn("TD3", policy_kwargs={**NATURE, **SHARED}),
    "ddpg-cnn": cnn("DDPG"),
    "ddpg-cnn-shared": cnn("DDPG", policy_kwargs={**NATURE, **SHARED}),
    "tqc-cnn": cnn("TQC", policy_kwargs={**NATURE, "n_quantiles": 5}),
    "tqc-cnn-shared": cnn("TQC", policy_kwargs={**NATURE, **SHARED, "n_critics": 3}),
    "dqn-multi": multi("DQN", options=PENDING, num_environments=2, steps=80),
    "qrdqn-multi": multi("QRDQN"),
    "sac-multi": multi("SAC", num_environments=2),
    "sac-multi-shared": multi("SAC", policy_kwargs={**COMBINED, **SHARED}),
    "sac-multi-normalized": multi("SAC", FLOATS, normalize={"norm_obs_keys": ["b", "a"], "clip_obs": 1.0}),
    "sac-multi-one-key": multi("SAC", FLOATS, normalize={"norm_obs_keys": ["a"]}, num_environments=2),
    "sac-multi-scaled": multi("SAC", SCALED_DICT, policy_kwargs={**COMBINED, "normalize_images": False}),
    "sac-multi-other-key": multi("SAC", WITH_IMAGE, normalize={"norm_obs_keys": ["zero"]}),
    "sac-multi-image-key": multi(
        "SAC",
        WITH_IMAGE,
        normalize={"norm_obs_keys": ["camera"], "clip_obs": 2.0},
        policy_kwargs={**COMBINED, "normalize_images": False},
    ),
    "td3-multi": multi("TD3"),
    "td3-multi-shared": multi("TD3", policy_kwargs={**COMBINED, **SHARED}),
    "ddpg-multi": multi("DDPG", FLOATS),
    "tqc-multi": multi("TQC", FLOATS, num_environments=2),
    "tqc-multi-shared": multi("TQC", policy_kwargs={**COMBINED, **SHARED}),
    "dqn-discrete": Case(algorithm="DQN", space=spaces.Discrete(6), num_environments=2),
    "sac-discrete": Case(algorithm="SAC", space=spaces.Discrete(6), options={"n_steps": 3}),
    "sac-numbers": Case(algorithm="SAC", space=spaces.MultiDiscrete([3, 2, 4]), options=MEMORY),
    "td3-binary": Case(algorithm="TD3", space=spaces.MultiBinary([2, 3])),
    "sac-flat-images": Case(algorithm="SAC", space=IMAGE, num_environments=2),
    "dqn-flat-unscaled": Case(
        algorithm="DQN",
        space=IMAGE,
        policy_kwargs={"net_arch": [8], "normalize_images": False},
        options={"learning_rate": 1e-6},
    ),
    "td3-shared-nothing": Case(algorithm="TD3", policy_kwargs={"net_arch": [8], **SHARED}),
}
NUM_LAYERS = {
    "dqn-cnn-default": 8 + 2,
    "sac-cnn": (8 + 6) + (8 + 2 * 4) + 1,
    "sac-cnn-shared": (8 + 6) + 2 * 4 + 1,
    "td3-cnn": (8 + 4) + (8 + 2 * 4),
    "td3-cnn-shared": (8 + 4) + 2 * 4,
    "dqn-multi": 8 + 4,
}
"""Counted by hand: a shared extractor is the actor's."""


NUMBERS = [
    name for name, case in CASES.items() if isinstance(case.space, (spaces.Discrete, spaces.MultiDiscrete))
]
"""The same number twice in a row does not tell whether a run was normalised."""


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[Files]]:
    made: dict[str, list[Files]] = {}

    def of(name: str) -> list[Files]:
        if name not in made:
            made[name] = trained(CASES[name], tmp_path_factory.mktemp(name))
        return made[name]

    return of


def truth(case: Case, checkpoint: Files) -> Any:
    """The library's model as its next train() finds it, with the actor's turn."""
    model = loaded(case, checkpoint)
    if case.algorithm in {"DQN", "QRDQN"}:
        model._on_step()  # runs between the checkpoint callback and train()
    if case.algorithm == "TD3":
        model.policy_delay = 1
    return model


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", CASES)
def test_every_tensor_is_the_librarys(checkpoints: Callable[[str], list[Files]], name: str) -> None:
    for checkpoint in checkpoints(name):
        expected = library_gradients(truth(CASES[name], checkpoint))
        found = checkpoint.recomputed()
        (one,) = found.batches()
        assert_equal(one.gradients, expected)
        assert tuple(one.gradients) == found.layers
        assert len(found.layers) == NUM_LAYERS.get(name, len(found.layers))
        assert found.layer_reasons == {}
        assert "replay" not in found.reasons or name in NUMBERS
        assert all(gradient.any() for gradient in one.gradients.values())


@pytest.mark.parametrize("name", ["dqn-cnn-memory", "sac-multi-shared", "td3-cnn-shared"])
def test_later_batches_go_on_drawing_on_the_same_weights(
    checkpoints: Callable[[str], list[Files]], name: str
) -> None:
    checkpoint = checkpoints(name)[-1]
    found = checkpoint.recomputed(batches=3)
    models = [truth(CASES[name], checkpoint) for _ in range(3)]
    set_random_seed(5)  # loading a model seeds too
    for model, one in zip(models, found.batches(), strict=True):
        assert_equal(one.gradients, library_gradients(model, seed=None))


FRESH = [name for name in CASES if name.endswith(("-cnn", "-shared", "-multi"))]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", FRESH)
def test_the_baseline_is_a_fresh_model_on_the_same_batches(
    checkpoints: Callable[[str], list[Files]], name: str
) -> None:
    case, checkpoint = CASES[name], checkpoints(name)[-1]
    old = truth(case, checkpoint)
    options = {"buffer_size": 60, **case.options, **({"policy_delay": 1} if case.algorithm == "TD3" else {})}
    fresh = case.maker(case.policy, old.env, seed=5, policy_kwargs=deepcopy(case.policy_kwargs), **options)
    fresh.replay_buffer, fresh._logger = old.replay_buffer, old.logger
    first = next(checkpoint.recomputed().fresh_batches())
    assert_equal(first.gradients, library_gradients(fresh))
