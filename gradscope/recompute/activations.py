"""Units of the networks, watched while the gradients of batches are computed.

``watched(found.batches(), units)`` goes over the batches as they are and fills ``units`` on the way. Every
call of torch within a watched pass comes by ``unit_pass.Pass``, whoever made it: networks rebuilt as
functions of their weights, the library's modules, the user's code with ``torch.relu`` in its forward. A
layer is known by the very tensor of its weight, its activation by the very tensor that it is applied to.
Gradients are the same bits with and without, and where nobody watches it costs one look at a context
variable. (Forward hooks on modules would not see a function, and modules of torch do not tell their order.)

What counts is the pass that gradients flow through: online networks on the batch's own observations.
Left out are target networks and the critics after their step (other weights), the actor on next
observations and features that the critic borrows from the actor (no gradients), and padding of sequences.

Not seen: weights that are used through a matrix product of the user's, a parametrization (weight_norm) or a
scripted module, and what happens inside MultiheadAttention.
"""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, TypeVar

import torch

from gradscope.recompute.unit_pass import Pass

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager

    from gradscope.recompute.unit_tally import Units

T = TypeVar("T")
_WATCHED: ContextVar[Units | None] = ContextVar("_WATCHED", default=None)


def watched(batches: Iterator[T], units: Units) -> Iterator[T]:
    """The same batches; while each is computed, what its units do is added to ``units``."""
    while True:
        token = _WATCHED.set(units)
        try:
            one = next(batches)
        except StopIteration:
            return
        finally:
            _WATCHED.reset(token)
        units.num_batches += 1
        yield one


def own_weights(parameters: Mapping[str, torch.Tensor]) -> None:
    """Say which tensors are the networks' weights, by layer: those of a stepped copy are others."""
    units = _WATCHED.get()
    if units is not None:
        units.names = {id(each): name for name, each in parameters.items()}


def watching() -> AbstractContextManager[object]:
    """A pass of networks in the block: it is watched where somebody does and gradients flow."""
    units = _WATCHED.get()
    return nullcontext() if units is None or not torch.is_grad_enabled() else _pass(units)


def rows_that_count(mask: torch.Tensor) -> None:
    """Say which rows of this batch are no padding, booleans [sequences x longest]."""
    units = _WATCHED.get()
    if units is not None:
        units.mask = mask


@contextmanager
def _pass(units: Units) -> Iterator[None]:
    one = Pass(units)
    with one:
        yield
    one.end()
