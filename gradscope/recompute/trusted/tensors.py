"""Arrays of files as tensors, a model's state against a checkpoint's, gradients as arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Array = NDArray[Any]

FROZEN: Final = "frozen: requires_grad is False"
UNREACHED: Final = "no gradient reached this parameter"
_MAX_LISTED: Final = 3
_CARRIERS: Final = {1: np.uint8, 2: np.int16}
"""Bytes of the small floats that numpy itself does not know, by width."""


def tensor_of(array: Array) -> torch.Tensor:
    """A copy of an array, of the same type."""
    if array.dtype.kind == "V":
        kind: torch.dtype = getattr(torch, array.dtype.name)
        carrier = np.ascontiguousarray(array).view(_CARRIERS[array.dtype.itemsize])
        return torch.tensor(carrier).view(kind)
    # A copy of numpy's: torch warns of read-only arrays, and takes native byte order only.
    return torch.from_numpy(np.array(array, array.dtype.newbyteorder("="), order="C"))


def array_of(gradient: torch.Tensor) -> Array:
    """A gradient as an array of its own; small floats become float32, sparse ones dense."""
    dense = gradient.detach().cpu()
    dense = dense.to_dense() if dense.layout != torch.strided else dense
    dense = dense.float() if dense.is_floating_point() and dense.dtype.itemsize < 4 else dense  # noqa: PLR2004
    return dense.clone().numpy()


def misfit(
    expected: Mapping[str, torch.Tensor], shapes: Mapping[str, tuple[int, ...]], what: str
) -> str | None:
    """Why a checkpoint's tensors do not fill a state dict, in one line; None where they do.

    Args:
        expected: the state dict of ``what``.
        shapes: of the checkpoint's tensors.
        what: as the line should name it: "the model", "the rebuilt policy".
    """
    missing = [name for name in expected if name not in shapes]
    strange = [name for name in shapes if name not in expected]
    if missing or strange:
        parts = [f"{what} has {_listed(missing)}, the checkpoint has not"] if missing else []
        parts += [f"the checkpoint has {_listed(strange)}, {what} has not"] if strange else []
        return "; ".join(parts)
    for name, tensor in expected.items():
        if tuple(tensor.shape) != tuple(shapes[name]):
            return f"{name} is {tuple(shapes[name])} in the checkpoint, {tuple(tensor.shape)} in {what}"
    return None


def module_types(model: torch.nn.Module) -> dict[str, str]:
    """Type of the module that owns each parameter."""
    owners = dict(model.named_modules())
    return {name: type(owners[name.rpartition(".")[0]]).__name__ for name, _ in model.named_parameters()}


def _listed(names: list[str]) -> str:
    shown = ", ".join(name[:100] for name in names[:_MAX_LISTED])
    return f"{shown} and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else shown
