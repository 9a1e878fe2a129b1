"""Keys that are no texts: numbered agents, a stray number in a state dict, keys that name nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from gradscope.read import open_file

if TYPE_CHECKING:
    from pathlib import Path


def opened(content: Any, folder: Path) -> Any:
    torch.save(content, folder / "checkpoint.pt")
    return open_file(folder / "checkpoint.pt")


def test_numbered_agents(tmp_path: Path) -> None:
    agents = {number: torch.nn.Linear(3, 2).state_dict() for number in (0, 1)}
    found = opened({"agents": agents, "step": 7, 3: "stray"}, tmp_path)
    assert found.step == 7
    assert sorted(found.layers) == ["agents.0.bias", "agents.0.weight", "agents.1.bias", "agents.1.weight"]
    for number, state in agents.items():
        np.testing.assert_array_equal(found.layers[f"agents.{number}.weight"].weight, state["weight"].numpy())


@pytest.mark.parametrize("stray", [3, 2.5, None, (1, 2), b"x", True])
def test_a_stray_key_costs_no_weights(stray: Any, tmp_path: Path) -> None:
    state = torch.nn.Linear(3, 2).state_dict()
    content = {**state, stray: torch.ones(2)}
    gradients = {name: torch.zeros_like(each) for name, each in state.items()}
    found = opened({"model": content, "grads": {**gradients, stray: torch.ones(2)}, stray: 1}, tmp_path)
    for name in state:
        np.testing.assert_array_equal(found.layers[name].weight, state[name].numpy())
        assert not found.layers[name].gradient.any()
    assert set(found.layers) - set(state) <= {"3"}
