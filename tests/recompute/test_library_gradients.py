"""Recomputed gradients against the library's own train() on the same seeded batch, to the last bit."""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from recompute.library import Case, Files, assert_equal, files, library_gradients, loaded, trained, world
from stable_baselines3.common.callbacks import CheckpointCallback
from stable_baselines3.common.utils import LinearSchedule, set_random_seed

from gradscope.measure import zero_count

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NORMALIZED: dict[str, Any] = {"clip_obs": 2.0, "clip_reward": 1.5}
SHARED: dict[str, Any] = {
    "optimize_memory_usage": True,
    "replay_buffer_kwargs": {"handle_timeout_termination": False},
}
CASES = {
    "dqn": Case(algorithm="DQN"),
    "dqn-pending-target": Case(algorithm="DQN", options={"target_update_interval": 20, "tau": 0.3}),
    "dqn-no-pending-target": Case(algorithm="DQN", options={"target_update_interval": 7, "tau": 0.3}),
    "dqn-clips": Case(algorithm="DQN", options={"max_grad_norm": 0.05}),
    "dqn-normalized": Case(algorithm="DQN", normalize=NORMALIZED),
    "dqn-several": Case(
        algorithm="DQN",
        num_environments=4,
        normalize=NORMALIZED,
        options={"target_update_interval": 20, "tau": 0.3},
    ),
    "dqn-shared": Case(algorithm="DQN", options=SHARED),
    "dqn-linear": Case(algorithm="DQN", policy_kwargs={"net_arch": []}),
    "dqn-tanh": Case(algorithm="DQN", policy_kwargs={"net_arch": [8], "activation_fn": torch.nn.Tanh}),
    "dqn-double": Case(algorithm="DQN", space=spaces.Box(-9, 9, (5,), np.float64)),
    "sac": Case(algorithm="SAC"),
    "sac-fixed": Case(algorithm="SAC", options={"ent_coef": 0.2}),
    "sac-start": Case(algorithm="SAC", options={"ent_coef": "auto_0.3", "gamma": 0.9}),
    "sac-normalized": Case(algorithm="SAC", normalize=NORMALIZED),
    "sac-several": Case(algorithm="SAC", num_environments=4, normalize={"norm_obs": False}),
    "sac-shared": Case(algorithm="SAC", num_environments=2, options=SHARED, normalize={"norm_reward": False}),
    "sac-schedule": Case(algorithm="SAC", options={"learning_rate": LinearSchedule(0.01, 0.001, 0.9)}),
    "sac-activation": Case(
        algorithm="SAC",
        policy_kwargs={"net_arch": {"pi": [8], "qf": [9, 7]}, "activation_fn": torch.nn.ELU, "n_critics": 3},
    ),
    "sac-adamw": Case(
        algorithm="SAC",
        policy_kwargs={
            "net_arch": [8],
            "optimizer_class": torch.optim.AdamW,
            "optimizer_kwargs": {"eps": 1e-5},
        },
    ),
    "sac-many-steps": Case(
        algorithm="SAC", options={"n_steps": 3, "gamma": 0.9}, normalize=NORMALIZED, num_environments=2
    ),
    "dqn-many-steps": Case(algorithm="DQN", options={"n_steps": 5}),
    "sac-decay": Case(
        algorithm="SAC", policy_kwargs={"net_arch": [8], "optimizer_kwargs": {"weight_decay": 0.1}}
    ),
    "td3": Case(algorithm="TD3"),
    "td3-normalized": Case(algorithm="TD3", normalize=NORMALIZED, num_environments=4),
    "td3-shared": Case(algorithm="TD3", options=SHARED),
    "td3-noise": Case(
        algorithm="TD3",
        options={"target_policy_noise": 0.9, "target_noise_clip": 0.3, "policy_delay": 3},
    ),
    "ddpg": Case(algorithm="DDPG"),
    "ddpg-normalized": Case(algorithm="DDPG", normalize=NORMALIZED),
}
NUM_LAYERS = {"DQN": 6, "SAC": 21, "TD3": 18, "DDPG": 12}


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
    if case.algorithm == "DQN":
        model._on_step()  # runs between the checkpoint callback and train()
    if case.algorithm == "TD3":
        model.policy_delay = 1
    return model


