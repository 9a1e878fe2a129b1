"""The library's own policy, with the user's classes in it, goes on training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import torch

from gradscope.recompute.entropy import ENTROPY
from gradscope.recompute.rhythm import counts_of, rhythm_of
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
from gradscope.recompute.trusted.host import Host
from gradscope.recompute.trusted.live import TARGETS, follow
from gradscope.recompute.trusted.tensors import module_types

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gradscope.recompute.inputs import Training
    from gradscope.recompute.trusted.guest import Guest
    from gradscope.recompute.trusted.live import Live

_END: Final = "_target"


def trusted_trainee(
    training: Training, guest: Guest, here: Live, losses: Any, weights: Mapping[str, torch.Tensor]
) -> Trainee:
    """A policy of its own that goes on training.

    Args:
        training: the checkpoint.
        guest: in whose turns its code runs.
        here: the policy, loaded for this trainee alone.
        losses: over it.
        weights: its parameters, and the entropy coefficient where there is one.

    Raises:
        Mismatch: an optimizer cannot go on.
    """
    policy: Any = here.policy
    host, parameters = Host(model=policy, guest=guest, set_mode=policy.set_training_mode), dict(weights)

    def follow_targets(tau: float) -> None:
        for name in TARGETS:
            if hasattr(policy, name):
                follow(getattr(policy, name.removesuffix(_END)), getattr(policy, name), tau)

    num_updates, num_calls = counts_of(training)
    return Trainee(
        losses=losses,
        parameters=parameters,
        parts=tuple(_parts(training, here, parameters)),
        rhythm=rhythm_of(training),
        num_updates=num_updates,
        num_calls=num_calls,
        notes=notes_of(training),
        modules=module_types(here.policy),
        session=host.session,
        _follow=follow_targets,
        _turn=host.turn,
        _keep=host.keep,
        _evaluate=host.evaluate,
    )


def _parts(training: Training, here: Live, parameters: dict[str, torch.Tensor]) -> Iterator[Part]:
    policy: Any = here.policy
    first = {id(each): name for name, each in here.own.items()}
    # A recurrent policy of PPO's has a critic's layer, but one optimizer.
    owners = {CRITIC: policy.critic, ACTOR: policy.actor} if hasattr(policy, "actor") else {POLICY: policy}
    for name, owner in owners.items():
        load_optimizer(owner.optimizer, training, name)
        held = [each for group in owner.optimizer.param_groups for each in group["params"]]
        yield Part(name=name, optimizer=owner.optimizer, names=tuple(first[id(each)] for each in held))
    if ENTROPY in parameters:
        parameters[ENTROPY] = torch.nn.Parameter(parameters[ENTROPY].detach().clone())
        optimizer = new_optimizer(ADAM, [parameters[ENTROPY]])
        load_optimizer(optimizer, training, ENTROPY_PART)
        yield Part(name=ENTROPY_PART, optimizer=optimizer, names=(ENTROPY,))
