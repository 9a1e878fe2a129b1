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
from gradscope.read.torch_module import module_tensors
from gradscope.read.torch_pickle import TorchTable
from gradscope.read.torch_storage import ZipStorages
from gradscope.read.zip_members import all_members, wanted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradscope.read.file_bytes import Section
    from gradscope.read.safe_pickle import Unpickled
    from gradscope.read.zip_members import Member

MAX_PICKLE_BYTES: Final = 256 << 20
"""The structure alone; tensors lie outside of it. 20,000 tensors take about 3 MB."""
TORCH_DETAILS: Final = re.compile(
    r"torch\.(\w+Storage|storage\.\w+|device|Size|strided|per_\w+_affine|Tensor"
    r"|(b?float|u?int|complex|q|bool|bits)\w*|half|double|long)"
    r"|torch\.serialization\._get_layout|torch\._(utils|tensor)\._rebuild_\w+|torch\.nn\.parameter\.\w+"
    r"|numpy\.ndarray|(__)?builtin(s|__)\.set|tensordict\._td\.TensorDict"
)
"""Names that the contents of honest checkpoints refer to."""
CONSTANTS: Final = "constants.pkl"


@dataclass(frozen=True, kw_only=True, eq=False)
class TorchArchive:
    """What torch.save was given, with StoredTensor for tensors and stubs for everything unknown."""

    value: object
    unknown: tuple[str, ...]
    is_script: bool = False
    """Whether torch.jit.save wrote it."""
    constants: tuple[object, ...] = ()
    """Of TorchScript: values its code refers to by number."""


def torch_archive(archive: Section) -> TorchArchive:
    """Open an archive.

    Raises:
        Malformed: no torch archive, damaged, or a part of it lies out of bounds.
        OSError: the file cannot be opened any more.
    """
    everything = all_members(archive)
    members = {name: each for name, each in everything.items() if each.is_stored}
    roots = [name for name in members if name.count("/") == 1 and name.endswith("/data.pkl")]
    if not roots and any(name.endswith("/data.pkl") for name in everything):
        raise Malformed("is a torch archive packed anew, with compression", "Pack it without: zip -0.")
    if len(roots) != 1:
        raise Malformed(f"is no torch archive: {len(roots)} of its members are a data.pkl")
    folder = roots[0].removesuffix("data.pkl")
    found = _pickle(members, folder, "data")
    if f"{folder}{CONSTANTS}" not in members:
        return TorchArchive(value=found.value, unknown=found.unknown)
    constants = _pickle(members, folder, "constants").value
    return TorchArchive(
        value=found.value,
        unknown=found.unknown,
        is_script=True,
        constants=constants if isinstance(constants, tuple) else (),
    )


def tensors_of(value: object) -> Mapping[str, StoredTensor]:
    """Named tensors of a state dict, or parameters of a pickled module; empty for anything else."""
    entries: object = module_tensors(value).parameters if isinstance(value, Stub) else value
    if not is_text_keyed(entries):
        return {}
    return {name: tensor for name, tensor in entries.items() if isinstance(tensor, StoredTensor)}


def plain_number(value: object) -> object:
    """A number where the value is one, or a tensor or array of one number; else the value itself."""
    array = as_array(value)
    if isinstance(value, StoredTensor) and value.shape == ():
        array = value.array()
    return array.item() if array is not None and array.shape == () else value


def _pickle(members: Mapping[str, Member], folder: str, name: str) -> Unpickled:
    """data.pkl with its storages in data/, constants.pkl with those in constants/."""
    storages = ZipStorages(members=members, folder=f"{folder}{name}/")
    table = TorchTable(is_big_endian=_is_big_endian(members, folder))
    content = wanted(members, f"{folder}{name}.pkl").content(MAX_PICKLE_BYTES)
    return unpickled(content, table.calls(), storages.storage, room=_room(members))


def _room(members: Mapping[str, Member]) -> int:
    return next((each.archive.size for each in members.values()), 0)


def _is_big_endian(members: Mapping[str, Member], folder: str) -> bool:
    name = f"{folder}byteorder"
    return name in members and wanted(members, name).content(16) == b"big"
