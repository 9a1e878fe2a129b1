"""recycle_dead_units: units that never fire begin anew, without a jump in the network's output.

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
"""

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
    from collections.abc import Callable, Mapping, Sequence
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

    For exact zeros of ReLU units; see this file's docstring, also for what resetting Adam's step costs.
    Call it between ``optimizer.step()`` and the next backward pass.

    Args:
        layer: Linear or Conv whose units (rows, channels) are dead.
        next_layer: every layer that reads them: Linear, Conv, or Linear behind a flattened Conv.
        optimizer: the one that steps both; None where it keeps no memory.
        dead: bool [units], or numbers of units.
        initialise: fills a copy of ``layer`` in place, as the model was initialised; None: as torch does.
        generator: to draw from, leaving the global random state as it was.
        reset_step: False leaves the optimizer's steps as they are.

    Raises:
        UsageError: layers do not fit together, units are not there, or the optimizer steps another model.
    """
    weight, followers = _own_weight(layer), _modules(next_layer)
    units = _unit_numbers(dead, weight)
    inputs = [(_own_weight(each), _inputs(layer, each, units)) for each in followers]
    if not len(units):
        return 0
    own = {name: each for name, each in layer.named_parameters() if name in {"weight", "bias"}}
    fresh = _fresh(layer, initialise, generator)
    if optimizer is not None:
        outgoing = [(each, 1, columns) for each, columns in inputs]
        forget(optimizer, [*((each, 0, units) for each in own.values()), *outgoing], reset_step=reset_step)
    _renew(own, units, fresh)
    _cut_off(inputs)
    return len(units)


@torch.no_grad()
def _renew(own: Mapping[str, torch.Tensor], units: torch.Tensor, fresh: nn.Module) -> None:
    drawn = dict(fresh.named_parameters())
    for name, parameter in own.items():
        parameter.index_copy_(0, units, drawn[name].index_select(0, units))


def _modules(next_layer: nn.Module | Iterable[nn.Module]) -> list[nn.Module]:
    return list(next_layer) if isinstance(next_layer, Iterable) else [next_layer]


@torch.no_grad()
def _cut_off(inputs: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> None:
    for weight, columns in inputs:
        weight.index_fill_(1, columns.to(weight.device), 0.0)


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
