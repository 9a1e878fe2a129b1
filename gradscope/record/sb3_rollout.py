"""The rollout that a checkpoint's first update trains on, written before the library cuts it into batches.

A checkpoint at step N lies inside a rollout and the weights do not change until its end: what the buffer
holds at that end is what the first update on the saved weights sees.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch

from gradscope.record.sb3_rollout_settings import dotted, rollout_settings
from gradscope.record.snapshot_file import write_snapshot
from gradscope.records import ROLLOUT_SCHEMA
from gradscope.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

ALGORITHMS: Final[Mapping[str, str]] = {
    "stable_baselines3.ppo.ppo.PPO": "PPO",
    "stable_baselines3.a2c.a2c.A2C": "A2C",
    "sb3_contrib.ppo_recurrent.ppo_recurrent.RecurrentPPO": "RecurrentPPO",
}
"""By the class whose train() a model runs."""
_BUFFERS: Final = frozenset(
    {
        "stable_baselines3.common.buffers.RolloutBuffer",
        "stable_baselines3.common.buffers.DictRolloutBuffer",
        "sb3_contrib.common.recurrent.buffers.RecurrentRolloutBuffer",
        "sb3_contrib.common.recurrent.buffers.RecurrentDictRolloutBuffer",
    }
)
NOT_TOLD: Final = (
    "save_rollout=True: nobody tells this callback when a rollout ends, so none is stored. "
    "Give it to learn() itself, not to EveryNTimesteps."
)
_LSTM_ARRAYS: Final = ("hidden_states_pi", "cell_states_pi", "hidden_states_vf", "cell_states_vf")
_ARRAYS: Final = ("actions", "values", "log_probs", "advantages", "returns", "episode_starts")


class RolloutKeeper:
    """Writes one file for each checkpoint at the end of the rollout it was saved in."""

    def __init__(self, model: OnPolicyAlgorithm) -> None:
        self._model = model
        self._waiting: list[WaitingRollout] = []
        self._has_begun = False

    def begin(self) -> None:
        """A rollout begins: checkpoints of one that never ended get no file."""
        self._waiting = []
        self._has_begun = True

    def after_save(self, path: Path) -> None:
        """A checkpoint was saved; its rollout goes to ``path``."""
        if not self._has_begun:
            warnings.warn(NOT_TOLD, stacklevel=2)
            self._has_begun = True
        self._waiting.append(WaitingRollout(path=path, step=self._model.num_timesteps))

    def end(self) -> None:
        """The rollout is complete and its advantages are known."""
        for waiting in self._waiting:
            write_rollout(self._model, waiting)
        self._waiting = []


def rollout_keeper(model: OnPolicyAlgorithm) -> RolloutKeeper | None:
    """A keeper for this model; None, with a warning that says why, where its rollouts are of no use."""
    problem = rollout_problem(model)
    if problem is None:
        return RolloutKeeper(model)
    warnings.warn(f"save_rollout=True: {problem}.", stacklevel=2)
    return None


@dataclass(frozen=True, kw_only=True)
class WaitingRollout:
    """One checkpoint that waits for the end of its rollout."""

    path: Path
    step: int


def algorithm_of(model: OnPolicyAlgorithm) -> str | None:
    """Name of the library's algorithm whose train() the model runs; None where it is another one."""
    owner = next(each for each in type(model).__mro__ if "train" in vars(each))
    return ALGORITHMS.get(dotted(owner))


def rollout_problem(model: OnPolicyAlgorithm) -> str | None:
    """Why a rollout of this model would be of no use, one line; None where it can be stored."""
    name = type(model).__name__
    if algorithm_of(model) is None:
        return f"{name} trains in a way of its own; rollouts of PPO, A2C and RecurrentPPO are stored"
    if model.use_sde:
        return "use_sde=True draws its noise from the policy's features; such a rollout is not stored"
    buffer = dotted(type(model.rollout_buffer))
    if buffer not in _BUFFERS:
        return f"{buffer} may draw batches in a way of its own; only the library's own buffers are stored"
    return None


def write_rollout(model: OnPolicyAlgorithm, waiting: WaitingRollout) -> None:
    """Write the model's full rollout buffer, whole or not at all; nothing in the model is changed.

    Arrays keep the buffer's layout [steps, environments, ...]; LSTM states are
    [steps, layers, environments, units].
    """
    tensors = rollout_tensors(model)
    metadata = {
        "schema": ROLLOUT_SCHEMA,
        "gradscope": __version__,
        "algorithm": algorithm_of(model),
        "step": waiting.step,
        "rollout_end": model.num_timesteps,
        "observations": "as the rollout buffer holds them (normalised, not yet preprocessed)",
        "settings": rollout_settings(model),
    }
    write_snapshot(waiting.path, tensors=tensors, metadata=metadata)


def rollout_tensors(model: OnPolicyAlgorithm) -> Mapping[str, torch.Tensor]:
    """The buffer's arrays by name, not copied."""
    buffer = model.rollout_buffer
    seen = buffer.observations
    found = (
        {f"observations.{key}": seen[key] for key in seen}
        if isinstance(seen, dict)
        else {"observations": seen}
    )
    found |= {name: getattr(buffer, name) for name in _ARRAYS}
    found |= {f"lstm_states.{name}": getattr(buffer, name) for name in _LSTM_ARRAYS if hasattr(buffer, name)}
    return {name: torch.from_numpy(array) for name, array in found.items()}
