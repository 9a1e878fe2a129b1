"""A network wrapped for training (DDP, torch.compile) and gradients named without the wrapper, or so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from run.run_folders import recorded, rows
from torch import nn

from gradscope import scan
from gradscope.records.wrapped import bare, names_as

if TYPE_CHECKING:
    from pathlib import Path


def network() -> Any:
    made = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    made(torch.ones(2, 4)).sum().backward()
    return made


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod.", "module._orig_mod."])
@pytest.mark.parametrize("is_weight", [True, False])
def test_stored_gradients_join_the_weights(tmp_path: Path, wrapper: str, *, is_weight: bool) -> None:
    made = network()
    weights = {name: each.detach() for name, each in made.named_parameters()}
    gradients = {name: each.grad for name, each in made.named_parameters()}
    wrapped = {wrapper + name: each for name, each in (weights if is_weight else gradients).items()}
    saved = {"model": wrapped, "grads": gradients} if is_weight else {"model": weights, "grads": wrapped}
    torch.save(saved, tmp_path / "model_7.pt")
    (found,) = scan(tmp_path).snapshots
    assert [each.name for each in found.layers] == list(saved["model"])
    assert all(each.num_zero is not None for each in found.layers)
    norm = torch.linalg.vector_norm(torch.cat([each.flatten() for each in gradients.values()]))
    assert found.norm == pytest.approx(norm.item(), rel=1e-6)


def test_a_recorder_file_joins_a_checkpoint_saved_while_wrapped(tmp_path: Path) -> None:
    torch.save(
        {"model": {"module.net.weight": torch.zeros(8, 4)}, "step": 5}, tmp_path / "rl_model_5_steps.pt"
    )
    recorded(tmp_path, 5, rows(10, 0.5), 5)
    (found,) = scan(tmp_path).snapshots
    assert [each.name for each in found.layers] == ["module.net.weight"]
    assert found.layers[0].num_zero is not None


@pytest.mark.parametrize(
    ("own", "names", "expected"),
    [
        (["a.w"], ["module.a.w"], ["module.a.w"]),
        (["module.a.w"], ["a.w"], ["a.w"]),
        (["a._orig_mod.w"], ["a.w"], ["a.w"]),
        (["a.w", "b.w"], ["module.a.w"], ["module.a.w", "b.w"]),
        (["a.w"], ["a.w", "module.a.w"], ["a.w"]),
        (["a.w", "module.a.w"], ["_orig_mod.a.w"], ["a.w", "module.a.w"]),
        (["a.w", "b.w"], ["a.w", "module.b.w"], ["a.w", "b.w"]),
        (["a.w"], [], ["a.w"]),
    ],
)
def test_names(own: list[str], names: list[str], expected: list[str]) -> None:
    assert names_as(own, names) == dict(zip(own, expected, strict=True))


def test_a_network_called_module_keeps_a_name() -> None:
    assert bare("module") == "module"
