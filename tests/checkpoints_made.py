"""Small real checkpoints, as a user's own training loop writes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from pathlib import Path


def saved(path: Path, seed: int = 0, width: int = 4, **content: Any) -> Path:
    """A network with the gradient of one backward pass; half of its units are dead."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, width), nn.ReLU(), nn.Linear(width, 2))
    with torch.no_grad():
        model[0].bias[: width // 2] = -100
    model(torch.randn(8, 3)).square().sum().backward()
    gradients = {name: each.grad for name, each in model.named_parameters()}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"model": model.state_dict(), "grads": gradients} | content, path)
    return path
