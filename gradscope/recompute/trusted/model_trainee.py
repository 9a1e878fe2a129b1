"""A model of the user's goes on training: its own loss, and the optimizer that its checkpoint holds.

A checkpoint names neither the optimizer's class nor its parameters. The class is told by the settings and
the entries of the state (optimizer_kind.py), the parameters by their number and shapes, in the order of the
model's: all of them, those that are not frozen, or those that the loss reaches. Where that does not tell,
the --model function returns (model, loss, optimizer), which is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch

from gradscope.errors import UsageError
from gradscope.recompute.losses import Gradients
from gradscope.recompute.networks import Mismatch
from gradscope.recompute.rhythm import NO_ALGORITHM, Rhythm
from gradscope.recompute.trainee import Part, Trainee
from gradscope.recompute.trusted.guest import GuestFailed
from gradscope.recompute.trusted.host import Host
from gradscope.recompute.trusted.model_source import SHARED
from gradscope.recompute.trusted.optimizer_kind import ELEMENTWISE, HOW, optimizer_kind
from gradscope.recompute.trusted.tensors import module_types, tensor_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gradscope.recompute.inputs import NumberedOptimizer
    from gradscope.recompute.trusted.model_batch import ModelBatch
    from gradscope.recompute.trusted.model_source import ModelSource
    from gradscope.recompute.trusted.user_model import UserModel

MODEL: Final = "model"
NOT_REPEATED: Final = (
    "what the training loop does beside the loss and the optimizer's step is not repeated: clipping, target "
    "networks, a schedule of the learning rate"
)
TAKEN_FOR: Final = "the optimizer is taken for torch.optim.{}: its settings and its state say so"
OTHER_GROUPS: Final = "the optimizer that the --model function returns does not fit the saved one: {}"
_ANYWHERE: Final = {"capturable": False, "fused": None}
"""Ways to compute a step that need the device of the run."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ModelLosses:
    """The user's loss."""

    user: UserModel

    def gradients(
        self, parameters: Mapping[str, torch.Tensor], batch: ModelBatch, noise: object, step: object
    ) -> Gradients:
        """As backward() leaves them. There is no other network's step.

        Raises:
            GuestFailed: the loss is no number with a graph.
        """
        del noise, step
        self.user.model.zero_grad(set_to_none=True)
        loss = self.user.loss_of(batch.tensors)
        loss.backward()  # type: ignore[no-untyped-call]
        found = {name: each.grad for name, each in parameters.items() if each.grad is not None}
        self.user.model.zero_grad(set_to_none=True)
        return Gradients(by_layer=found, loss=loss.detach())


def model_trainee(source: ModelSource, shown: UserModel, seed: int, reached: Sequence[str]) -> Trainee:
    """A model of its own that goes on training.

    Args:
        source: where it comes from.
        shown: the model that gradients are recomputed with, which must stay as it is.
        seed: of chance while the function is called.
        reached: names of the parameters that the loss reaches.

    Raises:
        UsageError: the optimizer cannot go on, the function always gives one model, or it failed.
    """
    try:
        with source.turn(seed):
            user = source.loaded()
            if user.model is shown.model:
                raise UsageError(SHARED)
            part, note = _part(user, source.saved(), reached)
    except (GuestFailed, Mismatch) as problem:
        raise UsageError(str(problem)) from problem
    host = Host(model=user.model, guest=source.guest, set_mode=user.model.train)
    return Trainee(
        losses=ModelLosses(user=user),
        parameters=dict(user.parameters),
        parts=(part,),
        rhythm=Rhythm(algorithm=NO_ALGORITHM, tau=0.0),
        num_updates=0,
        num_calls=0,
        modules={user.names[name]: kind for name, kind in module_types(user.model).items()},
        notes=(*note, NOT_REPEATED),
        session=host.session,
        _follow=lambda _: None,
        _turn=host.turn,
        _keep=host.keep,
        _evaluate=host.evaluate,
    )


