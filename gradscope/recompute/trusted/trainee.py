"""The library's own policy, with the user's classes in it, goes on training."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import torch

from gradscope.errors import UsageError
from gradscope.recompute.entropy import ENTROPY
from gradscope.recompute.trainee import (
    ACTOR,
    ADAM,
    CRITIC,
    ENTROPY_PART,
    Part,
    Trainee,
    counts_of,
    load_optimizer,
    new_optimizer,
    rhythm_of,
)
from gradscope.recompute.trusted.buffers import buffers_of
from gradscope.recompute.trusted.chance import borrowed
from gradscope.recompute.trusted.guest import GuestFailed
from gradscope.recompute.trusted.live import TARGETS, follow
from gradscope.recompute.trusted.tensors import module_types

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gradscope.recompute.batches import Draws
    from gradscope.recompute.inputs import Training
    from gradscope.recompute.trusted.guest import Guest
    from gradscope.recompute.trusted.state import State

_END: Final = "_target"


def trusted_trainee(training: Training, guest: Guest, state: State) -> Trainee:
    """A policy of its own that goes on training.

    Args:
        training: the checkpoint.
        guest: in whose turns its code runs.
        state: loaded for this trainee alone.

    Raises:
        Mismatch: an optimizer cannot go on.
    """
    policy = state.live.policy
    parameters = dict(state.parameters)
    pairs = [
        (getattr(policy, name.removesuffix(_END)), getattr(policy, name))
        for name in TARGETS
        if hasattr(policy, name)
    ]

    def catch_up(tau: float) -> None:
        for online, target in pairs:
            follow(online, target, tau)

    @contextmanager
    def session() -> Iterator[None]:
        try:
            with guest.turn():
                yield
        except GuestFailed as problem:
            raise UsageError(str(problem)) from problem

    @contextmanager
    def turn(drawn: Draws) -> Iterator[torch.Generator]:
        with borrowed(drawn.noise, drawn.rows) as noise:
            policy.set_training_mode(True)
            yield noise

    def keep() -> Callable[[], None]:
        chance, buffers = torch.get_rng_state(), buffers_of(policy)

        def put_back() -> None:
            torch.set_rng_state(chance)
            buffers.put_back()

        return put_back

    num_updates, num_calls = counts_of(training)
    return Trainee(
        losses=state.losses,
        parameters=parameters,
        parts=tuple(_parts(training, state, parameters)),
        rhythm=rhythm_of(training),
        num_updates=num_updates,
        num_calls=num_calls,
        modules=module_types(policy),
        _follow=catch_up,
        session=session,
        _turn=turn,
        _keep=keep,
    )


def _parts(training: Training, state: State, parameters: dict[str, torch.Tensor]) -> Iterator[Part]:
    policy: Any = state.live.policy
    first = {id(each): name for name, each in state.live.own.items()}
    owners = (
        {"policy": policy} if not hasattr(policy, "critic") else {CRITIC: policy.critic, ACTOR: policy.actor}
    )
    for name, owner in owners.items():
        load_optimizer(owner.optimizer, training, name)
        held = [each for group in owner.optimizer.param_groups for each in group["params"]]
        yield Part(name=name, optimizer=owner.optimizer, names=tuple(first[id(each)] for each in held))
    if ENTROPY in parameters:
        parameters[ENTROPY] = torch.nn.Parameter(parameters[ENTROPY].detach().clone())
        optimizer = new_optimizer(ADAM, [parameters[ENTROPY]])
        load_optimizer(optimizer, training, ENTROPY_PART)
        yield Part(name=ENTROPY_PART, optimizer=optimizer, names=(ENTROPY,))