@pytest.mark.filterwarnings("ignore:.*n_steps:UserWarning")
@pytest.mark.parametrize("name", CASES)
def test_every_tensor_is_the_librarys(checkpoints: Callable[[str], list[Files]], name: str) -> None:
    case = CASES[name]
    for checkpoint in checkpoints(name):
        expected = library_gradients(truth(case, checkpoint))
        found = checkpoint.recomputed()
        (one,) = found.batches()
        assert_equal(one.gradients, expected)
        assert tuple(one.gradients) == found.layers
        assert found.layer_reasons == {}
        assert one.observations[""].shape == (16, *(case.space or spaces.Box(0, 1, (2, 3))).shape)  # type: ignore[misc]


@pytest.mark.parametrize("name", ["dqn", "sac", "td3", "ddpg"])
def test_plain_policies_have_all_their_layers(checkpoints: Callable[[str], list[Files]], name: str) -> None:
    assert len(checkpoints(name)[0].recomputed().layers) == NUM_LAYERS[CASES[name].algorithm]


@pytest.mark.parametrize("name", ["dqn-several", "sac-normalized", "sac-shared", "td3-noise"])
def test_later_batches_go_on_drawing_on_the_same_weights(
    checkpoints: Callable[[str], list[Files]], name: str
) -> None:
    case, checkpoint = CASES[name], checkpoints(name)[-1]
    found = checkpoint.recomputed(batches=3)
    for _ in range(2):
        models = [truth(case, checkpoint) for _ in range(3)]
        set_random_seed(5)  # loading a model seeds too
        for model, one in zip(models, found.batches(), strict=True):
            assert_equal(one.gradients, library_gradients(model, seed=None))


@pytest.mark.parametrize("name", ["dqn-several", "sac", "sac-fixed", "sac-start", "td3", "ddpg"])
def test_the_baseline_is_a_fresh_model_on_the_same_batches(
    checkpoints: Callable[[str], list[Files]], name: str
) -> None:
    case, checkpoint = CASES[name], checkpoints(name)[-1]
    old = truth(case, checkpoint)
    options = {"buffer_size": 60, **case.options, "policy_delay": 1}
    if case.algorithm != "TD3":
        del options["policy_delay"]
    fresh = case.maker("MlpPolicy", old.env, seed=5, policy_kwargs=dict(case.policy_kwargs), **options)
    fresh.replay_buffer, fresh._logger = old.replay_buffer, old.logger
    found = checkpoint.recomputed(batches=2)
    first, *_ = found.fresh_batches()
    assert_equal(first.gradients, library_gradients(fresh))
    (again, *_), (own, _) = found.fresh_batches(), found.batches()
    assert_equal(again.gradients, dict(first.gradients))
    assert any((first.gradients[layer] != own.gradients[layer]).any() for layer in found.layers)


@pytest.mark.parametrize(("name", "limit"), [("dqn-clips", 0.05), ("dqn", 10.0)])
def test_clipping_is_told(
    checkpoints: Callable[[str], list[Files]], monkeypatch: pytest.MonkeyPatch, name: str, limit: float
) -> None:
    checkpoint = checkpoints(name)[0]
    (one,) = checkpoint.recomputed().batches()
    norms: list[float] = []
    clip = torch.nn.utils.clip_grad_norm_
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *args: norms.append(float(clip(*args))))
    library_gradients(truth(CASES[name], checkpoint))
    assert [one.clipping.norm_before_clip] == norms
    assert one.clipping.clip_coefficient == pytest.approx(min(1, limit / norms[0]), rel=1e-4)
    assert one.clipping.reasons == {}


def test_algorithms_that_never_clip_say_so(checkpoints: Callable[[str], list[Files]]) -> None:
    (one,) = checkpoints("sac")[0].recomputed().batches()
    norm = np.sqrt(sum(np.square(each, dtype=np.float64).sum() for each in one.gradients.values()))
    assert one.clipping.norm_before_clip == pytest.approx(norm, rel=1e-12)
    assert one.clipping.clip_coefficient is None
    assert one.clipping.reasons == {"clip_coefficient": "SAC does not clip"}


