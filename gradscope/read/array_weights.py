"""Named numpy arrays that are a model's weights, and its gradients -> Snapshot."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

from gradscope.read.file_bytes import reading
from gradscope.read.layers import BUFFER_NAMES
from gradscope.read.step_name import CONTENT_KEYS, known_step
from gradscope.read.stored_tensor import OnDemand
from gradscope.records import Layer, Origin, Snapshot

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[Any]

NO_GRADIENTS: Final = "the file holds no gradients; store them under names that begin with 'grads/'"
NO_GRADIENT: Final = "the file holds no gradient of this parameter"
WRONG_SHAPE: Final = "the stored gradient's shape {} is not the parameter's"
_NO_MOMENTS: Final = "the file holds no optimizer"
_PARAMETER: Final = re.compile(
    r"((^|[./_: \]\[])(weights?|bias(es)?|kernel|embeddings?|(weight|bias)_[ih]h_l\d+)"
    r"|[./_: \]\[](gamma|beta|scale|[wb]\d*)|^[wb]\d+)(_\w*)?(:\d+)?$",
    re.IGNORECASE,
)
"""How parameters end: fc1.weight, params/Dense_0/kernel, dense/bias:0, layer1_w."""
MAX_END: Final = 200
"""Characters of a name's end that are looked at: on a longer one the pattern takes for ever."""
_GRADIENT: Final = re.compile(r"^(grads?|gradients?)[./](?P<after>.+)$|^(?P<before>.+)[./](grads?|gradient)$")


@runtime_checkable
class Held(Protocol):
    """An array whose shape is known before it is read."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of an element."""

    def array(self) -> Array:
        """The elements."""


@dataclass(frozen=True, kw_only=True, eq=False)
class InMemory:
    """An array that is there already."""

    values: Array

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes."""
        return self.values.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of an element."""
        return self.values.dtype

    def array(self) -> Array:
        """The elements."""
        return self.values


def array_snapshot(
    path: Path, format_name: str, arrays: Mapping[str, Held], notes: tuple[str, ...] = ()
) -> Snapshot | None:
    """A snapshot of arrays under parameters' names; None where none is called like a parameter.

    Gradients are ``grads/NAME`` or ``NAME.grad``; a step is a number called step, global_step, ...
    """
    gradients = {name: each for name, each in map(_gradient, arrays.items()) if name is not None}
    rest = {name: each for name, each in arrays.items() if _gradient((name, each))[0] is None}
    weights = {name: each for name, each in rest.items() if _is_parameter(name, each)}
    if not gradients and not any(is_parameter_name(name) for name in weights):
        return None
    content: dict[str, object] = {
        key: _number(rest[key]) for key in CONTENT_KEYS if key in rest and rest[key].shape == ()
    }
    known = known_step(path, content)
    names = dict.fromkeys([*weights, *gradients])
    return Snapshot(
        source=path,
        format=format_name,
        step=known.step,
        step_from=known.step_from,
        layers=OnDemand({name: partial(_layer, path, name, weights, gradients) for name in names}),
        state=OnDemand(
            {name: partial(_read, path, each) for name, each in rest.items() if name not in content}
        ),
        num_batches=1 if gradients else None,
        reasons=known.reasons,
        notes=known.notes + notes,
    )


def is_parameter_name(name: str) -> bool:
    """Whether a name ends like a parameter's."""
    return _PARAMETER.search(name[-MAX_END:]) is not None


def _gradient(entry: tuple[str, Held]) -> tuple[str | None, Held]:
    """The parameter whose gradient an entry is, None where it is none."""
    name, each = entry
    found = _GRADIENT.match(name)
    return (found["after"] or found["before"] if found and each.dtype.kind == "f" else None), each


def _is_parameter(name: str, each: Held) -> bool:
    last = re.split(r"[./]", name)[-1]
    return each.dtype.kind in "fc" and each.shape != () and last not in BUFFER_NAMES


def _number(each: Held) -> object:
    return each.array().item()


def _read(path: Path, each: Held) -> Array:
    with reading(path):
        return each.array()


def _layer(path: Path, name: str, weights: Mapping[str, Held], gradients: Mapping[str, Held]) -> Layer:
    weight, gradient = weights.get(name), gradients.get(name)
    reasons = {"moments": _NO_MOMENTS}
    if gradient is None:
        reasons["gradient"] = NO_GRADIENT if gradients else NO_GRADIENTS
    elif weight is not None and gradient.shape != weight.shape:
        reasons["gradient"] = WRONG_SHAPE.format(gradient.shape)
        gradient = None
    known = weight or gradient
    assert known is not None
    return Layer(
        name=name,
        shape=known.shape,
        dtype=known.dtype.name,
        weight=None if weight is None else _read(path, weight),
        gradient=None if gradient is None else _read(path, gradient),
        origin=Origin.NONE if gradient is None else Origin.STORED,
        reasons=reasons,
    )
