"""A run as its next train() finds it: live policy, entropy coefficient, the critic's step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import torch

from gradscope.recompute.dqn import Dqn, is_update_pending
from gradscope.recompute.entropy import ENTROPY, FIXED_ENTROPY, fresh_entropy
from gradscope.recompute.losses import number_of
from gradscope.recompute.networks import Mismatch
from gradscope.recompute.quantiles import Qrdqn
from gradscope.recompute.ring_checks import CHOOSERS, check_choices
from gradscope.recompute.trusted.live import follow, live, load
from gradscope.recompute.trusted.live_losses import check_parts, live_losses
from gradscope.recompute.trusted.live_step import LiveStep, live_step
from gradscope.recompute.trusted.tensors import tensor_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradscope.recompute.batches import Drawing
    from gradscope.recompute.inputs import Training
    from gradscope.recompute.losses import Losses
    from gradscope.recompute.networks import Parameters
    from gradscope.recompute.trusted.live import Live, Recipe

NO_OPTIMIZER: Final = "the critic's optimizer is missing"
_ANY_RATE: Final = 1e-3
"""For a policy whose own rate is nowhere told; no gradient depends on it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class State:
    """What the losses of one batch start from."""

    live: Live
    losses: Losses
    parameters: Parameters
    """Of all networks, and the entropy coefficient."""
    layers: tuple[str, ...]
    """Those that could get gradients, in file order."""
    step: LiveStep | str | None
    """None where the algorithm has none, a reason where it is not known."""
    reasons: Mapping[str, str] = field(default_factory=dict)


def rate_of(training: Training) -> float:
    """The learning rate a policy is made with; its optimizers' own state says which one holds."""
    if training.learning_rate is not None:
        return training.learning_rate
    saved = [group.get("lr") for each in training.optimizers.values() for group in each.groups]
    return next((float(each) for each in saved if isinstance(each, (int, float))), _ANY_RATE)


def loaded_state(training: Training, drawing: Drawing, recipe: Recipe) -> State:
    """The checkpoint's, with DQN's pending update of the target done.

    Raises:
        GuestFailed: its weights are not this policy's.
        Mismatch: a setting is missing, or the buffer does not fit.
    """
    policy = recipe.made()
    load(policy, {name: tensor_of(array) for name, array in training.weights.items()})
    check_parts(training, policy)
    reasons = _followed(training, policy)
    here = live(policy)
    saved = training.optimizers.get("critic")
    step: LiveStep | str | None = None
    if training.algorithm not in CHOOSERS:
        optimizer = policy.critic.optimizer
        step = NO_OPTIMIZER if saved is None else live_step(here, optimizer, saved, training.learning_rate)
    entropy = {
        name: tensor_of(array)
        for name, array in training.variables.items()
        if name in {ENTROPY, FIXED_ENTROPY} and training.algorithm in {"SAC", "TQC"}
    }
    state = _state(training, here, step, entropy, reasons)
    if isinstance(state.losses, (Dqn, Qrdqn)):
        check_choices(drawing.ring, state.losses.num_choices)
    return state


def fresh_state(training: Training, recipe: Recipe) -> State:
    """A new run's.

    Raises:
        GuestFailed: the policy cannot be made.
        Mismatch: a setting is missing.
    """
    here = live(recipe.made())
    step: LiveStep | str | None = None
    if training.algorithm not in CHOOSERS:
        step = live_step(here, here.policy.critic.optimizer, None, training.learning_rate)
    saved = {name: tensor_of(array) for name, array in training.variables.items()}
    entropy = {name: each for name, each in saved.items() if name in {ENTROPY, FIXED_ENTROPY}}
    start = fresh_entropy(training.settings.get("ent_coef"))
    if ENTROPY in entropy and start is not None:
        entropy[ENTROPY] = torch.full_like(entropy[ENTROPY], start)
    return _state(training, here, step, entropy, {})


def _state(
    training: Training,
    here: Live,
    step: LiveStep | str | None,
    entropy: Mapping[str, torch.Tensor],
    reasons: Mapping[str, str],
) -> State:
    learned = {ENTROPY: entropy[ENTROPY].requires_grad_()} if ENTROPY in entropy else {}
    return State(
        live=here,
        losses=live_losses(training, here),
        parameters={**here.own, **entropy, **learned},
        layers=(*here.online(), *learned),
        step=step,
        reasons=reasons,
    )


def _followed(training: Training, policy: Any) -> dict[str, str]:
    """Do the target's update that was pending at the checkpoint.

    Raises:
        Mismatch: nothing tells whether there was one.
    """
    if training.algorithm not in CHOOSERS:
        return {}
    pending = is_update_pending(training)
    if pending is None:
        raise Mismatch("it cannot be told whether an update of the target network was pending")
    if not pending:
        return {}
    name = "q_net" if training.algorithm == "DQN" else "quantile_net"
    follow(getattr(policy, name), getattr(policy, f"{name}_target"), number_of(training, "tau"))
    return {"target_network": "the update that was pending at the checkpoint has been done"}
