"""Rows to train on beside checkpoints: a batch.pt would otherwise be a checkpoint of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gradscope.read.file_bytes import Foreign
from gradscope.read.rows import USUAL, bare
from gradscope.read.stored_tensor import StoredTensor

if TYPE_CHECKING:
    from collections.abc import Mapping

_BATCH: Final = (
    *("x", "y", "input", "inputs", "target", "targets", "label", "labels", "feature", "features"),
    *("data", "batch", "image", "images", "input_ids", "attention_mask", "token_type_ids"),
    *("x_train", "y_train", "x_test", "y_test", "x_val", "y_val"),
)
"""What people call the rows that a network of any kind is trained on."""
_LEAST: Final = 2
"""Entries: one called x or data proves nothing."""
_USUAL: Final = {*_BATCH, *(name for names in USUAL.values() for name in names if len(name) > 1)}


def refuse_rows(entries: Mapping[str, object]) -> None:
    """Refuse a file of nothing but rows: tensors of one number of rows, all called as rows are.

    Raises:
        Foreign: it is one.
    """
    shapes = [each.shape for each in entries.values() if isinstance(each, StoredTensor)]
    lengths = {shape[:1] for shape in shapes}
    is_trained = any(isinstance(each, StoredTensor) and each.requires_grad for each in entries.values())
    if len(shapes) < max(len(entries), _LEAST) or len(lengths) != 1 or () in lengths or is_trained:
        return
    if all(bare(name) in _USUAL for name in entries):
        advice = "Name it for your loss function: --model MODULE:FUNCTION --replay FILE."
        raise Foreign("holds rows to train on, no weights", advice)
