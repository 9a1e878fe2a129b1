"""Rows of embeddings that a batch looks up, counted where they are called."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from gradscope.recompute import Refusal
from gradscope.recompute.trusted.look_ups import look_ups
from gradscope.recompute.trusted.model import RecomputedModel, recompute_model
from gradscope.run.inputs import RunSlices
from gradscope.run.tallied import tallied
from gradscope.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

SOURCE = """
import torch
from torch import nn

def make():
    words, head = nn.Embedding(10, 4, padding_idx=0), nn.Linear(4, 2)
    model = nn.ModuleDict({"words": words, "head": head})

    def loss(batch):
        seen = words(batch["tokens"])
        # Row 3 is looked up, and nothing comes back to it.
        seen = torch.where((batch["tokens"] == 3)[..., None], seen.detach(), seen)
        return nn.functional.cross_entropy(head(seen.sum(1)), batch["label"])

    return model, loss
"""
TOKENS = np.array([[1, 2, 0], [3, 5, 0], [2, 2, 7], [3, 1, 0]])


def of(model: nn.Module) -> dict[int, str]:
    return {id(each): name for name, each in model.named_parameters()}


def test_rows_are_counted_without_padding_and_without_passes_that_have_no_gradient() -> None:
    words = nn.Embedding(6, 3, padding_idx=0)
    with look_ups(words, of(words)) as found:
        words(torch.tensor([[1, 0], [4, 1]]))
        words(torch.tensor([2]))
        with torch.no_grad():
            words(torch.tensor([5]))
    words(torch.tensor([3]))
    assert found["weight"].tolist() == [1, 2, 4]
    assert not words._forward_pre_hooks


def test_bags_count_too_and_tied_weights_do_not() -> None:
    bag = nn.EmbeddingBag(6, 3)
    with look_ups(bag, of(bag)) as found:
        bag(torch.tensor([1, 5, 5]), torch.tensor([0, 2]))
    assert found["weight"].tolist() == [1, 5]
    tied = nn.ModuleDict({"words": nn.Embedding(6, 3), "head": nn.Linear(3, 6, bias=False)})
    tied["head"].weight = tied["words"].weight
    with look_ups(tied, of(tied)) as found:
        tied["words"](torch.tensor([1]))
    assert not found


def test_a_row_looked_up_in_vain_is_a_dead_input_and_a_row_not_looked_up_is_expected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    (tmp_path / "looks_up_words.py").write_text(SOURCE)
    torch.manual_seed(0)
    weights = {
        "words.weight": np.random.default_rng(0).normal(size=(10, 4)).astype(np.float32),
        "head.weight": np.random.default_rng(1).normal(size=(2, 4)).astype(np.float32),
        "head.bias": np.zeros(2, np.float32),
    }
    rows = {"tokens": TOKENS, "label": np.array([0, 1, 0, 1])}
    found = recompute_model(
        "looks_up_words:make", weights, rows, batches=1, batch_size=None, seed=0, code=tmp_path
    )
    assert isinstance(found, RecomputedModel), isinstance(found, Refusal) and found.reason
    (batch,) = found.batches()
    assert batch.looked_up["words.weight"].tolist() == [1, 2, 3, 5, 7]
    counted = tallied(found, Settings(), RunSlices(reason="no slices"))
    anatomy = counted.layers["words.weight"].counts[0].anatomy
    # Rows 0 (padding), 4, 6, 8, 9 cannot have a gradient; row 3 was looked up and has none.
    assert (anatomy.expected, anatomy.dead_input, anatomy.scattered) == (20, 4, 0)
