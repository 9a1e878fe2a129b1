"""Weights in several files: an index in JSON that says which tensor lies in which of them.

``model.safetensors.index.json``: {"metadata": {..}, "weight_map": {tensor: file}}; the same with torch
zips is ``pytorch_model.bin.index.json`` (Hugging Face transformers, diffusers, accelerate).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from gradscope.read.checked_json import table
from gradscope.read.file_bytes import HEAD_BYTES, Foreign, Malformed, reading
from gradscope.read.folder_files import json_object, names_in, part_of, parts_named
from gradscope.read.layers import StoredLayer, inert_note, lazy_layers, lazy_state, parameters
from gradscope.read.optimizer_state import NO_OPTIMIZER
from gradscope.read.safetensors_file import safetensors_content
from gradscope.read.sniff import SAFETENSORS, TORCH, TORCH_LEGACY, format_of
from gradscope.read.sniff_folder import SAFE_INDEX, SHARDED, TORCH_INDEX, folder_format
from gradscope.read.step_name import CONTENT_KEYS, known_step
from gradscope.read.torch_archive import TORCH_DETAILS, tensors_of, torch_archive
from gradscope.read.torch_legacy import legacy_archive
from gradscope.records import Snapshot

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from gradscope.read.file_bytes import Section
    from gradscope.read.stored_tensor import StoredTensor

    Tensors = Mapping[str, StoredTensor]

MAX_SHARDS: Final = 10_000
NO_GRADIENTS: Final = "a folder of weights holds no gradients; recompute them with --model"


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Tensors of one file or of several."""

    tensors: Tensors
    metadata: Mapping[str, object] = field(default_factory=dict)
    is_in_order: bool = False
    """Whether names stand as the model lists them: safetensors are in order of the alphabet."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ShardedFolder:
    """Reader of folders with an index of weights."""

    format: str = SHARDED
    is_whole: bool = False

    def accepts(self, path: Path) -> bool:
        """Whether the folder's names are of this format."""
        return folder_format(names_in(path), ()) == self.format

    def parts(self, path: Path) -> tuple[Path, ...]:
        """The index and the files that it names."""
        names = names_in(path)
        index = index_name(names)
        try:
            shards = set(
                map(str, table(json_object(part_of(path, index, SHARDED)).get("weight_map")).values())
            )
        except Exception:  # noqa: BLE001  never raises: what is wrong with the index is told by read()
            shards = set()
        return parts_named(path, (name for name in names if name == index or name in shards))

    def read(self, path: Path) -> Snapshot:
        """Open weights; none is read before its layer is asked for.

        Raises:
            UnreadableFile: damaged, or a shard is missing.
        """
        with reading(path):
            found = sharded_weights(path, index_name(names_in(path)))
            weights = parameters(found.tensors)
            if not weights:
                raise Foreign("holds no weights")
            told = {key: found.metadata[key] for key in CONTENT_KEYS if key in found.metadata}
            known = known_step(path, told)
            reasons = {"gradient": NO_GRADIENTS, "moments": NO_OPTIMIZER}
            return Snapshot(
                source=path,
                format=self.format,
                step=known.step,
                step_from=known.step_from,
                layers=lazy_layers(
                    StoredLayer(name=name, weight=tensor, reasons=reasons) for name, tensor in weights.items()
                ),
                state=lazy_state(found.tensors),
                reasons=known.reasons,
                notes=known.notes + found.notes,
            )


def index_name(names: tuple[str, ...]) -> str:
    """The index of the folder; that of safetensors where there are several."""
    found = [name for suffix in (SAFE_INDEX, TORCH_INDEX) for name in names if name.endswith(suffix)]
    return found[0] if found else ""


def sharded_weights(folder: Path, index: str) -> Weights:
    """All tensors that an index names, each found in its shard.

    Raises:
        Malformed: the index is none, a shard is missing or lacks a tensor.
        UnreadableFile: a shard is empty, no file, or may not be read.
    """
    content = json_object(part_of(folder, index, SHARDED))
    places = table(content.get("weight_map"))
    shards = sorted({str(name) for name in places.values()})
    if not places or len(shards) > MAX_SHARDS:
        raise Malformed(f"{index[:80]} lists no tensors" if not places else f"lists {len(shards)} shards")
    opened = {name: file_weights(part_of(folder, name, index[:80])) for name in shards}
    tensors: dict[str, StoredTensor] = {}
    for name, shard in places.items():
        found = opened[str(shard)].tensors.get(name)
        if found is None:
            raise Malformed(
                f"{str(shard)[:80]!r} lacks tensor {name[:80]!r}, which {index[:80]} places there"
            )
        tensors[name] = found
    num_more = sum(len(each.tensors) for each in opened.values()) - len(tensors)
    more = (f"{num_more} tensors of the shards are not in {index[:80]} and left out",) if num_more > 0 else ()
    return Weights(
        tensors=tensors,
        metadata=table(content.get("metadata")),
        notes=(*more, *(note for each in opened.values() for note in each.notes)),
    )


def file_weights(file: Section) -> Weights:
    """Tensors of one file of safetensors, or of one of torch that is a state dict.

    Raises:
        Malformed: it is neither, or damaged.
        OSError: the file cannot be opened any more.
    """
    kind = format_of(file.read(0, min(HEAD_BYTES, file.size)))
    try:
        if kind in {TORCH, TORCH_LEGACY}:
            archive = torch_archive(file) if kind == TORCH else legacy_archive(file)
            notes = inert_note(archive.unknown, TORCH_DETAILS)
            return Weights(tensors=tensors_of(archive.value), is_in_order=True, notes=notes)
        if kind == SAFETENSORS:
            return Weights(tensors=safetensors_content(file).tensors)
    except Malformed as error:
        raise Malformed(f"{file.path.name[:80]} {error.problem}", error.advice) from error
    raise Malformed(f"{file.path.name[:80]} is no file of safetensors and none of torch")
