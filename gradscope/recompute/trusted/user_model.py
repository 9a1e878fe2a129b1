"""The model and the loss that a function of the user's gives, with a checkpoint's weights in it."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from gradscope.recompute.activations import own_weights, watching
from gradscope.recompute.float64 import widened
from gradscope.recompute.trusted.buffers import Buffers, buffers_of
from gradscope.recompute.trusted.guest import GuestFailed, one_line
from gradscope.recompute.trusted.look_ups import look_ups
from gradscope.recompute.trusted.naming import named_like
from gradscope.recompute.trusted.tensors import array_of, misfit, tensor_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from gradscope.recompute.trusted.look_ups import Rows

    Array = NDArray[Any]
    Loss = Callable[[Mapping[str, torch.Tensor]], Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class UserModel:
    """What the user's function gave."""

    model: torch.nn.Module
    loss: Loss
    buffers: Buffers
    names: Mapping[str, str]
    """The checkpoint's name of each parameter of the model."""
    optimizer: torch.optim.Optimizer | None = None
    """Over the model's parameters, where the function gave one."""

    @property
    def parameters(self) -> dict[str, torch.nn.Parameter]:
        """By the checkpoint's names."""
        return {self.names[name]: each for name, each in self.model.named_parameters()}

    def loss_of(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Of a batch, with its graph.

        Raises:
            GuestFailed: the loss is no number with a graph.
        """
        with watching():
            loss = self.loss(batch)
        if not isinstance(loss, torch.Tensor) or loss.numel() != 1 or not loss.requires_grad:
            raise GuestFailed(f"the loss is no scalar tensor with gradients but {_shown(loss)}")
        return loss

    def gradients(self, batch: Mapping[str, Array]) -> tuple[dict[str, Array], Mapping[str, Rows]]:
        """By the checkpoint's names, and rows of embeddings looked up; what no gradient reached is left out.

        Raises:
            GuestFailed: the loss is no number with a graph.
        """
        self.buffers.put_back()
        self.model.train()
        self.model.zero_grad(set_to_none=True)
        with torch.enable_grad(), widened(self.model):
            own = self.parameters
            own_weights(own)
            with look_ups(self.model, {id(each): name for name, each in own.items()}) as rows:
                loss = self.loss_of({name: tensor_of(each) for name, each in batch.items()})
            loss.backward()  # type: ignore[no-untyped-call]
            found = {name: parameter.grad for name, parameter in self.model.named_parameters()}
        self.model.zero_grad(set_to_none=True)
        arrays = {self.names[name]: array_of(each) for name, each in found.items() if each is not None}
        return arrays, rows


def function_of(spec: str) -> Callable[[], object]:
    """Import the function that ``package.module:function`` names.

    Raises:
        GuestFailed: it names none.
    """
    module, _, name = spec.partition(":")
    if not module or not name:
        raise GuestFailed(f"--model {one_line(spec)} is not package.module:function")
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise GuestFailed(f"module {one_line(module)} has no function {one_line(name)}")
    called: Callable[[], object] = found
    return called


def _made(function: Callable[[], object]) -> tuple[torch.nn.Module, Loss, torch.optim.Optimizer | None]:
    made = function()
    if not isinstance(made, tuple) or len(made) not in {2, 3}:
        raise GuestFailed(f"the --model function returned {_shown(made)}, not (model, loss)")
    model, loss, optimizer = (*made, None)[:3]
    if not isinstance(model, torch.nn.Module) or not callable(loss):
        given = f"({_shown(model)}, {_shown(loss)})"
        raise GuestFailed(f"the --model function returned {given}: not a torch.nn.Module and a function")
    if optimizer is not None and not isinstance(optimizer, torch.optim.Optimizer):
        given = _shown(optimizer)
        raise GuestFailed(f"the --model function returned {given} as optimizer: not a torch.optim.Optimizer")
    return model, loss, optimizer


def user_model(function: Callable[[], object], weights: Mapping[str, Array]) -> UserModel:
    """The function's model with the checkpoint's weights.

    Raises:
        GuestFailed: the function gives no model and loss, or the weights are not this model's.
    """
    model, loss, optimizer = _made(function)
    expected = model.state_dict()
    names = named_like(expected, weights)
    arrays = {own: weights[name] for own, name in names.items()}
    known = set(names.values())
    strange = {name: () for name in weights if name not in known}
    shapes = {own: tuple(array.shape) for own, array in arrays.items()}
    problem = misfit(expected, {**shapes, **strange}, "the model")
    if problem is not None:
        raise GuestFailed(problem)
    model.load_state_dict({name: tensor_of(array) for name, array in arrays.items()})
    owned = {name: names.get(name, name) for name, _ in model.named_parameters()}
    return UserModel(model=model, loss=loss, buffers=buffers_of(model), names=owned, optimizer=optimizer)


def fresh_model(function: Callable[[], object], loaded: UserModel) -> UserModel | None:
    """The function's model as it comes; None where it is the loaded one.

    Raises:
        GuestFailed: the function gives no model and loss.
    """
    model, loss, _ = _made(function)
    if model is loaded.model:
        return None
    return UserModel(model=model, loss=loss, buffers=buffers_of(model), names=loaded.names)


def _shown(value: object) -> str:
    """A value of the user's, in a few words."""
    if isinstance(value, torch.Tensor):
        return f"a tensor of {tuple(value.shape)}{'' if value.requires_grad else ' without gradients'}"
    return f"a {type(value).__name__}"
