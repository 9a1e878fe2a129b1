"""Buffers of a model (batch norm's statistics and the like), the same at the start of every batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, kw_only=True, eq=False)
class Buffers:
    """Copies of all buffers of a model, and where they belong."""

    places: Sequence[tuple[torch.nn.Module, str, torch.Tensor]]

    def put_back(self) -> None:
        """Give the model copies of these: a forward pass in training mode changes them in place."""
        for module, name, saved in self.places:
            there = getattr(module, name)
            if isinstance(there, torch.Tensor) and there.shape == saved.shape and there.dtype == saved.dtype:
                with torch.no_grad():
                    there.copy_(saved)
            else:
                setattr(module, name, saved.clone())


def buffers_of(model: torch.nn.Module) -> Buffers:
    """The model's buffers as they are now."""
    return Buffers(
        places=[
            (module, name, buffer.detach().clone())
            for module in model.modules()
            for name, buffer in module.named_buffers(recurse=False)
        ]
    )
