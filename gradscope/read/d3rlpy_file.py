"""d3rlpy's ``.d3``: a pickle of a torch zip, the configuration as JSON, and the version."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Final

from gradscope.read import sniff
from gradscope.read.d3rlpy_content import algorithm_of, d3rlpy_layers, d3rlpy_tensors
from gradscope.read.file_bytes import Malformed, head_or_nothing, reading, section_of
from gradscope.read.layers import inert_note, lazy_layers, lazy_state
from gradscope.read.pickle_stubs import is_text_keyed
from gradscope.read.safe_pickle import unpickled
from gradscope.read.step_name import known_step
from gradscope.read.torch_archive import TORCH_DETAILS, torch_archive
from gradscope.records import Snapshot

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from gradscope.read.file_bytes import Bytes, Section

_COMPARED: Final = 64
"""Bytes by which the inner zip is looked for; then all of it is compared."""


@dataclass(frozen=True, kw_only=True)
class D3rlpyFile:
    """Reader of d3rlpy's models."""

    format: str = sniff.D3RLPY

    def accepts(self, path: Path) -> bool:
        """Whether the first bytes are of this format."""
        return sniff.format_of(head_or_nothing(path)) == self.format

    def read(self, path: Path) -> Snapshot:
        """Open a model; no weight is read before its layer is asked for.

        Raises:
            UnreadableFile: damaged, or no networks in it.
        """
        with reading(path):
            entries, unknown, inner = _parts(section_of(path))
            archive = torch_archive(inner)
            layers = d3rlpy_layers(archive.value)
            if not layers:
                raise Malformed("holds no networks", "Leave it out.")
            known = known_step(path, {})
            return Snapshot(
                source=path,
                format=self.format,
                step=known.step,
                step_from=known.step_from,
                layers=lazy_layers(layers),
                state=lazy_state(d3rlpy_tensors(archive.value)),
                algorithm=algorithm_of(entries.get("config")),
                reasons=known.reasons,
                notes=known.notes + inert_note((*unknown, *archive.unknown), TORCH_DETAILS),
            )


def num_elements(path: Path) -> Mapping[str, int]:
    """Elements of each tensor of a model, by name; no tensor is read.

    Raises:
        UnreadableFile: damaged, or no d3rlpy model.
    """
    with reading(path):
        _, _, inner = _parts(section_of(path))
        return {name: prod(each.shape) for name, each in d3rlpy_tensors(torch_archive(inner).value).items()}


def _parts(file: Section) -> tuple[Mapping[str, object], tuple[str, ...], Section]:
    """Entries of the pickle, names that only got a stub, and the torch zip as a range of the file."""
    content = file.content()
    found = unpickled(content, {})
    entries = found.value if is_text_keyed(found.value) else {}
    inner = entries.get("torch")
    if not isinstance(inner, (bytes, memoryview)):
        raise Malformed("holds no torch archive")
    return entries, found.unknown, file.part(_place(content, inner), len(inner))


def _place(content: Bytes, inner: bytes | memoryview) -> int:
    """Where the archive begins in the file; whatever place is found holds the very same bytes."""
    start = content.find(bytes(inner[:_COMPARED]))
    if start < 0 or memoryview(content)[start : start + len(inner)] != inner:
        raise Malformed("holds a torch archive that is hidden in it", "Leave it out: it was altered.")
    return start
