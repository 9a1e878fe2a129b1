"""What recomputing gives, whatever the algorithm: gradients of a batch, or a refusal."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from gradscope.records import Clipping


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why no gradient is recomputed."""

    reason: str


@dataclass(frozen=True, kw_only=True, eq=False)
class BatchGradients:
    """What the optimizers see of one batch, after clipping."""

    gradients: Mapping[str, NDArray[Any]]
    """float32 by layer, in file order; one that the losses did not reach is missing."""
    clipping: Clipping
    """Norm before clipping (Euclidean, over all layers) and the coefficient."""
    observations: Mapping[str, NDArray[Any]]
    """The batch's rows as the buffer stores them, key "" for a plain space: [rows, *shape]."""
    actions: NDArray[Any] | None = None
    """Taken, [rows, 1], where they are discrete and only their outputs enter the loss."""
    num_actions: int | None = None
    looked_up: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """Rows of embeddings that the batch used, by layer, where somebody counted."""
