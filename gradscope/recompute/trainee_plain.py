"""Networks rebuilt from their weights go on training."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch

from gradscope.recompute.dqn import updated_targets
from gradscope.recompute.entropy import ENTROPY
from gradscope.recompute.networks import Mismatch
from gradscope.recompute.on_policy import OnPolicy
from gradscope.recompute.rhythm import counts_of, rhythm_of
from gradscope.recompute.support import num_idle
from gradscope.recompute.trainee import (
    ACTOR,
    ADAM,
    CRITIC,
    ENTROPY_PART,
    POLICY,
    Part,
    Trainee,
    load_optimizer,
    new_optimizer,
    notes_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradscope.recompute.inputs import Training
    from gradscope.recompute.losses import Losses


def plain_trainee(
    training: Training, losses: Losses | OnPolicy, weights: Mapping[str, torch.Tensor]
) -> Trainee:
    """The checkpoint's networks and optimizers, in copies.

    Args:
        training: the checkpoint.
        losses: its networks and losses.
        weights: by name, targets and entropy coefficient among them.

    Raises:
        Mismatch: an optimizer cannot be made again.
    """
    parameters = {name: each.detach().clone() for name, each in weights.items()}
    parts = _parts(training, losses, parameters)

    targets = {} if isinstance(losses, OnPolicy) else losses.targets

    def follow(tau: float) -> None:
        parameters.update(updated_targets(parameters, targets, tau))

    num_updates, num_calls = counts_of(training)
    return Trainee(
        losses=losses,
        parameters=parameters,
        parts=parts,
        rhythm=rhythm_of(training),
        num_updates=num_updates,
        num_calls=num_calls,
        notes=notes_of(training),
        _follow=follow,
        session=nullcontext,
        _turn=lambda drawn: nullcontext(drawn.noise),
        _keep=lambda: lambda: None,
        _evaluate=lambda: None,
    )


def _parts(training: Training, losses: Any, parameters: dict[str, torch.Tensor]) -> tuple[Part, ...]:
    """Optimizers of an algorithm; what they move become leaves."""
    if training.policy_settings is None:
        raise Mismatch("the checkpoint's policy_kwargs cannot be read")
    kind = str(training.policy_settings.get("optimizer_class", ADAM))
    owned: dict[str, tuple[str, ...]] = {}
    if isinstance(losses, OnPolicy):
        owned[POLICY] = losses.names
    elif hasattr(losses, "online"):
        owned[POLICY] = losses.online.names
    else:
        idle = losses.actor.names[: num_idle(training, losses)]
        owned |= {CRITIC: (*idle, *losses.critics.names), ACTOR: losses.actor.names}
    if ENTROPY in parameters:
        owned[ENTROPY_PART] = (ENTROPY,)
    trained = dict.fromkeys(name for names in owned.values() for name in names)
    parameters |= {name: torch.nn.Parameter(parameters[name]) for name in trained}
    parts = []
    for name, names in owned.items():
        # The library makes the entropy's own an Adam whatever the policy's class.
        optimizer = new_optimizer(
            ADAM if name == ENTROPY_PART else kind, [parameters[each] for each in names]
        )
        load_optimizer(optimizer, training, name)
        parts.append(Part(name=name, optimizer=optimizer, names=names))
    return tuple(parts)
