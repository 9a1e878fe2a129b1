"""The library's own policy, with the user's classes in it, goes on training."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch

from gradscope.errors import UsageError
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
from gradscope.recompute.trusted.buffers import buffers_of
from gradscope.recompute.trusted.chance import borrowed
from gradscope.recompute.trusted.guest import GuestFailed
from gradscope.recompute.trusted.live import TARGETS, follow
from gradscope.recompute.trusted.tensors import module_types

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from gradscope.recompute.batches import Draws
    from gradscope.recompute.inputs import Training
    from gradscope.recompute.trusted.guest import Guest
    from gradscope.recompute.trusted.live import Live

_END: Final = "_target"


@dataclass(frozen=True, kw_only=True, eq=False)
class _Host:
    """What surrounds the updates of a policy whose code is the user's."""

    policy: Any
    guest: Guest

    @contextmanager
    def session(self) -> Iterator[None]:
        """A turn of the user's code.

        Raises:
            UsageError: that code failed.
        """
        try:
            with self.guest.turn():
                yield
        except GuestFailed as problem:
            raise UsageError(str(problem)) from problem

    @contextmanager
    def turn(self, drawn: Draws) -> Iterator[torch.Generator]:
        """One update's chance."""
        with borrowed(drawn.noise, drawn.rows) as noise:
            self.policy.set_training_mode(True)
            yield noise

    def keep(self) -> Callable[[], None]:
        """What a pass changes by the way: chance and buffers."""
        chance, buffers = torch.get_rng_state(), buffers_of(self.policy)

        def put_back() -> None:
            torch.set_rng_state(chance)
            buffers.put_back()

        return put_back

    def evaluate(self) -> None:
        """As while collecting."""
        self.policy.set_training_mode(False)

    def follow(self, tau: float) -> None:
        """Targets follow by a fraction."""
        for name in TARGETS:
            if hasattr(self.policy, name):
                follow(getattr(self.policy, name.removesuffix(_END)), getattr(self.policy, name), tau)


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
    host, parameters = _Host(policy=here.policy, guest=guest), dict(weights)
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
        _follow=host.follow,
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
