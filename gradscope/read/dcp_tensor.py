"""A tensor that several processes wrote in chunks, put together when it is asked for."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradscope.read.file_bytes import Malformed
from gradscope.read.stored_tensor import ITEM_BYTES, StoredTensor
from gradscope.read.torch_archive import torch_archive

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from gradscope.read.dcp_metadata import Chunk, DcpTensor


@dataclass(frozen=True, kw_only=True)
class Assembled:
    """The bytes of a whole tensor in C order, read from its chunks' own torch zips."""

    tensor: DcpTensor
    size: int

    def read(self, start: int, size: int) -> bytes:
        """A range of the tensor's bytes.

        Raises:
            Malformed: a chunk is damaged, or is not what ``.metadata`` says.
            OSError: a file cannot be opened any more.
        """
        return self._whole().tobytes()[start : start + size]

    def _whole(self) -> NDArray[Any]:
        chunks, shape = self.tensor.chunks, self.tensor.shape
        if len(chunks) == 1:
            return _block(self.tensor, chunks[0])
        first = _block(self.tensor, chunks[0])
        whole, covered = np.empty(shape, first.dtype), np.zeros(shape, np.bool_)
        for chunk in chunks:
            place = tuple(
                slice(start, start + size) for start, size in zip(chunk.offsets, chunk.sizes, strict=True)
            )
            whole[place] = _block(self.tensor, chunk)
            covered[place] = True
        if not covered.all():
            raise Malformed(f"holds parts of tensor {self.tensor.name[:80]!r} twice and others not at all")
        return whole


def stored(tensor: DcpTensor, folder: Path) -> StoredTensor:
    """The tensor as all readers know it; errors name the folder."""
    size = ITEM_BYTES[tensor.dtype] * int(np.prod(tensor.shape, dtype=object))
    return StoredTensor(
        path=folder,
        bytes=Assembled(tensor=tensor, size=size),
        key=tensor.name,
        dtype=tensor.dtype,
        shape=tensor.shape,
        is_big_endian=sys.byteorder == "big",
    )


def _block(tensor: DcpTensor, chunk: Chunk) -> NDArray[Any]:
    value = torch_archive(chunk.slice).value
    if not isinstance(value, StoredTensor) or (value.shape, value.dtype) != (chunk.sizes, tensor.dtype):
        raise Malformed(f"has a slice that is not the chunk of tensor {tensor.name[:80]!r} it should be")
    return value.array()
