"""What cannot be recomputed is refused with its reason, never answered with a number."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from makers import sb3_ring
from recompute.library import Case, Files, refusal, trained
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.torch_layers import FlattenExtractor, NatureCNN

from gradscope.read.sb3_training import sb3_training
from gradscope.recompute import Recomputed, Refusal, recompute_gradients

if TYPE_CHECKING:
    from pathlib import Path

IMAGE = spaces.Box(0, 255, (3, 36, 36), np.uint8)


class Normed(FlattenExtractor):
    """A user's extractor."""

    def __init__(self, space: spaces.Space[Any]) -> None:
        super().__init__(space)
        self.norm = torch.nn.LayerNorm(self.features_dim)


class Tiny(NatureCNN):
    """A user's extractor that calls itself like the library's."""


class Odd(ReplayBuffer):
    """A user's buffer: it may draw in any way."""


REFUSED = {
    "PPO": (Case(algorithm="PPO", options={"n_steps": 20, "batch_size": 10}), "not for stable_baselines3"),
    "A2C": (Case(algorithm="A2C"), "ActorCriticPolicy"),
    "gSDE": (Case(algorithm="SAC", options={"use_sde": True}), "gSDE"),
    "CrossQ": (Case(algorithm="CrossQ"), "sb3_contrib.crossq"),
    "extractor": (
        Case(algorithm="TD3", policy_kwargs={"net_arch": [8], "features_extractor_class": Normed}),
        "features extractor",
    ),
    "image extractor": (
        Case(
            algorithm="DQN", policy="CnnPolicy", space=IMAGE, policy_kwargs={"features_extractor_class": Tiny}
        ),
        "code of your own: add --trust",
    ),
    "activation": (
        Case(algorithm="TD3", policy_kwargs={"net_arch": [8], "activation_fn": torch.nn.PReLU}),
        "PReLU",
    ),
    "buffer": (Case(algorithm="DQN", options={"replay_buffer_class": Odd}), "Odd"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_supported(tmp_path: Path, name: str) -> None:
    case, reason = REFUSED[name]
    checkpoint = trained(replace(case, steps=40), tmp_path)[0]
    if not checkpoint.ring.exists():
        other = Case(algorithm="SAC", steps=40)
        checkpoint = replace(checkpoint, ring=trained(other, tmp_path / "other")[0].ring)
    found = checkpoint.result()
    assert isinstance(found, Refusal)
    assert reason in found.reason


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return trained(Case(algorithm="SAC", steps=40), tmp_path_factory.mktemp("plain"))[0]


def test_batches_that_cannot_be_drawn(plain: Files) -> None:
    assert refusal(plain, size=40) == "a batch of 40 is larger than the buffer's 39 valid rows"
    assert isinstance(plain.result(batch_size=39), Recomputed)
    assert "no batches" in refusal(plain, size=0)
    assert "seed" in refusal(plain, seed=-1)
    assert "seed" in refusal(plain, seed=2**32)
    assert "larger" in refusal(plain, ring=replace(sb3_ring(plain.ring), position=0))


def test_weights_that_are_no_plain_network(plain: Files) -> None:
    weights = dict(sb3_training(plain.zip).weights)
    name = "critic.qf0.2.weight"

    def with_weights(**changed: Any) -> str:
        return refusal(plain, weights={**weights, **changed})

    assert "holds parameters that no plain policy has: actor.extra" in with_weights(
        **{"actor.extra": weights[name]}
    )
    assert name in with_weights(**{name: weights[name][:, :-1]})
    assert "critic.qf0." in with_weights(**{"critic.qf0.1.weight": weights[name]})
    assert "critic.qf0." in refusal(plain, weights={key: w for key, w in weights.items() if key != name})
    assert "float64" in with_weights(**{name: weights[name].astype(np.float64)})
    fewer = {key: w for key, w in weights.items() if not key.startswith("critic_target.qf1")}
    assert "differ" in refusal(plain, weights=fewer)
    assert "critic_target" in refusal(
        plain, weights={key: w for key, w in weights.items() if "target" not in key}
    )


@pytest.mark.parametrize("value", [None, True, float("nan"), 10**400, "0.9"])
def test_settings_that_are_no_numbers(plain: Files, value: Any) -> None:
    settings = {**sb3_training(plain.zip).settings, "gamma": value}
    assert refusal(plain, settings=settings) == "the checkpoint's settings hold no number gamma"


def test_policy_settings_that_are_not_known(plain: Files) -> None:
    assert "dropout" in refusal(plain, policy_settings={"dropout": 0.5})
    assert "cannot be read" in refusal(plain, policy_settings=None)
    assert "by value" in refusal(plain, policy_class=None)
    assert "entropy" in refusal(plain, variables={})
    assert "entropy" in refusal(plain, variables={"log_ent_coef": np.zeros(2, np.float32)})


def test_a_buffer_of_another_run(plain: Files, tmp_path: Path) -> None:
    other = trained(Case(algorithm="SAC", steps=40, num_environments=2), tmp_path / "several")[0]
    assert "2 environments, the checkpoint 1" in refusal(plain, ring=sb3_ring(other.ring))
    other = trained(Case(algorithm="DQN", steps=40), tmp_path / "discrete")[0]
    assert "another run" in refusal(plain, ring=sb3_ring(other.ring))
    ring = sb3_ring(plain.ring)
    for problem, space in {
        "float32 (4,), the checkpoint's float32 (2, 3)": spaces.Box(-1, 1, (4,), np.float32),
        "float64 (2, 3), the checkpoint's float32": spaces.Box(-1, 1, (2, 3), np.float64),
        "have the keys ['a'], not ['']": spaces.Dict({"a": spaces.Box(-1, 1, (2, 3), np.float32)}),
    }.items():
        policy = "MultiInputPolicy" if isinstance(space, spaces.Dict) else "MlpPolicy"
        case = Case(algorithm="SAC", policy=policy, steps=40, space=space)
        other = sb3_ring(trained(case, tmp_path / str(space.shape))[0].ring)
        assert problem in refusal(plain, ring=other)
        if problem.startswith("have"):
            continue
        assert problem in refusal(plain, ring=replace(ring, next_observations=other.observations))
    assert "next observations" in refusal(plain, ring=replace(ring, next_observations=None))


def test_choices_beyond_the_networks_outputs(tmp_path: Path) -> None:
    checkpoint = trained(Case(algorithm="DQN", steps=40), tmp_path)[0]
    ring = sb3_ring(checkpoint.ring)
    assert ring.actions is not None
    actions = ring.actions.copy()
    actions[3] = 7
    assert "not among the network's 3" in refusal(checkpoint, ring=replace(ring, actions=actions))


def test_an_optimizer_that_cannot_be_stepped_leaves_the_actor_out(tmp_path: Path) -> None:
    settings = {"net_arch": [8], "optimizer_class": torch.optim.RMSprop}
    checkpoint = trained(Case(algorithm="TD3", steps=40, policy_kwargs=settings), tmp_path)[0]
    found = checkpoint.recomputed()
    (one,) = found.batches()
    assert set(one.gradients) == set(found.layers)
    assert all(name.startswith("critic.") for name in found.layers)
    assert {name.partition(".")[0] for name in found.layer_reasons} == {"actor"}
    assert all("RMSprop" in reason for reason in found.layer_reasons.values())


HOSTILE: dict[str, Any] = {
    "betas": (1.0, 0.5),
    "lr": None,
    "eps": "1",
    "params": [1, 0],
    "amsgrad": True,
    "momentum": 0.9,
}


@pytest.mark.parametrize("change", HOSTILE)
def test_optimizer_settings_that_are_not_adams(plain: Files, change: str) -> None:
    training = sb3_training(plain.zip)
    saved = training.optimizers["critic"]
    group = {**saved.groups[0], change: HOSTILE[change]}
    states = {place: {**state, "step": np.float32(-1)} for place, state in saved.state.items()}
    for damaged in (replace(saved, groups=(group,)), replace(saved, state=states), replace(saved, groups=())):
        changed = replace(training, optimizers={**training.optimizers, "critic": damaged}, learning_rate=None)
        found = recompute_gradients(changed, sb3_ring(plain.ring), None, batches=1, batch_size=8, seed=0)
        assert isinstance(found, Recomputed)
        assert all("critic" in reason for reason in found.layer_reasons.values())
        assert len(found.layer_reasons) == 8
        (one,) = found.batches()
        assert not any(name.startswith("actor.") for name in one.gradients)


@pytest.mark.parametrize("num_environments", [1, 4])
@pytest.mark.parametrize("options", [{}, {"norm_obs": False}, {"norm_reward": False}])
@pytest.mark.parametrize("algorithm", ["SAC", "DQN"])
def test_a_normalised_run_without_its_statistics(
    tmp_path: Path, num_environments: int, options: dict[str, Any], algorithm: str
) -> None:
    case = Case(algorithm=algorithm, steps=40, normalize=options, num_environments=num_environments)
    checkpoint = trained(case, tmp_path)[0]
    assert isinstance(checkpoint.result(), Recomputed)
    found = replace(checkpoint, normalizer=None).result()
    assert isinstance(found, Refusal)
    assert "VecNormalize" in found.reason


def test_a_buffer_of_another_step_is_told(tmp_path: Path) -> None:
    first, second = trained(Case(algorithm="SAC", steps=80), tmp_path)
    assert first.recomputed().reasons == second.recomputed().reasons == {}
    found = replace(first, ring=second.ring).recomputed()
    assert found.reasons == {
        "replay": "the buffer's newest rows are not the checkpoint's: it is of another step or another run"
    }


def test_hindsight_replay_is_refused(plain: Files) -> None:
    name = f"{HerReplayBuffer.__module__}.{HerReplayBuffer.__name__}"
    assert "HerReplayBuffer" in refusal(plain, ring=replace(sb3_ring(plain.ring), buffer_class=name))
