"""recycle_dead_units: units that never fire begin anew, without a jump in the network's output."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from copy import deepcopy
from typing import TYPE_CHECKING, Final

import torch
from torch import nn

from gradscope.errors import UsageError
from gradscope.remedy.optimizer_memory import forget

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

_LAYERS: Final = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def dead_units(activations: torch.Tensor, *, unit_axis: int = -1) -> torch.Tensor:
    """Which units are exactly 0 on every row: bool [units].

    NaN is not 0. Take many rows: in a small batch healthy ReLU units rest too (SCIENCE section 2, item 1).

    Args:
        activations: [..., units], after the activation function.
        unit_axis: where the units are; 1 for the channels of a convolution.

    Raises:
        UsageError: there are no rows, which would call every unit dead.
    """
    by_unit = activations.detach().movedim(unit_axis, -1)
    rows = by_unit.reshape(-1, by_unit.shape[-1]) if by_unit.numel() else by_unit.new_empty(0, 1)
    if not len(rows):
        raise UsageError(f"activations {list(activations.shape)}: no rows. Pass a batch.")
    return (rows == 0).all(dim=0)


def recycle_dead_units(
    layer: nn.Module,
    next_layer: nn.Module | Iterable[nn.Module],
    optimizer: torch.optim.Optimizer | None = None,
    *,
    dead: torch.Tensor | Sequence[int],
    initialise: Callable[[nn.Module], object] | None = None,
    generator: torch.Generator | None = None,
    reset_step: bool = True,
) -> int:
    """Give dead units new incoming weights and zero outgoing ones, in place; returns how many.

    ReDo (Sokar et al., arXiv 2302.12902): a dead unit added nothing to the next layer and still adds
    nothing right after, but its outgoing weights now have a gradient, and once those have moved so have
    the incoming ones. The optimizer forgets the moments of exactly the incoming rows and outgoing
    columns, and counts the steps of these tensors from 0.

    Why the step as well (Adam-Rel, Ellis et al., arXiv 2412.17113): after many steps Adam corrects no
    bias any more. With moments at 0 its first update is (1 - 0.9) / sqrt(1 - 0.999) = 0.1 / 0.0316 = 3.2
    times ``lr`` in every recycled weight, and 6.6 times by the twelfth under a steady gradient, enough to
    kill the unit again. With the step at 0 it is 1 time ``lr``. What that costs: a tensor has one step for
    all its rows, so survivors, whose moments are full, move less for a while: 0.32 times as far in the
    first step, 0.15 around the twelfth, 0.31 in the hundredth, 0.80 in the thousandth. Hence recycle
    seldom (ReDo: every 1000 updates); recycling in every step would amount to a lower learning rate.

    Helps: exact zeros that a layer's ReLU makes for ever; nothing else in this folder revives them.

    Cannot help: where what killed the units goes on (inputs of a wrong scale: normalise first, or they die
    again); saturated tanh units, which are not 0, so that cutting them off changes the output; behind
    a normalisation between the two layers, where one unit's wakening moves the others; recurrent layers.

    Call it between ``optimizer.step()`` and the next backward pass.

    Args:
        layer: Linear or Conv whose units (rows, channels) are dead.
        next_layer: every layer that reads them: Linear, Conv, or Linear behind a flattened Conv.
        optimizer: the one that steps both; None where it keeps no memory.
        dead: bool [units], or numbers of units.
        initialise: fills a copy of ``layer`` in place; None: its own ``reset_parameters``. Pass it where
            the model was initialised otherwise (orthogonal in Stable-Baselines3's PPO).
        generator: to draw from, leaving the global random state as it was.
        reset_step: False leaves the optimizer's steps alone, with the first update above.

    Raises:
        UsageError: layers do not fit together, units are not there, or the optimizer steps another model.
    """
    followers = list(next_layer) if isinstance(next_layer, Iterable) else [next_layer]
    weight = _own_weight(layer)
    units = _unit_numbers(dead, weight)
    inputs = [(_own_weight(each), _inputs(layer, each, units)) for each in followers]
    changed: list[tuple[torch.Tensor, int, torch.Tensor]] = [(weight, 0, units)]
    changed += [(each, 1, columns) for each, columns in inputs]
    bias = layer.bias
    if isinstance(bias, torch.Tensor):
        changed.append((bias, 0, units))
    if not len(units):
        return 0
    if optimizer is not None:
        forget(optimizer, changed, reset_step=reset_step)
    fresh = _fresh(layer, initialise, generator)
    with torch.no_grad():
        for name, own in (("weight", weight), ("bias", bias)):
            if isinstance(own, torch.Tensor):
                own.index_copy_(0, units, getattr(fresh, name).detach().index_select(0, units))
        for follower, columns in inputs:
            follower.index_fill_(1, columns.to(follower.device), 0.0)
    return len(units)


def _own_weight(layer: nn.Module) -> nn.Parameter:
    weight = layer.weight if isinstance(layer, _LAYERS) else None
    if not isinstance(weight, nn.Parameter):
        raise UsageError(
            f"{type(layer).__name__}: no plain Linear or Conv layer with a weight of its own. "
            "Remove parametrizations, or recycle another layer."
        )
    return weight


def _unit_numbers(dead: torch.Tensor | Sequence[int], weight: torch.Tensor) -> torch.Tensor:
    """Rising numbers, int64 on the weight's device, each once."""
    given, num_units = torch.as_tensor(dead, device=weight.device), len(weight)
    if given.dtype == torch.bool:
        if given.shape != (num_units,):
            raise UsageError(f"dead {list(given.shape)}: the mask is not [{num_units}]. Use dead_units().")
        return given.nonzero().flatten()
    if not given.numel():
        return torch.empty(0, dtype=torch.int64, device=weight.device)
    if given.is_floating_point() or given.min() < 0 or given.max() >= num_units:
        raise UsageError(f"dead: not numbers of units within 0..{num_units - 1}. Use dead_units().")
    return (
        torch.zeros(num_units, dtype=torch.bool, device=weight.device)
        .index_fill(0, given.to(torch.int64).flatten(), value=True)
        .nonzero()
        .flatten()
    )


def _inputs(layer: nn.Module, follower: nn.Module, units: torch.Tensor) -> torch.Tensor:
    """Columns of the follower's weight that read the units."""
    num_units, num_inputs = len(_own_weight(layer)), _own_weight(follower).shape[1]
    is_flattened = isinstance(follower, nn.Linear) and not isinstance(layer, nn.Linear)
    is_same_kind = isinstance(follower, type(layer)) or isinstance(layer, type(follower))
    places, rest = divmod(num_inputs, num_units)
    # A grouped convolution's weight has fewer inputs than channels, and is refused here as well.
    if rest or not (is_flattened or (is_same_kind and places == 1)):
        raise UsageError(
            f"{layer} -> {follower}: the second does not read the first one's {num_units} units. "
            "Pass every layer that reads them directly."
        )
    # Flattening keeps the places of one channel together.
    return (units[:, None] * places + torch.arange(places, device=units.device)).flatten()


def _fresh(
    layer: nn.Module, initialise: Callable[[nn.Module], object] | None, generator: torch.Generator | None
) -> nn.Module:
    fresh = deepcopy(layer)
    device = next(layer.parameters()).device
    devices = [device] if device.type == "cuda" else []
    fork: AbstractContextManager[object] = nullcontext()
    if generator is not None:
        fork = torch.random.fork_rng(devices)
    with fork:
        if generator is not None:
            torch.manual_seed(_seed(generator))
        if initialise is not None:
            initialise(fresh)
        else:
            fresh.reset_parameters()  # type: ignore[operator]
    return fresh


def _seed(generator: torch.Generator) -> int:
    return int(torch.randint(2**62, (), generator=generator, device=generator.device))
