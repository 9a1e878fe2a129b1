"""Rows to compute gradients on, from a file of the user's: torch, numpy or safetensors; nothing is run.

A dict of tensors keeps its names, a tuple or list of tensors gives "0", "1", ..., one array gives "0".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from gradscope.read import sniff
from gradscope.read.file_bytes import Malformed, head_of, reading, section_of
from gradscope.read.npy import MAGIC, npy, npz
from gradscope.read.numpy_pickle import as_array
from gradscope.read.pickle_stubs import Stub, is_text_keyed
from gradscope.read.safetensors_file import safetensors_content
from gradscope.read.stored_tensor import StoredTensor
from gradscope.read.torch_archive import torch_archive
from gradscope.read.torch_legacy import legacy_archive
from gradscope.read.zip_members import zip_members

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from gradscope.read.file_bytes import Section
    from gradscope.read.npy import Source

    Array = NDArray[Any]

ADVICE: Final = (
    "A batch file is a dict of tensors (torch.save), arrays (numpy.savez) or safetensors; "
    "all of them with one entry for each row."
)
_ZIP: Final = b"PK\x03\x04"
_MAX_LISTED: Final = 8


def read_batch(path: Path, keys: Mapping[str, str] | None = None) -> Mapping[str, Array]:
    """Arrays of the file by name, in file order, all of one first dimension.

    Args:
        path: .pt, .npz or .npy, .safetensors; told by the first bytes.
        keys: the name a loss function asks for -> the file's; only these are taken. None: all.

    Raises:
        UnreadableFile: damaged, of another format, or its entries are no rows.
    """
    with reading(path):
        found = _entries(path)
        if keys:
            missing = sorted(key for key in keys.values() if key not in found)
            if missing:
                raise Malformed(f"has no entry {missing[0][:80]!r}", f"It has {_listed(found)}.")
            found = {name: found[key] for name, key in keys.items()}
        if not found:
            raise Malformed("holds no arrays", ADVICE)
        return _rows({name: _array(name, each) for name, each in found.items()})


def _entries(path: Path) -> dict[str, object]:
    head, file = head_of(path), section_of(path)
    if head.startswith(MAGIC):
        return {"0": _numbers(file)}
    if head.startswith(_ZIP):
        return _zipped(file)
    if sniff.format_of(head) in {sniff.SAFETENSORS, sniff.RECORDER}:
        return dict(safetensors_content(file).tensors)
    if sniff.format_of(head) == sniff.TORCH_LEGACY:
        return _named(legacy_archive(file).value)
    raise Malformed("is no batch file", ADVICE)


def _zipped(file: Section) -> dict[str, object]:
    """A torch archive, or npz: a zip of npy files."""
    if any(name.endswith("data.pkl") for name in zip_members(file)):
        return _named(torch_archive(file).value)
    arrays = npz(file)
    if not arrays:
        raise Malformed("is a zip without arrays", ADVICE)
    return {name: _numbers(each) for name, each in arrays.items()}


def _named(value: object) -> dict[str, object]:
    if isinstance(value, (tuple, list)):
        return {str(place): each for place, each in enumerate(value)}
    if is_text_keyed(value):
        return dict(value)
    if isinstance(value, StoredTensor) or as_array(value) is not None:
        return {"0": value}
    shown = str(value) if isinstance(value, Stub) else type(value).__name__
    raise Malformed(f"holds a {shown[:80]}", ADVICE)


def _array(name: str, value: object) -> Array:
    """The entry's elements, read now."""
    found = value if isinstance(value, np.ndarray) else as_array(value)
    if isinstance(value, StoredTensor):
        if not value.is_bounded:
            raise Malformed(f"has a tensor {name[:80]!r} larger than the file")
        found = value.array()
    if found is None or found.ndim == 0 or found.dtype.kind in "SUO":
        problem = f"has an entry {name[:80]!r} that is no array of rows"
        raise Malformed(problem, "Leave it out, or name the others: --replay-keys NAME=KEY,...")
    return found


def _rows(arrays: dict[str, Array]) -> Mapping[str, Array]:
    lengths = {len(each) for each in arrays.values()}
    if len(lengths) > 1:
        shown = ", ".join(
            f"{name[:40]!r} has {len(each)}" for name, each in list(arrays.items())[:_MAX_LISTED]
        )
        raise Malformed(f"has entries of different numbers of rows: {shown}", ADVICE)
    if lengths == {0}:
        raise Malformed("holds no rows", ADVICE)
    return arrays


def _numbers(source: Source) -> Array:
    found = npy(source)
    if not found.is_numbers and found.dtype.kind == "V":
        raise Malformed("has an array of records, not of plain numbers")
    return found.array()


def _listed(entries: Mapping[str, object]) -> str:
    shown = ", ".join(repr(name[:40]) for name in list(entries)[:_MAX_LISTED])
    return f"{shown} and {len(entries) - _MAX_LISTED} more" if len(entries) > _MAX_LISTED else shown
