"""The library's own policy, made as the library makes it, with the user's classes in it."""

from __future__ import annotations

import copy
import importlib
import io
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

import torch

from gradscope.recompute.activations import own_weights, watching
from gradscope.recompute.dqn import updated_targets
from gradscope.recompute.trusted.buffers import Buffers, buffers_of
from gradscope.recompute.trusted.guest import GuestFailed
from gradscope.recompute.trusted.look_ups import look_ups
from gradscope.recompute.trusted.tensors import misfit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from gradscope.recompute.networks import Parameters
    from gradscope.recompute.trusted.look_ups import Rows
    from gradscope.recompute.trusted.user_code import Blobs

TARGETS: Final = ("actor_target", "critic_target", "q_net_target", "quantile_net_target")
_RUNNING: Final = "running_"
"""Batch norm's statistics, as the library finds them by name."""
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, eq=False)
class Live:
    """A policy whose modules are called, and its state at the start of each batch."""

    policy: Any
    """A torch.nn.Module; the library's and the user's attributes are only known when it runs."""
    own: Mapping[str, torch.nn.Parameter]
    """Each parameter under its first name, in file order."""
    buffers: Buffers
    slots: Mapping[str, Sequence[tuple[dict[str, Any], str]]]
    """Where modules hold each parameter: a shared one in several places."""

    def start(self) -> None:
        """As train() finds it, with the checkpoint's buffers."""
        self.buffers.put_back()
        self.policy.set_training_mode(True)

    def looking_up(self) -> AbstractContextManager[Mapping[str, Rows]]:
        """Rows of embeddings that passes in the block look up, by layer."""
        return look_ups(self.policy, {id(each): name for name, each in self.own.items()})

    def called(self, parameters: Parameters, function: Callable[[], T]) -> T:
        """Call a function on modules of the policy with these parameters in them."""
        others = [name for name, mine in self.own.items() if parameters.get(name, mine) is not mine]
        # Not by torch.func.functional_call: where two modules share a third, it leaves ours in it
        # (measured with torch 2.13). The policy's own stay in place, with the hooks they may have.
        try:
            for name in others:
                for held, key in self.slots[name]:
                    held[key] = parameters[name]
            own_weights(self.own)
            with watching():
                return function()
        finally:
            for name in others:
                for held, key in self.slots[name]:
                    held[key] = self.own[name]

    def names(self, optimizer: Any) -> tuple[str, ...]:
        """Trainable parameters that an optimizer moves, in file order."""
        held = {id(each) for group in optimizer.param_groups for each in group["params"]}
        return tuple(name for name, each in self.own.items() if id(each) in held and each.requires_grad)

    def online(self) -> tuple[str, ...]:
        """All parameters but those of target networks."""
        targets = (getattr(self.policy, name, None) for name in TARGETS)
        copies = {id(each) for target in targets if target is not None for each in target.parameters()}
        return tuple(name for name, each in self.own.items() if id(each) not in copies)


def live(policy: Any) -> Live:
    """A policy as it is now; its buffers are copied."""
    own: dict[str, torch.nn.Parameter] = dict(policy.named_parameters())
    first = {id(each): name for name, each in own.items()}
    slots: dict[str, list[tuple[dict[str, Any], str]]] = {name: [] for name in own}
    for module in policy.modules():
        held = module._parameters  # noqa: SLF001  a plain tensor cannot be assigned to a parameter
        for key, each in held.items():
            if each is not None:
                slots[first[id(each)]].append((held, key))
    return Live(policy=policy, own=own, buffers=buffers_of(policy), slots=slots)


@dataclass(frozen=True, kw_only=True, eq=False)
class Recipe:
    """Unpickled: what makes a policy."""

    policy_class: Callable[..., Any]
    observation_space: Any
    action_space: Any
    arguments: Mapping[str, Any]
    learning_rate: float

    def made(self) -> Any:
        """A new policy, as the library's _setup_model makes it.

        Raises:
            GuestFailed: it is no torch module.
        """
        # Constructors of the library write into what they are given.
        arguments = copy.deepcopy(dict(self.arguments))
        rate = self.learning_rate
        policy = self.policy_class(self.observation_space, self.action_space, lambda _: rate, **arguments)
        if not isinstance(policy, torch.nn.Module):
            raise GuestFailed(
                f"the checkpoint's policy class made a {type(policy).__name__}, no torch module"
            )
        return policy.to("cpu")


def recipe(blobs: Blobs, learning_rate: float) -> Recipe:
    """Unpickle what makes the policy: this imports and runs the user's code.

    Raises:
        GuestFailed: the checkpoint lacks a part, or carries bytecode of another Python.
    """
    own = sys.version_info[:2]
    if blobs.carries_code and blobs.python not in {None, own}:
        # Bytecode of another version does anything, a crash of the process among it.
        theirs = ".".join(map(str, blobs.python or ()))
        raise GuestFailed(
            f"the file carries code of Python {theirs}, this is Python {own[0]}.{own[1]}: "
            "run gradscope with that one, or define the class in a module before training"
        )
    # A dependency of the library's, which need not be installed.
    cloudpickle = importlib.import_module("cloudpickle")
    missing = [
        name for name in ("observation_space", "action_space", "policy_class") if name not in blobs.pickles
    ]
    if missing:
        raise GuestFailed(f"the checkpoint holds no pickled {missing[0]}")
    found = {name: cloudpickle.load(io.BytesIO(content)) for name, content in blobs.pickles.items()}
    arguments = found.get("policy_kwargs", blobs.plain.get("policy_kwargs") or {})
    if not isinstance(arguments, dict) or not callable(found["policy_class"]):
        raise GuestFailed("the checkpoint's policy_class and policy_kwargs are no class and its arguments")
    return Recipe(
        policy_class=found["policy_class"],
        observation_space=found["observation_space"],
        action_space=found["action_space"],
        arguments=arguments,
        learning_rate=learning_rate,
    )


def load(policy: Any, weights: Parameters) -> None:
    """Put a checkpoint's weights and buffers into a policy.

    Raises:
        GuestFailed: they are not this policy's.
    """
    expected = policy.state_dict()
    tensors = {name: each for name, each in expected.items() if isinstance(each, torch.Tensor)}
    problem = misfit(
        tensors, {name: tuple(each.shape) for name, each in weights.items()}, "the rebuilt policy"
    )
    if problem is not None:
        raise GuestFailed(f"{problem}: is it the code that the run was trained with?")
    policy.load_state_dict(dict(weights))


def follow(online: Any, target: Any, tau: float) -> None:
    """The target network's update that was pending at a checkpoint, in place; batch norm's is a copy."""
    pairs = dict(zip(target.parameters(), online.parameters(), strict=True))
    before = {str(place): each for place, each in enumerate([*pairs.keys(), *pairs.values()])}
    count = len(pairs)
    after = updated_targets(before, {str(place): str(place + count) for place in range(count)}, tau)
    statistics = [
        [each for name, each in network.state_dict().items() if _RUNNING in name]
        for network in (target, online)
    ]
    with torch.no_grad():
        for place, each in enumerate(pairs):
            each.copy_(after[str(place)])
        for its, ours in zip(*statistics, strict=True):
            its.copy_(ours)
