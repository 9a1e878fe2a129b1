"""Layers of a snapshot, made from tensors in a file when they are asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from gradscope.read.file_bytes import Malformed
from gradscope.read.stored_tensor import AbsentTensor, OnDemand, StoredTensor
from gradscope.records import Layer, Origin

if TYPE_CHECKING:
    import re
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from gradscope.read.optimizer_state import Moments

SHARED: Final = 16
"""Tensors may share bytes (tied weights, expanded views): together they are this many files at most."""
SPARE_BYTES: Final = 1 << 30
"""And this much beside: sparse tensors are larger than what the file holds of them."""
MAX_SHOWN: Final = 5
"""Names listed in a note."""
BUFFER_NAMES: Final = ("running_mean", "running_var", "num_batches_tracked", "ra_mean", "ra_var")
"""Statistics of batch norm (torch, sb3-contrib's CrossQ); no optimizer moves them."""


@dataclass(frozen=True, kw_only=True)
class StoredLayer:
    """One layer that lies in a file."""

    name: str
    weight: StoredTensor | None = None
    gradient: StoredTensor | None = None
    moments: Moments | None = None
    reasons: Mapping[str, str] = field(default_factory=dict)
    origin: Origin = Origin.NONE
    module: str | None = None
    """Class of the module that owns it."""
    absent: AbsentTensor | None = None
    """Its weight, where that cannot be read."""

    def layer(self) -> Layer:
        """Read it.

        Raises:
            UnreadableFile: the file changed, or cannot be opened any more.
        """
        known = self.weight or self.gradient or self.absent
        assert known is not None
        assert known.shape is not None
        return Layer(
            name=self.name,
            shape=known.shape,
            dtype=known.dtype or "unknown",
            weight=self.weight.array() if self.weight else None,
            gradient=self.gradient.array() if self.gradient else None,
            moments=_arrays(self.moments) if self.moments else {},
            moment_settings=self.moments.settings if self.moments else {},
            origin=self.origin,
            module=self.module,
            reasons=self.reasons,
        )


def _arrays(moments: Moments) -> dict[str, NDArray[Any]]:
    tensors = {name: tensor.array() for name, tensor in moments.tensors.items()}
    return tensors | {name: np.asarray(number) for name, number in moments.numbers.items()}


def lazy_layers(layers: Iterable[StoredLayer]) -> Mapping[str, Layer]:
    """Layers by name, each read when it is asked for.

    Raises:
        Malformed: their tensors, one after the other, would take a time that the file does not justify.
    """
    known = list(layers)
    tensors = [tensor for each in known for tensor in (each.weight, each.gradient) if tensor and tensor.room]
    total, room = sum(each.num_bytes for each in tensors), max((each.room for each in tensors), default=0)
    if total > SHARED * room + SPARE_BYTES:
        problem = f"has tensors of {total} bytes in a file of {room}: they lie on each other, or are sparse"
        raise Malformed(problem, "Save tensors of their own.")
    return OnDemand({each.name: partial(StoredLayer.layer, each) for each in known})


def lazy_state(tensors: Mapping[str, StoredTensor]) -> Mapping[str, NDArray[Any]]:
    """A state dict's arrays by name, each read when it is asked for."""
    return OnDemand({name: each.array for name, each in tensors.items()})


def parameters(tensors: Mapping[str, StoredTensor], *, is_told: bool = False) -> Mapping[str, StoredTensor]:
    """The tensors an optimizer can move: no statistics, no integers, nothing beyond its bytes.

    ``is_told``: the file itself tells parameters from buffers, and these are parameters.
    """
    return {
        name: tensor
        for name, tensor in tensors.items()
        if tensor.is_floating
        and tensor.is_bounded
        and (is_told or name.rpartition(".")[2] not in BUFFER_NAMES)
    }


def inert_note(unknown: tuple[str, ...], expected: re.Pattern[str]) -> tuple[str, ...]:
    """A note that lists names a file wanted to have loaded beyond the expected; none of them was."""
    strange = [name for name in unknown if not expected.fullmatch(name)]
    if not strange:
        return ()
    left = len(strange) - MAX_SHOWN
    shown = ", ".join(strange[:MAX_SHOWN]) + (f" and {left} more" if left > 0 else "")
    return (f"names code that was not loaded: {shown}",)
