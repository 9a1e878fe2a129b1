"""Samples that torch writes beside its zips: the stream from before 1.6, an exported program."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from pathlib import Path


def legacy_file(folder: Path, _: object) -> Path:
    content = {"model": torch.nn.Linear(3, 2).state_dict(), "step": 3}
    torch.save(content, folder / "legacy.pt", _use_new_zipfile_serialization=False)
    return folder / "legacy.pt"


def exported_file(folder: Path, _: object) -> Path:
    program = torch.export.export(torch.nn.Linear(3, 2), (torch.ones(1, 3),))
    torch.export.save(program, folder / "program.pt2")
    return folder / "program.pt2"
