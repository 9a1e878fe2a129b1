"""Targets below the readers: each parser alone, so that what surrounds it costs no luck."""

from __future__ import annotations

import base64
import io
import json
import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

import ml_dtypes  # noqa: F401  readers and numpy import it late: here, before they are watched
import numpy.ma  # noqa: F401
from fuzz.zips import members_of, zip_of

from gradscope.read.batch_file import read_batch
from gradscope.read.file_bytes import section_of
from gradscope.read.npy_header import npy_header
from gradscope.read.numpy_pickle import NUMPY_TABLE, as_array
from gradscope.read.optimizer_state import named_moments
from gradscope.read.pickle_stubs import Stub, attributes, class_name
from gradscope.read.safe_pickle import unpickled
from gradscope.read.sb3_blobs import sb3_blobs
from gradscope.read.sb3_training import _optimizer, sb3_training
from gradscope.read.sb3_zip import Sb3Zip
from gradscope.read.step_name import known_step, named_step
from gradscope.read.stored_tensor import StoredTensor
from gradscope.read.torch_archive import torch_archive
from gradscope.read.torch_zip import TorchZip
from gradscope.read.zip_members import zip_members

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_MOST: Final = 1 << 20
"""Bytes of a zip member that are asked for."""


@dataclass(frozen=True, kw_only=True)
class Parser:
    """One target."""

    parse: Callable[[Path], object]
    wrap: Callable[[bytes], bytes] = bytes
    """Puts the input where its parser finds it."""


# What the input is put into


def in_torch_archive(content: bytes) -> bytes:
    """As data.pkl of a torch archive whose storages are as they should be."""
    return zip_of({"a/data.pkl": content, **_storages()})


def in_settings(content: bytes) -> bytes:
    """As the JSON of an SB3 zip whose weights are as they should be."""
    return zip_of({"data": content, "policy.pth": _policy(), "system_info.txt": b"- Python: 3.11.7"})


def in_blobs(content: bytes) -> bytes:
    """As the pickle of every entry of an SB3 zip that has one."""
    blob = {":type:": "x", ":serialized:": base64.b64encode(content).decode()}
    names = (
        "policy_class",
        "policy_kwargs",
        "observation_space",
        "action_space",
        "learning_rate",
        "_last_obs",
    )
    return in_settings(json.dumps(dict.fromkeys(names, blob)).encode())


@cache
def _policy() -> bytes:
    """A torch archive of four parameters."""
    import torch  # noqa: PLC0415  most targets need none

    written = io.BytesIO()
    torch.manual_seed(0)
    torch.save(torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 1)).state_dict(), written)
    return zip_of(members_of(written.getvalue()))


@cache
def _storages() -> Mapping[str, bytes]:
    return {f"a/data/{number}": bytes(range(64)) * 4 for number in range(10)}


# What then is read


def pickle_machine(path: Path) -> object:
    """A bare pickle, and what is asked of any value in it."""
    found = unpickled(path.read_bytes(), NUMPY_TABLE)
    values = list(attributes(found.value).values()) if isinstance(found.value, Stub) else [found.value]
    told = [(class_name(each), str(each) if isinstance(each, Stub) else "") for each in values[:100]]
    return [*map(as_array, values[:100]), *told, *found.unknown]


def numpy_pickle(path: Path) -> object:
    """A list of arrays, each copied."""
    value = unpickled(path.read_bytes(), NUMPY_TABLE).value
    arrays = [as_array(each) for each in (value if isinstance(value, (list, tuple)) else [value])[:32]]
    return [each.copy() for each in arrays if each is not None]


def zip_directory(path: Path) -> object:
    """Members of a zip, read whole and in part."""
    members = zip_members(section_of(path))
    contents: list[object] = []
    for member in list(members.values())[:32]:
        contents.append(len(member.content(_MOST)))
        contents.append(member.read(0, min(member.size, 10)))
    return contents


def optimizer_state(path: Path) -> object:
    """An optimizer's state dict, for four parameters."""
    state = torch_archive(section_of(path)).value
    shapes = {"0.weight": (2, 3), "0.bias": (2,), "1.weight": (1, 2), "1.bias": (1,)}
    pool = {
        name: StoredTensor(path=path, bytes=section_of(path), key=name, dtype="float32", shape=shape)
        for name, shape in shapes.items()
    }
    found = [named_moments(state, [pool], is_plain=is_plain) for is_plain in (True, False)]
    return [[(each.states, each.reasons) for each in found], _optimizer(state)]


def sb3_all(path: Path) -> object:
    """Everything that is read of an SB3 zip."""
    return [Sb3Zip().read(path), sb3_training(path), sb3_blobs(path)]


def step_name(path: Path) -> object:
    """A file's name, and a step that its content claims."""
    name = path.read_bytes().decode("utf-8", "surrogateescape")
    named_step(name)
    number = math.inf if len(name) % 2 else 10 ** min(len(name), 400)
    known = known_step(Path(name.replace("\0", "") or "x"), {"step": number, "epoch": name[:1]})
    assert not any("\n" in each for each in known.notes)
    return known


PARSERS: Final[Mapping[str, Parser]] = {
    "pickle-machine": Parser(parse=pickle_machine),
    "zip-members": Parser(parse=zip_directory),
    "torch-pickle": Parser(parse=TorchZip().read, wrap=in_torch_archive),
    "optimizer-state": Parser(parse=optimizer_state, wrap=in_torch_archive),
    "sb3-pickles": Parser(parse=sb3_all, wrap=in_blobs),
    "sb3-settings": Parser(parse=sb3_all, wrap=in_settings),
    "sb3-training": Parser(parse=sb3_all),
    "batch-file": Parser(parse=read_batch),
    "numpy-pickle": Parser(parse=numpy_pickle),
    "npy-header": Parser(parse=lambda path: npy_header(path.read_bytes())),
    "step-name": Parser(parse=step_name),
}
