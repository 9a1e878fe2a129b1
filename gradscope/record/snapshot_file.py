"""The recorder's snapshot: gradients and their batch as safetensors, so that reading it runs nothing."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import safetensors.torch

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch


def write_snapshot(
    path: Path, *, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, object]
) -> None:
    """Write the whole file or nothing: under another name first, then renamed in one move."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    try:
        safetensors.torch.save_file(whole, unfinished, {"gradscope": json.dumps(metadata, allow_nan=False)})
        # safetensors makes private files; a checkpoint beside it is an ordinary one.
        umask = os.umask(0)
        os.umask(umask)
        unfinished.chmod(0o666 & ~umask)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
