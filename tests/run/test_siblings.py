"""Stored gradients of plain torch checkpoints: what a layer's neighbours in the file tell of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils import prune

from gradscope import scan
from gradscope.records import Layer, LayerGradient, ZeroAnatomy
from gradscope.run.siblings import stored_facts

if TYPE_CHECKING:
    from pathlib import Path


class Model(nn.Module):
    """An LSTM, a pruned layer and attention."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = nn.LSTM(3, 5, batch_first=True)
        self.attention = nn.MultiheadAttention(5, 1, batch_first=True)
        self.head = nn.Linear(5, 4)
        prune.random_unstructured(self.head, "weight", amount=0.5)  # type: ignore[no-untyped-call]

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        bars, _ = self.memory(rows)
        mixed, _ = self.attention(bars, bars, bars)
        return self.head(mixed)  # type: ignore[no-any-return]


def measured(folder: Path, model: nn.Module, rows: torch.Tensor) -> dict[str, LayerGradient]:
    model(rows).square().sum().backward()
    gradients = {name: each.grad for name, each in model.named_parameters() if each.grad is not None}
    torch.save({"model": model.state_dict(), "grads": gradients, "step": 10}, folder / "model_10.pt")
    return {each.name: each for each in scan(folder).snapshots[0].layers}


def test_gates_masks_and_flat_inputs_are_told_by_the_file_alone(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, rows = Model(), torch.randn(8, 4, 3)
    rows[..., 1] = 0.25
    found = measured(tmp_path, model, rows)
    pruned = found["head.weight_orig"]
    assert pruned.anatomy == ZeroAnatomy(expected=10)
    assert pruned.status == "ok"
    bias = found["attention.in_proj_bias"].anatomy
    assert bias is not None
    assert (bias.dead_unit, bias.whole_layer) == (0, 0)
    memory = found["memory.weight_ih_l0"].details
    assert memory is not None
    assert memory.parallel_inputs == (1,)
    assert abs(memory.parallel_constants[0] - 0.25) < 1e-3


def test_a_unit_of_a_stored_lstm_is_dead_in_all_gates(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, rows = Model(), torch.randn(8, 4, 3)
    with torch.no_grad():
        model.memory.weight_hh_l0[:, 2] = 0
        model.attention.in_proj_weight[:, 2] = 0
    found = measured(tmp_path, model, rows)
    for name, width in (("memory.weight_ih_l0", 3), ("memory.weight_hh_l0", 5)):
        assert found[name].anatomy == ZeroAnatomy(dead_unit=4 * width)
        details = found[name].details
        assert details is not None
        assert details.dead_units == (2,)


def layer(name: str, shape: tuple[int, ...], module: str | None = None, **more: Any) -> Layer:
    return Layer(name=name, shape=shape, dtype="float32", module=module, **more)


def test_a_bias_has_no_effect_only_before_a_known_batch_norm() -> None:
    bias, norm = layer("net.0.bias", (6,), "Linear"), layer("net.1.weight", (6,), "BatchNorm1d")
    assert stored_facts(bias, {norm.name: norm}).has_no_effect
    for other in (
        layer("net.1.weight", (6,), "LayerNorm"),
        layer("net.1.weight", (6,)),
        layer("net.1.weight", (5,), "BatchNorm1d"),
        layer("net.2.weight", (6,), "BatchNorm1d"),
    ):
        assert not stored_facts(bias, {other.name: other}).has_no_effect
    assert not stored_facts(norm, {norm.name: norm}).has_no_effect


def test_what_is_no_mask_prunes_nothing() -> None:
    weight = layer("head.weight_orig", (2, 2))
    mask = layer("head.weight_mask", (2, 2), weight=np.eye(2))
    assert stored_facts(weight, {mask.name: mask}).masked is not None
    assert stored_facts(weight, {}).masked is None
    assert stored_facts(layer("head.weight", (2, 2)), {mask.name: mask}).masked is None
