"""What torch.export.save writes (.pt2): weights as raw bytes, described by a JSON file.

Only the weights are read: the program (models/*.json) and its sample inputs are not looked at.
Format: torch/export/pt2_archive/ (constants.py, _package_weights.py), torch/_export/serde/schema.py.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gradscope.read import sniff
from gradscope.read.file_bytes import Foreign, Malformed, head_or_nothing, reading, section_of
from gradscope.read.layers import StoredLayer, lazy_layers, lazy_state, parameters
from gradscope.read.numpy_pickle import checked_shape
from gradscope.read.optimizer_state import NO_OPTIMIZER
from gradscope.read.pickle_stubs import is_text_keyed
from gradscope.read.step_name import known_step
from gradscope.read.stored_tensor import ITEM_BYTES, AbsentTensor, StoredTensor, spanned
from gradscope.read.torch_archive import torch_archive
from gradscope.read.torch_checkpoint import absent_layer, absent_notes
from gradscope.read.zip_members import all_members, wanted
from gradscope.records import Snapshot

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from gradscope.read.zip_members import Member

MAX_JSON_BYTES: Final = 64 << 20
"""20,000 tensors take about 6 MB."""
NO_GRADIENTS: Final = "an exported program holds no gradients"
_CONFIG: Final = re.compile(r"[^/]+/data/weights/([^/]*)_weights_config\.json")
_DTYPES: Final = (
    *(None, "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"),
    *("complex32", "complex64", "complex128", "bool", "bfloat16", *(None,) * 14),
    *("uint16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu"),
    *("uint32", "uint64"),
)
"""By number in torch's schema (ScalarType)."""
MAX_NAME: Final = 80
UNKNOWN: Final = "describes its weights in an unknown way"


@dataclass(frozen=True, kw_only=True)
class TorchExport:
    """Reader of exported programs."""

    format: str = sniff.TORCH_EXPORT

    def accepts(self, path: Path) -> bool:
        """Whether the first bytes are of this format."""
        return sniff.format_of(head_or_nothing(path)) == self.format

    def read(self, path: Path) -> Snapshot:
        """Open an exported program; no weight is read before its layer is asked for.

        Raises:
            UnreadableFile: damaged, or no weights in it.
        """
        with reading(path):
            entries = _entries(all_members(section_of(path)))
            layers = _layers(entries)
            if not layers:
                raise Foreign(*_without_weights(entries))
            known = known_step(path, {})
            return Snapshot(
                source=path,
                format=self.format,
                step=known.step,
                step_from=known.step_from,
                layers=lazy_layers(layers),
                state=lazy_state(
                    {k: e.tensor for k, e in entries.items() if isinstance(e.tensor, StoredTensor)}
                ),
                reasons=known.reasons,
                notes=(*known.notes, *absent_notes({name: each.tensor for name, each in entries.items()})),
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Entry:
    tensor: StoredTensor | AbsentTensor
    is_parameter: bool


def _entries(everything: Mapping[str, Member]) -> Mapping[str, _Entry]:
    """Weights by their names in the exported program's state_dict()."""
    members = {name: each for name, each in everything.items() if each.is_stored}
    found: dict[str, _Entry] = {}
    pickles: dict[str, object] = {}
    models = {each[1]: name for name in everything if (each := _CONFIG.fullmatch(name))}
    for model, name in models.items():
        folder = name.rpartition("/")[0]
        described = _json(wanted(members, name)).get("config")
        if not is_text_keyed(described):
            raise Malformed(UNKNOWN)
        prefix = f"{model[:MAX_NAME]}." if len(models) > 1 else ""
        found |= {prefix + key: _entry(each, members, folder, pickles) for key, each in described.items()}
    if not models and any("/data/weights/" in name for name in everything):
        raise Malformed("holds weights without the file that describes them, *_weights_config.json")
    return found


def _without_weights(entries: Mapping[str, _Entry]) -> tuple[str, str]:
    """What is wrong, and what to try."""
    reasons = [each.tensor.reason for each in entries.values() if isinstance(each.tensor, AbsentTensor)]
    more = f": {next(iter(entries))[:MAX_NAME]} {reasons[0]}" if reasons else ""
    return f"is an exported program without weights{more}", "Save it anew with torch.export.save."


def _json(member: Member) -> Mapping[str, object]:
    try:
        value = json.loads(member.content(MAX_JSON_BYTES))
    except (ValueError, RecursionError) as error:
        raise Malformed("describes its weights in something that is no JSON") from error
    if not is_text_keyed(value):
        raise Malformed(UNKNOWN)
    return value


def _entry(entry: object, members: Mapping[str, Member], folder: str, pickles: dict[str, object]) -> _Entry:
    """``pickles``: what pickled members hold, each read once however many entries name it."""
    if not is_text_keyed(entry) or not isinstance(file := entry.get("path_name"), str):
        raise Malformed(UNKNOWN)
    member = wanted(members, f"{folder}/{file}")
    is_parameter = entry.get("is_param") is True
    if entry.get("use_pickle") is True:
        if member.name not in pickles:
            pickles[member.name] = torch_archive(member.section()).value
        value = pickles[member.name]
        if not isinstance(value, (StoredTensor, AbsentTensor)):
            value = AbsentTensor(reason="is pickled inside of the archive and is no plain tensor")
        return _Entry(tensor=value, is_parameter=is_parameter)
    meta = entry.get("tensor_meta")
    if not is_text_keyed(meta):
        raise Malformed(UNKNOWN)
    return _Entry(tensor=_tensor(member, meta), is_parameter=is_parameter)


def _tensor(member: Member, meta: Mapping[str, object]) -> StoredTensor | AbsentTensor:
    """The whole storage is written, so strides and offset count."""
    number, first = meta.get("dtype"), _whole(meta.get("storage_offset"))
    shape, strides = (_wholes(meta.get(key)) for key in ("sizes", "strides"))
    if type(number) is not int or len(strides) != len(shape) or type(first) is not int or first < 0:
        raise Malformed(UNKNOWN)
    dtype = _DTYPES[number] if 0 <= number < len(_DTYPES) else None
    if dtype is None:
        return AbsentTensor(reason=f"has a dtype that is not read (number {number:.3g})", shape=shape)
    width, span = ITEM_BYTES[dtype], spanned(shape, strides)
    if span and (first + span) * width > member.size:
        raise Malformed(f"has a weight of shape {shape} that leaves its {member.size} bytes")
    return StoredTensor(
        path=member.archive.path,
        bytes=member,
        key=member.name,
        dtype=dtype,
        shape=shape,
        offset=first,
        strides=strides,
        room=member.archive.size,
    )


def _wholes(value: object) -> tuple[int, ...]:
    return checked_shape([_whole(each) for each in value] if isinstance(value, list) else None)


def _whole(value: object) -> object:
    """A number of the schema: {"as_int": 3}."""
    return value.get("as_int") if is_text_keyed(value) else None


def _layers(entries: Mapping[str, _Entry]) -> list[StoredLayer]:
    told = {name: each.tensor for name, each in entries.items() if each.is_parameter}
    stored = {name: each for name, each in told.items() if isinstance(each, StoredTensor)}
    weights = parameters(stored, is_told=True)
    reasons = {"gradient": NO_GRADIENTS, "moments": NO_OPTIMIZER}
    return [
        absent_layer(name, each, reasons)
        if isinstance(each, AbsentTensor)
        else StoredLayer(name=name, weight=each, reasons=reasons)
        for name, each in told.items()
        if name in weights or (isinstance(each, AbsentTensor) and each.shape is not None)
    ]
