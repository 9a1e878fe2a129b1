"""Safetensors: a JSON header with names, dtypes, shapes and ranges, then the bytes.

Read by hand: the library maps whole files, and its header check cannot be bounded.
Format: github.com/huggingface/safetensors, README "Format".
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from gradscope.read import sniff
from gradscope.read.batch_names import refuse_rows
from gradscope.read.file_bytes import Malformed, head_or_nothing, reading, section_of
from gradscope.read.layers import StoredLayer, lazy_layers, lazy_state, parameters
from gradscope.read.numpy_pickle import checked_shape
from gradscope.read.optimizer_state import NO_OPTIMIZER
from gradscope.read.pickle_stubs import is_text_keyed
from gradscope.read.step_name import CONTENT_KEYS, known_step
from gradscope.read.stored_tensor import ITEM_BYTES, StoredTensor
from gradscope.records import Snapshot

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from gradscope.read.file_bytes import Section

MAX_HEADER_BYTES: Final = 100_000_000
"""The library's own limit."""
NO_GRADIENTS: Final = "a safetensors file of weights holds no gradients"
_LENGTH_BYTES: Final = 8
_DTYPES: Final[Mapping[str, str]] = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "C64": "complex64",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
}


@dataclass(frozen=True, kw_only=True)
class SafetensorsContent:
    """Tensors of the file in order of their bytes, and its text entries."""

    tensors: Mapping[str, StoredTensor]
    metadata: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class SafetensorsFile:
    """Reader of weights in safetensors."""

    format: str = sniff.SAFETENSORS

    def accepts(self, path: Path) -> bool:
        """Whether the first bytes are of this format."""
        return sniff.format_of(head_or_nothing(path)) == self.format

    def read(self, path: Path) -> Snapshot:
        """Open weights; none is read before its layer is asked for.

        Raises:
            UnreadableFile: damaged, or no weights in it.
        """
        with reading(path):
            content = safetensors_content(section_of(path))
            refuse_rows(content.tensors)
            weights = parameters(content.tensors)
            if not weights:
                raise Malformed("holds no weights", "Leave it out.")
            known = known_step(path, _step_content(content.metadata))
            reasons = {"gradient": NO_GRADIENTS, "moments": NO_OPTIMIZER}
            return Snapshot(
                source=path,
                format=self.format,
                step=known.step,
                step_from=known.step_from,
                layers=lazy_layers(
                    StoredLayer(name=name, weight=tensor, reasons=reasons) for name, tensor in weights.items()
                ),
                state=lazy_state(content.tensors),
                reasons=known.reasons,
                notes=known.notes,
            )


def safetensors_content(file: Section) -> SafetensorsContent:
    """Header of a file, checked against the bytes there are.

    Raises:
        Malformed: a header that lies about lengths, shapes or ranges.
        OSError: the file cannot be opened any more.
    """
    header, data = _header(file)
    metadata = header.pop("__metadata__", {})
    if not is_text_keyed(metadata) or not all(isinstance(text, str) for text in metadata.values()):
        raise Malformed("has metadata that are no texts")
    tensors = [_tensor(name, entry, data) for name, entry in header.items()]
    tensors.sort(key=lambda tensor: (tensor.bytes.start, tensor.bytes.size))
    for before, after in pairwise(tensors):
        if after.bytes.start < before.bytes.start + before.bytes.size:
            problem = f"has tensors {before.key[:80]!r} and {after.key[:80]!r} in the same bytes"
            raise Malformed(problem, "Leave it out: the format does not allow it.")
    return SafetensorsContent(
        tensors={tensor.key: tensor.stored() for tensor in tensors},
        metadata={key: str(text) for key, text in metadata.items()},
    )


@dataclass(frozen=True, kw_only=True)
class _Entry:
    key: str
    bytes: Section
    dtype: str
    shape: tuple[int, ...]

    def stored(self) -> StoredTensor:
        return StoredTensor(
            path=self.bytes.path, bytes=self.bytes, key=self.key, dtype=self.dtype, shape=self.shape
        )


def _header(file: Section) -> tuple[dict[str, object], Section]:
    length = int.from_bytes(file.read(0, min(_LENGTH_BYTES, file.size)), "little")
    if length > min(file.size - _LENGTH_BYTES, MAX_HEADER_BYTES):
        raise Malformed(f"claims a header of {length} bytes in a file of {file.size}")
    try:
        header = json.loads(file.read(_LENGTH_BYTES, length))
    except (ValueError, RecursionError) as error:
        raise Malformed("has a header that is no JSON") from error
    if not is_text_keyed(header):
        raise Malformed("has a header that is no JSON object")
    start = _LENGTH_BYTES + length
    return header, file.part(start, file.size - start)


def _tensor(name: str, entry: object, data: Section) -> _Entry:
    if not is_text_keyed(entry):
        raise Malformed(f"has no description of tensor {name[:80]!r}")
    code, dtype, offsets = entry.get("dtype"), None, entry.get("data_offsets")
    dtype = _DTYPES.get(code) if isinstance(code, str) else None
    if dtype is None:
        raise Malformed(f"has a tensor {name[:80]!r} of unknown dtype")
    shape = checked_shape(entry.get("shape"))
    start, end = checked_shape(offsets) if isinstance(offsets, list) and len(offsets) == 2 else (0, -1)  # noqa: PLR2004
    if end - start != math.prod(shape) * ITEM_BYTES[dtype]:
        raise Malformed(f"has a tensor {name[:80]!r} whose shape and range differ")
    return _Entry(key=name, bytes=data.part(start, end - start), dtype=dtype, shape=shape)


def _step_content(metadata: Mapping[str, str]) -> Mapping[str, object]:
    """Metadata are texts: a step is one of few digits."""
    return {
        key: int(text) if text.isascii() and text.isdigit() and len(text) < 30 else text  # noqa: PLR2004
        for key in CONTENT_KEYS
        if (text := metadata.get(key)) is not None
    }
