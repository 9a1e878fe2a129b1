"""Tiny real on-policy trainings, and what the library's own train() shows of its gradients."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium import spaces
from recompute.library import World
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from gradscope.read import open_file
from gradscope.read.sb3_training import sb3_training
from gradscope.recompute.rollout_gradients import RecomputedRollout, recompute_rollout
from gradscope.record import GradscopeCallback
from gradscope.records import Rollout

if TYPE_CHECKING:
    from pathlib import Path

Gradients = dict[str, np.ndarray[Any, Any]]
BOX = spaces.Box(-2, 2, (2,), np.float32)
SAVE_AT = 40
"""In the middle of a rollout of 16 steps in two environments, 32 in one."""


class ActionWorld(World):
    """Any space of actions; the reward looks at the first number of each."""

    def __init__(self, *, action_space: spaces.Space[Any], **options: Any) -> None:
        super().__init__(discrete=False, **options)
        self.action_space = action_space

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return super().step(float(np.asarray(action).ravel()[0]))


@dataclass(frozen=True, kw_only=True)
class OnPolicyCase:
    """One training."""

    algorithm: str
    policy: str = "MlpPolicy"
    action_space: spaces.Space[Any] = field(default_factory=lambda: BOX)
    space: spaces.Space[Any] | None = None
    num_environments: int = 1
    normalize: dict[str, Any] | None = None
    options: dict[str, Any] = field(default_factory=dict)
    policy_kwargs: dict[str, Any] = field(default_factory=lambda: {"net_arch": [16, 8]})

    @property
    def maker(self) -> Any:
        library = "sb3_contrib" if self.algorithm == "RecurrentPPO" else "stable_baselines3"
        return getattr(import_module(library), self.algorithm)

    @property
    def num_steps(self) -> int:
        """Of a rollout in each environment: 32 rows altogether."""
        return 32 // self.num_environments

    def environment(self) -> Any:
        """The vector environment."""
        made = [lambda: ActionWorld(action_space=self.action_space, space=self.space)] * self.num_environments
        env = DummyVecEnv(made)
        env.seed(1)
        return env if self.normalize is None else VecNormalize(env, **self.normalize)


@dataclass(frozen=True, kw_only=True)
class OnPolicyFiles:
    """One checkpoint, its rollout file, and the live buffer of that rollout as the witness."""

    case: OnPolicyCase
    zip: Path
    rollout: Path
    buffer: Any
    progress: float

    def opened(self) -> Rollout:
        """The rollout as it is read."""
        record = open_file(self.rollout)
        assert isinstance(record, Rollout)
        return record

    def result(self, **options: Any) -> Any:
        """Gradients, or why there are none."""
        asked = {"batches": 1, "batch_size": 8, "seed": 5} | options
        return recompute_rollout(sb3_training(self.zip), self.opened(), **asked)

    def recomputed(self, **options: Any) -> RecomputedRollout:
        """Gradients."""
        found = self.result(**options)
        assert isinstance(found, RecomputedRollout), found
        return found

    def library_gradients(self, *, batches: int = 1, batch_size: int = 8, seed: int = 5) -> list[Gradients]:
        """What the library's own train() holds in ``p.grad`` at each optimizer step, on unmoving weights."""
        model = self.case.maker.load(self.zip, device="cpu")
        model.set_logger(Logger(None, []))
        model.rollout_buffer = copy.deepcopy(self.buffer)
        model._current_progress_remaining = self.progress
        if self.case.algorithm != "A2C":
            model.batch_size, model.n_epochs = batch_size, batches
        seen = watched(model)
        set_random_seed(seed)
        model.train()
        whole = 32 // batch_size
        # The smaller batch that ends an epoch is not drawn by us.
        per_epoch = -(-32 // batch_size)
        return [each for place, each in enumerate(seen) if place % per_epoch < whole][:batches]


def watched(model: Any) -> list[Gradients]:
    """Gradients at every later optimizer step; after each, weights and buffers are put back."""
    seen: list[Gradients] = []
    state = copy.deepcopy(model.policy.state_dict())

    def look(*_: Any) -> None:
        found = {name: each.grad for name, each in model.policy.named_parameters() if each.grad is not None}
        seen.append({name: each.detach().numpy().copy() for name, each in found.items()})

    def put_back(*_: Any) -> None:
        model.policy.load_state_dict(state)

    model.policy.optimizer.register_step_pre_hook(look)
    model.policy.optimizer.register_step_post_hook(put_back)
    return seen


class Witness(BaseCallback):
    """The buffer at the end of the rollout that holds SAVE_AT."""

    def __init__(self) -> None:
        super().__init__()
        self.buffer: Any = None
        self.progress = 1.0

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        if self.buffer is None and self.num_timesteps >= SAVE_AT:
            self.buffer = copy.deepcopy(self.model.rollout_buffer)
            self.progress = 1.0 - self.num_timesteps / self.model._total_timesteps


def trained_on_policy(case: OnPolicyCase, folder: Path) -> OnPolicyFiles:
    """One checkpoint of a real training with the recorder."""
    sizes = {} if case.algorithm == "A2C" else {"batch_size": 8, "n_epochs": 2}
    options = {"n_steps": case.num_steps, **sizes, **case.options}
    model = case.maker(
        case.policy,
        case.environment(),
        seed=2,
        device="cpu",
        policy_kwargs=copy.deepcopy(case.policy_kwargs),
        **options,
    )
    witness = Witness()
    recorder = GradscopeCallback(SAVE_AT // case.num_environments, str(folder), save_rollout=True)
    model.learn(2 * SAVE_AT, callback=CallbackList([recorder, witness]))
    return OnPolicyFiles(
        case=case,
        zip=folder / f"rl_model_{SAVE_AT}_steps.zip",
        rollout=folder / f"rl_model_gradscope_rollout_{SAVE_AT}_steps.safetensors",
        buffer=witness.buffer,
        progress=witness.progress,
    )