def test_what_the_library_would_do_otherwise_is_told(checkpoints: Callable[[str], list[Files]]) -> None:
    for name, key in (("td3", "policy_delay"), ("td3-noise", "policy_delay")):
        for checkpoint in checkpoints(name):
            model = loaded(CASES[name], checkpoint)
            skips = not any(layer.startswith("actor.") for layer in library_gradients(model))
            assert (key in checkpoint.recomputed().reasons) == skips
    assert "target_network" in checkpoints("dqn-pending-target")[0].recomputed().reasons
    assert "target_network" not in checkpoints("dqn-no-pending-target")[0].recomputed().reasons
    assert checkpoints("ddpg")[0].recomputed().reasons == {}


def test_global_random_states_and_threads_are_left_alone(checkpoints: Callable[[str], list[Files]]) -> None:
    found = checkpoints("sac")[0].recomputed(batches=2)
    before = np.random.get_state()[1].tobytes(), torch.get_rng_state(), random.getstate()  # noqa: NPY002
    with torch.no_grad():
        assert len([*found.batches(), *found.fresh_batches()]) == 2 + 8
        assert not torch.is_grad_enabled()
    assert np.random.get_state()[1].tobytes() == before[0]  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[1])
    assert random.getstate() == before[2]
    assert torch.get_num_threads() == 1


def test_a_checkpoint_saved_after_learning_has_no_pending_target(tmp_path: Path) -> None:
    case = CASES["dqn-pending-target"]
    trained(case, tmp_path)
    env = world(case)
    model = case.maker.load(tmp_path / "rl_model_40_steps.zip", env=env, device="cpu")
    model.learn(40, reset_num_timesteps=False)
    model.save(tmp_path / "rl_model_80_steps.zip")
    model.save_replay_buffer(tmp_path / "rl_model_replay_buffer_80_steps.pkl")
    checkpoint = files(tmp_path, 80)
    (one,) = checkpoint.recomputed().batches()
    assert_equal(one.gradients, library_gradients(loaded(case, checkpoint)))
    assert checkpoint.recomputed().reasons == {}


def test_a_resumed_run_counts_its_calls_otherwise(tmp_path: Path) -> None:
    case = CASES["dqn-pending-target"]
    first = trained(case, tmp_path)[0]
    for step, problem in ((21, None), (1, "it cannot be told")):
        model = case.maker.load(first.zip, env=world(case), device="cpu")
        model.load_replay_buffer(first.ring)
        model.learn(step + 1, callback=CheckpointCallback(step, str(tmp_path), save_replay_buffer=True))
        checkpoint = files(tmp_path, step)
        if problem is not None:
            assert checkpoint.result().reason.startswith(problem)
            continue
        (one,) = checkpoint.recomputed().batches()
        assert_equal(one.gradients, library_gradients(truth(case, checkpoint)))
        assert "target_network" in checkpoint.recomputed().reasons


def test_a_schedule_that_is_a_function_is_not_run(tmp_path: Path) -> None:
    case = Case(algorithm="SAC", options={"learning_rate": lambda left: 0.01 * left})
    checkpoint = trained(case, tmp_path)[0]
    found = checkpoint.recomputed()
    assert "is not run" in found.reasons["learning_rate"]
    (one,) = found.batches()
    expected = library_gradients(loaded(case, checkpoint))
    assert_equal(
        {name: each for name, each in one.gradients.items() if not name.startswith("actor.")},
        {name: each for name, each in expected.items() if not name.startswith("actor.")},
    )
    for name in (name for name in expected if name.startswith("actor.")):
        assert ((one.gradients[name] == 0) == (expected[name] == 0)).all()
        np.testing.assert_allclose(one.gradients[name], expected[name], rtol=1e-3, atol=1e-5)


def test_counts_over_batches_are_sums(checkpoints: Callable[[str], list[Files]]) -> None:
    case, checkpoint = CASES["sac"], checkpoints("sac")[-1]
    models = [truth(case, checkpoint) for _ in range(4)]
    set_random_seed(5)
    expected: Counter[str] = Counter()
    for model in models:
        for name, gradient in library_gradients(model, seed=None).items():
            expected[name] += int((np.abs(gradient) <= 1e-8).sum())
    found: Counter[str] = Counter()
    for one in checkpoint.recomputed(batches=4).batches():
        for name, gradient in one.gradients.items():
            found[name] += zero_count(gradient, name=name).num_zero
    assert found == expected
    assert sum(found.values()) > 0
