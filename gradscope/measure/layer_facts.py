"""What is known of a layer beside its gradient: it decides which zeros are expected, and what a unit is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Array: TypeAlias = NDArray[Any]
    Shape: TypeAlias = tuple[int, ...]

ATTENTION: Final = "MultiheadAttention"
GATES: Final[dict[str, tuple[str, ...]]] = {
    "LSTM": ("input gate", "forget gate", "cell", "output gate"),
    "GRU": ("reset gate", "update gate", "new gate"),
    "RNN": (),
}
"""Stacked along index 0 in this order (torch.nn.LSTM, torch.nn.GRU)."""
PROJECTIONS: Final = ("query", "key", "value")
"""Stacked along index 0 of in_proj_weight and in_proj_bias (torch.nn.MultiheadAttention)."""
EMBEDDINGS: Final = ("Embedding", "EmbeddingBag")
_TRANSPOSED: Final = re.compile(r"(Lazy)?ConvTranspose[123]d")
_OVER_THE_BATCH: Final = re.compile(r"(Lazy)?(SyncBatchNorm|(BatchNorm|InstanceNorm)[123]d)")
"""They take the mean of each feature away, and a bias before them with it. A layer norm takes away what
all features have in common: each single bias before it has an effect."""
_RECURRENT: Final = re.compile(r"(weight|bias)_([ih]h)(_l\d+(_reverse)?)?")
_NUMBERED: Final = re.compile(r"(.*\.|)(\d+)\.bias")


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerFacts:
    """What is known of one layer; where nothing is, nothing is guessed."""

    module: str | None = None
    """Type of the owning module."""
    looked_up: NDArray[np.integer[Any]] | None = None
    """Rows of an embedding that the batch used, without its padding_idx: others never get a gradient."""
    masked: NDArray[np.bool_] | None = None
    """True where a weight is pruned; of the gradient's shape."""
    has_no_effect: bool = False
    """A bias that the following batch norm takes away again."""
    has_key_row: bool = False
    """Attention with a learned key (bias_k): its key bias does have an effect."""


NOTHING: Final = LayerFacts()


def layer_facts(
    shapes: Mapping[str, Shape], modules: Mapping[str, str] | None = None
) -> dict[str, LayerFacts]:
    """Facts that names, shapes and module types prove, of layers that stand in one model.

    An LSTM, a GRU or an RNN is told by ``weight_hh`` (4, 3 or 1 rows a unit), attention by
    ``in_proj_bias`` or ``in_proj_weight``. A bias has no effect where module types say that the next of
    numbered modules is a batch or instance norm of the same width.

    Args:
        shapes: of all layers, by name.
        modules: type of the module that owns a layer, where known.
    """
    known = modules or {}
    return {
        name: LayerFacts(
            module=known.get(name) or _told_by_name(name, shapes),
            has_no_effect=_is_taken_away(name, shapes, known),
            has_key_row=_sibling(name, "bias_k") in shapes,
        )
        for name in shapes
    }


def expected_places(gradient: Array, name: str, facts: LayerFacts) -> NDArray[np.bool_] | None:
    """Elements that cannot have a gradient, a mask (or a view of one) of the gradient's shape; None: none."""
    if facts.masked is not None and facts.masked.shape == gradient.shape:
        return facts.masked
    if gradient.ndim == 1:
        return _expected_elements(gradient, name, facts)
    if facts.module in EMBEDDINGS and gradient.ndim == 2:  # noqa: PLR2004 - entries, dimensions
        rows = _unused_rows(gradient, facts)
        return np.broadcast_to(rows[:, None], gradient.shape) if rows.any() else None
    return None


def is_swapped(gradient: Array, facts: LayerFacts) -> bool:
    """Whether index 0 is the input and index 1 the unit: embeddings and transposed convolutions."""
    if facts.module in EMBEDDINGS:
        return gradient.ndim == 2  # noqa: PLR2004 - entries, dimensions
    return bool(_TRANSPOSED.fullmatch(facts.module or "")) and gradient.ndim > 2  # noqa: PLR2004 - a kernel


def block_names(gradient: Array, name: str, facts: LayerFacts) -> tuple[str, ...]:
    """What is stacked along index 0, in order; () where nothing is, or it is not known."""
    leaf = name.rpartition(".")[2]
    names: tuple[str, ...] = ()
    if leaf in {"in_proj_weight", "in_proj_bias"} and facts.module in {None, ATTENTION}:
        names = PROJECTIONS
    elif _RECURRENT.fullmatch(leaf):
        names = GATES.get((facts.module or _cell_of(gradient.shape, leaf) or "").removesuffix("Cell"), ())
    return names if names and gradient.shape[0] % len(names) == 0 else ()


def is_gated(name: str) -> bool:
    """Whether blocks are the gates of shared units, not units of their own as queries, keys and values."""
    return _RECURRENT.fullmatch(name.rpartition(".")[2]) is not None


def _expected_elements(gradient: Array, name: str, facts: LayerFacts) -> NDArray[np.bool_] | None:
    if facts.has_no_effect:
        return np.ones(gradient.shape, dtype=bool)
    leaf = name.rpartition(".")[2]
    if leaf != "in_proj_bias" or facts.has_key_row or not block_names(gradient, name, facts):
        return None
    # Softmax ignores a shift common to all keys.
    places = np.zeros(gradient.shape, dtype=bool)
    third = gradient.size // 3
    places[third : 2 * third] = True
    return places


def _unused_rows(gradient: Array, facts: LayerFacts) -> NDArray[np.bool_]:
    """Rows that were not looked up; where nobody counted, rows of exact zeros beside others that are not."""
    rows = np.ones(len(gradient), dtype=bool)
    if facts.looked_up is None:
        rows[gradient.any(axis=1)] = False
        rows &= not rows.all()
    else:
        rows[facts.looked_up] = False
    return rows


def _told_by_name(name: str, shapes: Mapping[str, Shape]) -> str | None:
    leaf = name.rpartition(".")[2]
    if leaf in {"in_proj_bias", "in_proj_weight"}:
        return ATTENTION
    match = _RECURRENT.fullmatch(leaf)
    if match is None:
        return None
    hidden = f"weight_hh{match[3] or ''}"
    return _cell_of(shapes.get(_sibling(name, hidden), ()), hidden)


def _cell_of(shape: Shape, leaf: str) -> str | None:
    """LSTM, GRU or RNN by the rows of ``weight_hh``; an LSTM that projects has more than 4 a unit."""
    if not leaf.startswith("weight_hh") or len(shape) != 2 or not shape[1]:  # noqa: PLR2004 - a matrix
        return None
    gates = shape[0] / shape[1]
    return {1.0: "RNN", 3.0: "GRU"}.get(gates, "LSTM" if gates >= len(GATES["LSTM"]) else None)


def _sibling(name: str, leaf: str) -> str:
    owner, dot, _ = name.rpartition(".")
    return f"{owner}{dot}{leaf}"


def _is_taken_away(name: str, shapes: Mapping[str, Shape], modules: Mapping[str, str]) -> bool:
    match = _NUMBERED.fullmatch(name)
    if match is None or _OVER_THE_BATCH.fullmatch(modules.get(name, "")):
        return False
    following = f"{match[1]}{int(match[2]) + 1}.weight"
    is_norm = _OVER_THE_BATCH.fullmatch(modules.get(following, ""))
    return is_norm is not None and shapes.get(following) == shapes[name]
