"""Which rows of embeddings a batch looks up: only these can have a gradient."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    Rows: TypeAlias = NDArray[np.int64]

EMBEDDINGS: Final = (torch.nn.Embedding, torch.nn.EmbeddingBag)


@contextmanager
def look_ups(model: torch.nn.Module, names: Mapping[int, str]) -> Iterator[Mapping[str, Rows]]:
    """Rows looked up in the block in passes that gradients flow through, without ``padding_idx``.

    Args:
        model: whose modules are called.
        names: of its parameters, by their id.

    Yields:
        By name of the weight, filled as embeddings are called; one that is never called stays out, and one
        that is the weight of another layer too (tied): that gives every row a gradient.
    """
    found: dict[str, Rows] = {}

    def hook(module: Any, args: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        name = names.get(id(module.weight))
        numbers = args[0] if args else named.get("input")
        if (
            name is None
            or id(module.weight) in tied
            or not isinstance(numbers, torch.Tensor)
            or not torch.is_grad_enabled()
        ):
            return
        rows = np.unique(numbers.detach().cpu().numpy())
        seen = np.union1d(found.get(name, rows), rows)
        found[name] = seen if module.padding_idx is None else seen[seen != module.padding_idx]

    others = [each for each in model.modules() if not isinstance(each, EMBEDDINGS)]
    tied = {id(each) for module in others for each in module.parameters(recurse=False)}
    embeddings = [each for each in model.modules() if isinstance(each, EMBEDDINGS)]
    handles = [each.register_forward_pre_hook(hook, with_kwargs=True) for each in embeddings]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
