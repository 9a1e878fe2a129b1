"""Optimizer evidence of one layer, or why there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gradscope.measure import optimizer_evidence

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gradscope.records import Layer, OptimizerEvidence

NO_MOMENTS: Final = "the file holds no optimizer state of this layer"


def layer_evidence(
    layer: Layer, gradient: NDArray[Any] | None = None
) -> tuple[OptimizerEvidence | None, str]:
    """What the saved optimizer state of a layer tells; works without any gradient.

    Args:
        layer: with its moments, as a checkpoint's reader gives it.
        gradient: of one batch, of the layer's shape, recomputed; without it the layer's stored one is
            taken. The activity rate needs one.

    Returns:
        The evidence and ""; or None and the reason why there is no state to look at.
    """
    if not layer.moments:
        return None, layer.reasons.get("moments", NO_MOMENTS)
    gradient = layer.gradient if gradient is None else gradient
    evidence = optimizer_evidence(layer.moments, layer.moment_settings, shape=layer.shape, gradient=gradient)
    return evidence, ""
