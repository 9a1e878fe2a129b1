"""All tensors of a checkpoint's model, buffers among them: what a model of the user's is loaded with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradscope.read import sniff
from gradscope.read.file_bytes import Malformed, head_of, reading, section_of
from gradscope.read.pickle_stubs import is_text_keyed
from gradscope.read.safetensors_file import safetensors_content
from gradscope.read.stored_tensor import OnDemand, StoredTensor
from gradscope.read.torch_archive import tensors_of, torch_archive
from gradscope.read.torch_zip import WEIGHT_KEYS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    Array = NDArray[Any]


def state_dict(path: Path) -> Mapping[str, Array]:
    """Tensors of the state dict that a torch zip or a safetensors file is, or holds under a usual key.

    In file order, each read when it is asked for.

    Raises:
        UnreadableFile: damaged, or no tensors in it.
    """
    with reading(path):
        if sniff.format_of(head_of(path)) == sniff.SAFETENSORS:
            found = safetensors_content(section_of(path)).tensors
        else:
            found = _weights(torch_archive(section_of(path)).value)
        if not found:
            raise Malformed("holds no weights", "Save model.state_dict(), alone or under 'model'.")
        return OnDemand({name: each.array for name, each in found.items()})


def _weights(value: object) -> Mapping[str, StoredTensor]:
    if is_text_keyed(value):
        for key in WEIGHT_KEYS:
            if found := tensors_of(value.get(key)):
                return found
    return tensors_of(value)
