"""torch checkpoints (.pt, .pth, .ckpt, .bin): zips, and the stream from before 1.6."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gradscope.read import sniff
from gradscope.read.file_bytes import head_or_nothing, reading, section_of
from gradscope.read.torch_archive import torch_archive
from gradscope.read.torch_checkpoint import checkpoint_snapshot
from gradscope.read.torch_legacy import legacy_archive
from gradscope.read.torch_saved_rows import saved_replay

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from gradscope.read.torch_archive import TorchArchive
    from gradscope.records import Replay, Snapshot


@dataclass(frozen=True, kw_only=True)
class TorchZip:
    """Reader of torch zip checkpoints: state dicts, whole modules, TorchScript, Lightning."""

    format: str = sniff.TORCH
    keys: Mapping[str, str] = field(default_factory=dict)

    def accepts(self, path: Path) -> bool:
        """Whether the first bytes are of this format."""
        return sniff.format_of(head_or_nothing(path)) == self.format

    def read(self, path: Path) -> Snapshot | Replay:
        """Open a checkpoint; no tensor is read before its layer is asked for.

        Raises:
            UnreadableFile: damaged, or no weights in it.
        """
        with reading(path):
            return _record(path, torch_archive(section_of(path)), self.format, self.keys)


@dataclass(frozen=True, kw_only=True)
class TorchLegacy:
    """Reader of the stream that torch.save wrote before 1.6."""

    format: str = sniff.TORCH_LEGACY
    keys: Mapping[str, str] = field(default_factory=dict)

    def accepts(self, path: Path) -> bool:
        """Whether the first bytes are of this format."""
        return sniff.format_of(head_or_nothing(path)) == self.format

    def read(self, path: Path) -> Snapshot | Replay:
        """Open a checkpoint; no tensor is read before its layer is asked for.

        Raises:
            UnreadableFile: damaged, or no weights in it.
        """
        with reading(path):
            return _record(path, legacy_archive(section_of(path)), self.format, self.keys)


def _record(path: Path, archive: TorchArchive, name: str, keys: Mapping[str, str]) -> Snapshot | Replay:
    """What was saved: rows where it is named like them, else a checkpoint."""
    replay = saved_replay(path, name, archive.value, keys)
    return checkpoint_snapshot(path, archive, name) if replay is None else replay
