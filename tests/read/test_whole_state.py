"""A checkpoint's whole state dict, as a model of the user's is loaded with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from gradscope.errors import UnreadableFile
from gradscope.read import open_file

if TYPE_CHECKING:
    from pathlib import Path


def model() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Embedding(5, 2))


def assert_whole(path: Path, expected: torch.nn.Module) -> None:
    found = open_file(path).state
    assert list(found) == list(expected.state_dict())
    for name, tensor in expected.state_dict().items():
        np.testing.assert_array_equal(found[name], tensor.numpy())
        assert found[name].dtype == tensor.numpy().dtype


@pytest.mark.parametrize("key", [None, "model", "state_dict", "model_state_dict", "net"])
def test_parameters_and_buffers_in_file_order(key: str | None, tmp_path: Path) -> None:
    own = model()
    content: Any = own.state_dict() if key is None else {"step": 3, key: own.state_dict(), "optimizer": {}}
    torch.save(content, tmp_path / "checkpoint.pt")
    assert_whole(tmp_path / "checkpoint.pt", own)
    assert "1.num_batches_tracked" in open_file(tmp_path / "checkpoint.pt").state


def test_safetensors(tmp_path: Path) -> None:
    own = model()
    save_file(own.state_dict(), tmp_path / "model.safetensors")
    found = open_file(tmp_path / "model.safetensors").state
    assert set(found) == set(own.state_dict())
    np.testing.assert_array_equal(found["0.weight"], own.state_dict()["0.weight"].numpy())


@pytest.mark.parametrize("content", [{"step": 3}, [1, 2], {"optimizer": {"state": {}}}])
def test_without_weights(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "checkpoint.pt")
    with pytest.raises(UnreadableFile, match="holds no weights"):
        open_file(tmp_path / "checkpoint.pt")


def test_another_format(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(b"nothing of the kind")
    with pytest.raises(UnreadableFile):
        open_file(tmp_path / "checkpoint.pt")
