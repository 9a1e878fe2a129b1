"""A stored rollout as other weights than the run's would have collected it: rows and actions stay.

Old values and log-probabilities become those of the weights given, and so do the LSTM states of a recurrent
policy, gone through step by step as RecurrentPPO.collect_rollouts() does. The states before the first step
are the file's: what led to them is in no file.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gradscope.recompute.rollout_batches import Memory, tensor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from gradscope.recompute.networks import Parameters
    from gradscope.recompute.on_policy import OnPolicy
    from gradscope.recompute.roles import Observations
    from gradscope.recompute.rollout_batches import RolloutBatch, States
    from gradscope.recompute.rollout_drawing import RolloutDrawing

    Array = NDArray[Any]


def collected(
    drawing: RolloutDrawing, whole: RolloutBatch, losses: OnPolicy, parameters: Parameters
) -> RolloutDrawing:
    """The rollout with values, log-probabilities and LSTM states of these weights.

    Args:
        drawing: of the rollout.
        whole: all its rows, environment by environment, as the policy sees them.
        losses: with the policy.
        parameters: its weights.
    """
    if drawing.states:
        return _step_by_step(drawing, whole, losses, parameters)
    values, log_probs, _ = losses.judged(parameters, whole)
    return _with(drawing, _by_step(values, drawing), _by_step(log_probs, drawing))


def _step_by_step(
    drawing: RolloutDrawing, whole: RolloutBatch, losses: OnPolicy, parameters: Parameters
) -> RolloutDrawing:
    rollout = drawing.rollout
    num_steps, num_environments = rollout.actions.shape[:2]
    values, log_probs = np.empty_like(rollout.values), np.empty_like(rollout.log_probs)
    states = {name: array.copy() for name, array in drawing.states.items()}
    first = {name: tensor(array[0]) for name, array in states.items()}
    actor: States = first["hidden_states_pi"], first["cell_states_pi"]
    critic: States = first["hidden_states_vf"], first["cell_states_vf"]
    for step in range(num_steps):
        _keep(states, step, actor, critic)
        rows = torch.arange(num_environments) * num_steps + step
        memory = Memory(
            actor=actor,
            critic=critic,
            episode_starts=tensor(rollout.episode_starts[step].copy()),
            mask=torch.ones(num_environments, dtype=torch.bool),
        )
        judged, actor, critic = losses.policy.stepped(
            parameters, _rows(whole.observations, rows), whole.actions[rows], memory
        )
        values[step], log_probs[step] = judged[0].numpy(), judged[1].numpy()
    return replace(_with(drawing, values, log_probs), states=states)


def _keep(states: Mapping[str, Array], step: int, actor: States, critic: States) -> None:
    for kind, (hidden, cell) in {"pi": actor, "vf": critic}.items():
        states[f"hidden_states_{kind}"][step] = hidden.numpy()
        states[f"cell_states_{kind}"][step] = cell.numpy()


def _rows(observations: Observations, rows: torch.Tensor) -> Observations:
    if isinstance(observations, torch.Tensor):
        return observations[rows]
    return {key: each[rows] for key, each in observations.items()}


def _by_step(values: torch.Tensor, drawing: RolloutDrawing) -> Array:
    """[steps, environments] of values that are counted environment by environment."""
    num_steps, num_environments = drawing.rollout.actions.shape[:2]
    found: Array = values.numpy().reshape(num_environments, num_steps).T
    return found


def _with(drawing: RolloutDrawing, values: Array, log_probs: Array) -> RolloutDrawing:
    return replace(drawing, rollout=replace(drawing.rollout, values=values, log_probs=log_probs))
