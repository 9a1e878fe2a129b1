"""A torch zip archive: its data.pkl rebuilt, its tensors left in the file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gradscope.read.file_bytes import Malformed
from gradscope.read.numpy_pickle import as_array
from gradscope.read.pickle_stubs import Stub, is_text_keyed
from gradscope.read.safe_pickle import unpickled
from gradscope.read.stored_tensor import StoredTensor
from gradscope.read.torch_pickle import TorchTable
from gradscope.read.zip_members import wanted, zip_members

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradscope.read.file_bytes import Section
    from gradscope.read.zip_members import Member

MAX_PICKLE_BYTES: Final = 256 << 20
"""The structure alone; tensors lie outside of it. 20,000 tensors take about 3 MB."""
MAX_NAME: Final = 1_000
"""Characters of a dotted name; a longer one is made by nesting without end."""
TORCH_DETAILS: Final = re.compile(
    r"torch\.(\w+Storage|storage\.\w+|device|Size|strided|(b?float|u?int|complex|q|bool)\w*|half|double|long)"
    r"|torch\.serialization\._get_layout|torch\._utils\._rebuild_\w+|torch\.nn\.parameter\.\w+|numpy\.ndarray"
)
"""Names that the contents of honest checkpoints refer to."""
_MAX_MODULES: Final = 100_000


@dataclass(frozen=True, kw_only=True, eq=False)
class TorchArchive:
    """What torch.save was given, with StoredTensor for tensors and stubs for everything unknown."""

    value: object
    unknown: tuple[str, ...]


def torch_archive(archive: Section) -> TorchArchive:
    """Open an archive.

    Raises:
        Malformed: no torch archive, damaged, or a part of it lies out of bounds.
        OSError: the file cannot be opened any more.
    """
    members = zip_members(archive)
    roots = [name for name in members if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(roots) != 1:
        raise Malformed(f"is no torch archive: {len(roots)} of its members are a data.pkl")
    folder = roots[0].removesuffix("data.pkl")
    if f"{folder}constants.pkl" in members:
        raise Malformed("is a TorchScript archive", "Save model.state_dict() with torch.save instead.")
    table = TorchTable(members=members, folder=folder, is_big_endian=_is_big_endian(members, folder))
    content = wanted(members, roots[0]).content(MAX_PICKLE_BYTES)
    found = unpickled(content, table.calls(), table.storage)
    return TorchArchive(value=found.value, unknown=found.unknown)


def tensors_of(value: object) -> Mapping[str, StoredTensor]:
    """Named tensors of a state dict, or parameters of a pickled module; empty for anything else."""
    if isinstance(value, Stub):
        return _module_parameters(value)
    if not is_text_keyed(value):
        return {}
    return {name: tensor for name, tensor in value.items() if isinstance(tensor, StoredTensor)}


def plain_number(value: object) -> object:
    """A number where the value is one, or a tensor or array of one number; else the value itself."""
    array = as_array(value)
    if isinstance(value, StoredTensor) and value.shape == ():
        array = value.array()
    return array.item() if array is not None and array.shape == () else value


def _module_parameters(module: Stub) -> Mapping[str, StoredTensor]:
    """Parameters of a module saved whole, by dotted name; shared and cyclic modules once."""
    found: dict[str, StoredTensor] = {}
    waiting: list[tuple[str, object]] = [("", module)]
    seen: set[int] = set()
    while waiting and len(seen) < _MAX_MODULES:
        prefix, each = waiting.pop()
        if not isinstance(each, Stub) or id(each) in seen or not is_text_keyed(each.state):
            continue
        seen.add(id(each))
        parameters, children = each.state.get("_parameters"), each.state.get("_modules")
        found |= {f"{prefix}{name}": tensor for name, tensor in tensors_of(parameters).items()}
        if is_text_keyed(children) and len(prefix) < MAX_NAME:
            waiting.extend((f"{prefix}{name}.", child) for name, child in reversed(children.items()))
    return found


def _is_big_endian(members: Mapping[str, Member], folder: str) -> bool:
    name = f"{folder}byteorder"
    return name in members and wanted(members, name).content(16) == b"big"