def _part(
    user: UserModel, saved: NumberedOptimizer | str, reached: Sequence[str]
) -> tuple[Part, tuple[str, ...]]:
    """The model's optimizer with the saved state in it, and what to say of it.

    Raises:
        Mismatch: there is none, or it does not fit.
    """
    if isinstance(saved, str):
        raise Mismatch(saved)
    if user.optimizer is not None:
        return _given(user, user.optimizer, saved), ()
    kind = optimizer_kind(saved.groups, saved.state.values())
    names = _names(user, saved, reached)
    parameters, rest = user.parameters, iter(names)
    groups = [{"params": [parameters[next(rest)] for _ in _numbers(group)]} for group in saved.groups]
    optimizer = getattr(torch.optim, kind)(groups, lr=1e-3)
    _load(optimizer, saved)
    return Part(name=MODEL, optimizer=optimizer, names=names), (TAKEN_FOR.format(kind),)


def _given(user: UserModel, optimizer: torch.optim.Optimizer, saved: NumberedOptimizer) -> Part:
    own = {id(each): name for name, each in user.parameters.items()}
    held = [each for group in optimizer.param_groups for each in group["params"]]
    if any(id(each) not in own for each in held):
        raise Mismatch(OTHER_GROUPS.format("it moves what is no parameter of the model"))
    sizes = [[len(_numbers(each)) for each in groups] for groups in (optimizer.param_groups, saved.groups)]
    if sizes[0] != sizes[1]:
        raise Mismatch(OTHER_GROUPS.format(f"its groups have {sizes[0]} parameters, the saved {sizes[1]}"))
    _load(optimizer, saved)
    return Part(name=MODEL, optimizer=optimizer, names=tuple(own[id(each)] for each in held))


def _names(user: UserModel, saved: NumberedOptimizer, reached: Sequence[str]) -> tuple[str, ...]:
    """The checkpoint's names of the optimizer's parameters, in its order."""
    found: tuple[str, ...] | str = ""
    # Names in the groups are those of the training, which the checkpoint's may wrap.
    for names in (user.names, {name: name for name, _ in user.model.named_parameters()}):
        known = {names[name]: each for name, each in user.model.named_parameters()}
        trained = {name: each for name, each in known.items() if each.requires_grad}
        seen = {
            names[name]: each for name, each in user.model.named_parameters() if user.names[name] in reached
        }
        orders = [{name: tuple(each.shape) for name, each in one.items()} for one in (known, trained, seen)]
        found = saved.names(orders)
        if not isinstance(found, str):
            return tuple(user.names.get(name, name) for name in found)
    raise Mismatch(f"{found}, or let the --model function return (model, loss, optimizer)")


def _load(optimizer: Any, saved: NumberedOptimizer) -> None:
    """Put settings and state into an optimizer of the same groups.

    Raises:
        Mismatch: they do not fit.
    """
    groups = [
        {**own, **{key: each for key, each in group.items() if key != "param_names"}, **_here(own)}
        for own, group in zip(optimizer.param_groups, saved.groups, strict=True)
    ]
    held = [each for group in optimizer.param_groups for each in group["params"]]
    numbers = [number for group in saved.groups for number in _numbers(group)]
    state = {
        number: {key: _tensor(entry) for key, entry in saved.state[number].items()}
        for number in numbers
        if saved.state.get(number)
    }
    for number, parameter in zip(numbers, held, strict=True):
        for key, entry in state.get(number, {}).items():
            if key in ELEMENTWISE and entry.shape != parameter.shape:
                raise Mismatch(f"the optimizer's {key} is {tuple(entry.shape)}, not {tuple(parameter.shape)}")
    try:
        optimizer.load_state_dict({"state": state, "param_groups": groups})
    except (KeyError, ValueError, TypeError) as error:
        raise Mismatch(f"the optimizer cannot go on from its saved state: {error}") from error


def _here(group: Mapping[str, object]) -> dict[str, object]:
    """Settings of this machine in the place of those of the run's."""
    return {key: value for key, value in _ANYWHERE.items() if key in group and key in HOW}


def _tensor(entry: Any) -> torch.Tensor:
    return torch.tensor(entry) if isinstance(entry, (int, float)) else tensor_of(entry)


def _numbers(group: Mapping[str, Any]) -> Sequence[object]:
    found = group.get("params")
    return found if isinstance(found, list) else []
