"""Tiny real trainings, and what the library's own train() shows of its gradients."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from makers import sb3_ring
from stable_baselines3.common.callbacks import CheckpointCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from gradscope.read import open_file
from gradscope.read.sb3_training import sb3_training
from gradscope.recompute import Recomputed, Refusal, recompute_gradients
from gradscope.records import Normalizer

if TYPE_CHECKING:
    from pathlib import Path

torch.set_num_threads(1)

Gradients = dict[str, np.ndarray[Any, Any]]
SAVE_EVERY = 40


class World(gym.Env[Any, Any]):
    """Noise with a reward that depends on it and on the action; a time limit, and real ends."""

    metadata: ClassVar[dict[str, Any]] = {}

    def __init__(self, *, discrete: bool, space: spaces.Space[Any] | None = None, limit: int = 9) -> None:
        self.observation_space = space or spaces.Box(-np.inf, np.inf, (2, 3), np.float32)
        self.action_space = spaces.Discrete(3) if discrete else spaces.Box(-2, 2, (2,), np.float32)
        self.time, self.limit = 0, limit

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self.time = 0
        return self._observation(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.time += 1
        seen = self._observation()
        size = 0.0 if isinstance(seen, dict) else float(np.mean(seen) * 6)
        reward = 3 * size - float(np.sum(action))
        return seen, reward, bool(self.np_random.random() < 0.05), self.time >= self.limit, {}

    def _observation(self) -> Any:
        if isinstance(self.observation_space, spaces.Box) and self.observation_space.dtype != np.uint8:
            found = self.np_random.normal(1, 3, self.observation_space.shape)
            return found.astype(self.observation_space.dtype)
        self.observation_space.seed(int(self.np_random.integers(1 << 30)))
        return self.observation_space.sample()


@dataclass(frozen=True, kw_only=True)
class Case:
    """One training."""

    algorithm: str
    policy: str = "MlpPolicy"
    num_environments: int = 1
    normalize: dict[str, Any] | None = None
    space: spaces.Space[Any] | None = None
    options: dict[str, Any] = field(default_factory=dict)
    policy_kwargs: dict[str, Any] = field(default_factory=lambda: {"net_arch": [16, 8]})
    steps: int = 2 * SAVE_EVERY

    @property
    def maker(self) -> Any:
        library = "sb3_contrib" if self.algorithm in {"TQC", "QRDQN", "CrossQ"} else "stable_baselines3"
        return getattr(import_module(library), self.algorithm)


@dataclass(frozen=True, kw_only=True)
class Files:
    """What one checkpoint consists of."""

    zip: Path
    ring: Path
    normalizer: Path | None

    def recomputed(self, *, batches: int = 1, batch_size: int = 16, seed: int = 5) -> Recomputed:
        found = self.result(batches=batches, batch_size=batch_size, seed=seed)
        assert isinstance(found, Recomputed), found
        return found

    def result(self, *, batches: int = 1, batch_size: int = 16, seed: int = 5) -> Any:
        normalizer = open_file(self.normalizer) if self.normalizer else None
        assert normalizer is None or isinstance(normalizer, Normalizer)
        return recompute_gradients(
            sb3_training(self.zip),
            sb3_ring(self.ring),
            normalizer,
            batches=batches,
            batch_size=batch_size,
            seed=seed,
        )


def refusal(checkpoint: Files, *, ring: Any = None, size: int = 16, seed: int = 0, **changes: Any) -> str:
    """The reason, after changes of what the checkpoint holds."""
    training = replace(sb3_training(checkpoint.zip), **changes)
    found = recompute_gradients(
        training, ring or sb3_ring(checkpoint.ring), None, batches=1, batch_size=size, seed=seed
    )
    assert isinstance(found, Refusal)
    return found.reason


def world(case: Case) -> Any:
    """The vector environment of a case."""
    env = DummyVecEnv(
        [lambda: World(discrete=case.algorithm in {"DQN", "QRDQN"}, space=case.space)] * case.num_environments
    )
    env.seed(1)
    return env if case.normalize is None else VecNormalize(env, **case.normalize)


def trained(case: Case, folder: Path) -> list[Files]:
    """Checkpoints of a real training, by SB3's own callback."""
    off_policy = {"buffer_size": 60, "learning_starts": 12, "batch_size": 8}
    options = {} if case.algorithm in {"PPO", "A2C"} else off_policy
    model = case.maker(
        case.policy,
        world(case),
        seed=2,
        device="cpu",
        policy_kwargs=deepcopy(case.policy_kwargs),  # the library adds to it
        **options | case.options,
    )
    callback = CheckpointCallback(
        SAVE_EVERY // case.num_environments, str(folder), save_replay_buffer=True, save_vecnormalize=True
    )
    model.learn(case.steps, callback=callback)
    return [files(folder, step) for step in range(SAVE_EVERY, case.steps + 1, SAVE_EVERY)]


def files(folder: Path, step: int) -> Files:
    """By the names of SB3's callback."""
    normalizer = folder / f"rl_model_vecnormalize_{step}_steps.pkl"
    return Files(
        zip=folder / f"rl_model_{step}_steps.zip",
        ring=folder / f"rl_model_replay_buffer_{step}_steps.pkl",
        normalizer=normalizer if normalizer.exists() else None,
    )


def loaded(case: Case, checkpoint: Files) -> Any:
    """The library's own model and buffer."""
    env = world(Case(**{**vars(case), "normalize": None}))
    if checkpoint.normalizer:
        env = VecNormalize.load(str(checkpoint.normalizer), env)
    model = case.maker.load(checkpoint.zip, env=env, device="cpu")
    model.load_replay_buffer(checkpoint.ring)
    model.set_logger(Logger(None, []))
    return model


def library_gradients(model: Any, *, batch_size: int = 16, seed: int | None = 5) -> Gradients:
    """What every optimizer holds in ``p.grad`` inside its own step, in one train() after seeding."""
    named = dict(model.policy.named_parameters())
    if getattr(model, "log_ent_coef", None) is not None:
        named["log_ent_coef"] = model.log_ent_coef
    names = {id(parameter): name for name, parameter in named.items()}
    seen: Gradients = {}

    def look(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        for parameter in (each for group in optimizer.param_groups for each in group["params"]):
            if parameter.grad is not None:
                seen[names[id(parameter)]] = parameter.grad.detach().numpy().copy()

    hooks = [optimizer.register_step_pre_hook(look) for optimizer in optimizers(model)]
    if seed is not None:
        set_random_seed(seed)
    model.train(gradient_steps=1, batch_size=batch_size)
    for hook in hooks:
        hook.remove()
    return seen


def optimizers(model: Any) -> list[torch.optim.Optimizer]:
    """Written down by hand from SB3's train() methods."""
    if not hasattr(model.policy, "critic"):
        return [model.policy.optimizer]
    entropy = getattr(model, "ent_coef_optimizer", None)
    return [model.critic.optimizer, model.actor.optimizer, *([entropy] if entropy is not None else [])]


def assert_equal(found: Any, expected: Gradients) -> None:
    """Same layers, same bits."""
    assert set(found) == set(expected)
    for name, gradient in expected.items():
        assert found[name].dtype == gradient.dtype
        assert found[name].shape == gradient.shape
        assert found[name].tobytes() == gradient.tobytes(), (name, np.abs(found[name] - gradient).max())
