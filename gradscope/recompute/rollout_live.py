"""The losses of PPO, A2C and RecurrentPPO over the library's own policy, with the user's code in it."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch

from gradscope.recompute.activations import rows_that_count
from gradscope.recompute.on_policy import OnPolicy
from gradscope.recompute.rollout_support import settings_of
from gradscope.recompute.trusted.chance import borrowed
from gradscope.recompute.trusted.live import live, load
from gradscope.recompute.trusted.tensors import tensor_of

if TYPE_CHECKING:
    from gradscope.recompute.batches import Draws
    from gradscope.recompute.inputs import Training
    from gradscope.recompute.networks import Parameters
    from gradscope.recompute.on_policy import Judged
    from gradscope.recompute.roles import Observations
    from gradscope.recompute.rollout_batches import Memory, RolloutBatch, States
    from gradscope.recompute.rollout_drawing import RolloutDrawing
    from gradscope.recompute.trusted.guest import Guest
    from gradscope.recompute.trusted.live import Live, Recipe

_STATES: Final = "sb3_contrib.common.recurrent.type_aliases"


@dataclass(frozen=True, kw_only=True, eq=False)
class LiveActorCritic:
    """Policy of PPO, A2C and RecurrentPPO, as the library calls it."""

    live: Live
    is_choice: bool
    """Whether an action is one whole number."""

    def __call__(
        self,
        parameters: Parameters,
        observations: Observations,
        actions: torch.Tensor,
        memory: Memory | None = None,
    ) -> Judged:
        """Values, log-probabilities and entropies, each [rows]."""
        taken = actions.long().flatten() if self.is_choice else actions
        extra: tuple[Any, ...] = ()
        if memory is not None:
            states = importlib.import_module(_STATES).RNNStates(memory.actor, memory.critic)
            extra = states, memory.episode_starts
            rows_that_count(memory.mask)
        values, log_prob, entropy = self.live.called(
            parameters, lambda: self.live.policy.evaluate_actions(observations, taken, *extra)
        )
        return values.flatten(), log_prob, entropy

    def stepped(
        self, parameters: Parameters, observations: Observations, actions: torch.Tensor, memory: Memory
    ) -> tuple[Judged, States, States]:
        """The same, and the states that the library's own collecting gets for the next step."""
        states = importlib.import_module(_STATES).RNNStates(memory.actor, memory.critic)
        following = self.live.called(
            parameters, lambda: self.live.policy.forward(observations, states, memory.episode_starts)
        )[-1]
        return self(parameters, observations, actions, memory), following.pi, following.vf


def live_on_policy(drawing: RolloutDrawing, here: Live) -> OnPolicy:
    """The losses over a live policy.

    Raises:
        Mismatch: a setting is missing.
    """
    space: Any = drawing.rollout.settings.get("action_space")
    return OnPolicy(
        policy=LiveActorCritic(live=here, is_choice=space["kind"] == "Discrete"),
        settings=settings_of(drawing.rollout),
        names=tuple(name for name, each in here.own.items() if each.requires_grad),
    )


def loaded_policy(training: Training, made: Recipe) -> Live:
    """The checkpoint's policy.

    Raises:
        GuestFailed: the weights are not this policy's.
    """
    policy = made.made()
    load(policy, {name: tensor_of(array) for name, array in training.weights.items()})
    return live(policy)


def judged(guest: Guest, losses: OnPolicy, here: Live, one: RolloutBatch, chance: Draws) -> Judged:
    """Values, log-probabilities and entropies as a policy that collects gives them, without gradients."""
    with guest.turn(), borrowed(chance.noise, chance.rows), torch.no_grad():
        here.start()
        here.policy.set_training_mode(False)
        return losses.judged(here.own, one)
