"""torch tensors inside plain pickles (pickle.dump of a tensor), rebuilt as numpy arrays.

pickle writes a tensor's storage as the bytes of a file in torch's old format; only the form that torch
itself writes is read. Source: torch/storage.py (TypedStorage.__reduce__) and torch/serialization.py
(_legacy_save).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from gradscope.read.file_bytes import Malformed
from gradscope.read.numpy_pickle import NUMPY_TABLE, Rebuilt, checked_shape
from gradscope.read.stored_tensor import spanned
from gradscope.read.torch_storage import STORAGE_DTYPES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

_STORAGE: Final = re.compile(
    rb"little_endianq.\x88.{0,120}?"
    rb"\x80\x02\(X\x07\x00\x00\x00storageq\x00ctorch\n(\w{1,30})\nq\x01X.{4}\d{1,30}q\x02X.{4}[\w:]{1,30}q\x03"
    rb"(?:K.|M..|J.{4}|\x8a.{1,9}?)Ntq\x04Q\.\x80\x02\]q\x00X.{4}\d{1,30}q\x01a\.",
    re.DOTALL,
)
_HEAD: Final = 1024
"""The part of such a file before its elements is about 250 bytes."""
_ADVICE: Final = "Save numpy arrays: tensor.numpy()."


@dataclass(frozen=True, kw_only=True, eq=False)
class _Storage:
    elements: NDArray[Any]


def _load_from_bytes(given: Sequence[object]) -> _Storage:
    data = given[0] if given else None
    if not isinstance(data, (bytes, memoryview)):
        raise Malformed("has a torch storage that is no bytes")
    found = _STORAGE.search(bytes(data[:_HEAD]))
    name, _ = STORAGE_DTYPES.get(found[1].decode("ascii", "replace"), ("", 0)) if found else ("", 0)
    if found is None or not name or name.startswith(("bf", "q")):
        raise Malformed("has a torch tensor in a form that is not read", _ADVICE)
    start, width = found.end() + 8, np.dtype(name).itemsize
    count = int.from_bytes(data[start - 8 : start], "little")
    if start + count * width != len(data):
        raise Malformed(f"has a torch storage of {len(data) - start} bytes that claims {count} elements")
    return _Storage(elements=np.frombuffer(data, np.dtype(name).newbyteorder("<"), offset=start))


def _tensor(given: Sequence[object]) -> Rebuilt:
    storage, offset, shape, strides = given[:4]
    if not isinstance(storage, _Storage) or type(offset) is not int or offset < 0:
        raise Malformed("has a torch tensor without a storage")
    sizes, steps = checked_shape(shape), checked_shape(strides)
    there = len(storage.elements)
    if len(sizes) != len(steps) or (0 not in sizes and offset + spanned(sizes, steps) > there):
        raise Malformed(f"has a tensor of shape {sizes} that leaves its storage of {there} elements")
    if np.prod(sizes, dtype=np.float64) > there:
        raise Malformed(f"has a tensor of shape {sizes} over {there} elements", _ADVICE)
    elements = storage.elements
    if 0 in sizes:
        return Rebuilt(np.empty(sizes, elements.dtype))
    width = elements.dtype.itemsize
    view = np.lib.stride_tricks.as_strided(
        elements[offset:], sizes, tuple(step * width for step in steps), writeable=False
    )
    return Rebuilt(view)


def _first(given: Sequence[object]) -> object:
    return given[0] if given else None


ARRAYS_TABLE: Final[Mapping[tuple[str, str], Callable[[Sequence[object]], object]]] = {
    **NUMPY_TABLE,
    ("torch.storage", "_load_from_bytes"): _load_from_bytes,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _first,
    ("torch", "Size"): _first,
}
"""Calls that rebuild numpy's arrays, and torch's tensors as such."""
