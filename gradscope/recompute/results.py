"""What recomputing gives, whatever the algorithm: gradients of a batch, or a refusal."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    from numpy.typing import NDArray

    from gradscope.recompute.batches import Drawing
    from gradscope.recompute.changes import Change
    from gradscope.recompute.rollout_drawing import RolloutDrawing
    from gradscope.recompute.trusted.model_drawing import ModelDrawing
    from gradscope.records import Clipping

D = TypeVar("D", "Drawing", "RolloutDrawing", "ModelDrawing")


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


@dataclass(frozen=True, kw_only=True, eq=False)
class OverBatches(Generic[D]):
    """What every recomputation tells beside its gradients, and how its batches are drawn."""

    layers: tuple[str, ...]
    """Those that get gradients (through user code: in the first batch), in file order."""
    layer_reasons: Mapping[str, str] = field(default_factory=dict)
    """Layers that get none, each with its reason."""
    reasons: Mapping[str, str]
    """What else to know: policy_delay, target_network, learning_rate, replay, batch_size, ..."""
    modules: Mapping[str, str] = field(default_factory=dict)
    """Type of the module that owns a layer (MultiheadAttention, ...), where it matters for its zeros."""
    drawing: D
    """Which batches are drawn."""

    @property
    def num_batches(self) -> int:
        """Batches."""
        return self.drawing.num_batches

    @property
    def batch_size(self) -> int:
        """Rows of a batch."""
        return self.drawing.batch_size

    @property
    def seed(self) -> int:
        """As given to set_random_seed: torch's and numpy's."""
        return self.drawing.seed

    def intervened(
        self, *, num_batches: int, change: Change | None = None, allowed: NDArray[Any] | None = None
    ) -> Self:
        """The same weights and draws on changed inputs, or on rows of ``allowed`` numbers only."""
        drawing = replace(self.drawing, num_batches=num_batches, change=change, allowed=allowed)
        return replace(self, drawing=drawing)
