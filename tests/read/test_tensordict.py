"""What torch.save makes of a TensorDict: weights, and rows as torchrl lays them out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from samples_folders import small_network
from tensordict import TensorDict, lazy_stack

from gradscope.errors import UnreadableFile
from gradscope.read import open_file

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("is_inner", [True, False])
def test_weights(tmp_path: Path, *, is_inner: bool) -> None:
    network = small_network()
    saved: Any = TensorDict.from_module(network)
    torch.save({"model": saved, "step": 7} if is_inner else saved, tmp_path / "model.pt")
    snapshot: Any = open_file(tmp_path / "model.pt")
    assert snapshot.step == (7 if is_inner else None)
    assert snapshot.notes == ()
    expected = network.state_dict()
    assert set(snapshot.layers) == set(expected)
    for name, tensor in expected.items():
        np.testing.assert_array_equal(snapshot.layers[name].weight, tensor.numpy())


def test_rows_hold_what_an_action_led_to(tmp_path: Path) -> None:
    rows = TensorDict(
        {
            "observation": torch.randn(10, 4),
            "action": torch.randn(10, 2),
            "done": torch.zeros(10, 1, dtype=torch.bool),
            "terminated": torch.zeros(10, 1, dtype=torch.bool),
            "next": {
                "observation": torch.randn(10, 4),
                "reward": torch.randn(10, 1),
                "done": torch.arange(10)[:, None] % 5 == 4,
                "terminated": torch.arange(10)[:, None] == 4,
            },
        },
        batch_size=[10],
    )
    torch.save(rows, tmp_path / "rows.pt")
    replay: Any = open_file(tmp_path / "rows.pt")
    assert replay.num_rows == 10
    np.testing.assert_array_equal(replay.observations[""][:, 0], rows["observation"].numpy())
    np.testing.assert_array_equal(replay.next_observations[""][:, 0], rows["next", "observation"].numpy())
    np.testing.assert_array_equal(replay.rewards, rows["next", "reward"].numpy())
    np.testing.assert_array_equal(replay.ends, rows["next", "terminated"].float().numpy())


def test_rows_of_several_environments_are_asked_for_in_one_row(tmp_path: Path) -> None:
    entries = {"observation": torch.randn(3, 40, 2), "action": torch.randn(3, 40, 1)}
    rows = TensorDict(entries, batch_size=[3, 40])
    torch.save(rows, tmp_path / "rows.pt")
    with pytest.raises(UnreadableFile, match=r"2 axes of rows. Save td.transpose"):
        open_file(tmp_path / "rows.pt")
    torch.save(rows.transpose(0, 1).reshape(-1), tmp_path / "rows.pt")
    replay: Any = open_file(tmp_path / "rows.pt")
    expected = entries["observation"].transpose(0, 1).reshape(120, 2).numpy()
    np.testing.assert_array_equal(replay.observations[""][:, 0], expected)


def test_outcomes_beside_the_action_are_those_of_the_row_before(tmp_path: Path) -> None:
    entries = {"observation": torch.randn(9, 2), "action": torch.randn(9, 1), "done": torch.ones(9, 1)}
    following = {"observation": torch.randn(9, 2), "reward": torch.ones(9, 1)}
    torch.save(TensorDict({**entries, "next": following}, batch_size=[9]), tmp_path / "rows.pt")
    replay: Any = open_file(tmp_path / "rows.pt")
    assert replay.ends is None
    assert replay.rewards.sum() == 9


def test_a_lazy_stack_beside_weights_costs_no_weights(tmp_path: Path) -> None:
    one = TensorDict({"observation": torch.ones(3)}, batch_size=[])
    saved = {"model": small_network().state_dict(), "last": lazy_stack([one, one]), "step": 3}
    torch.save(saved, tmp_path / "model.pt")
    snapshot: Any = open_file(tmp_path / "model.pt")
    assert set(snapshot.layers) == set(small_network().state_dict())


class Made:
    """Pickled as a TensorDict of anything."""

    def __init__(self, *given: Any) -> None:
        self.given = given

    def __reduce__(self) -> Any:
        from tensordict._reductions import _make_td  # noqa: PLC0415  what a file names

        return _make_td, self.given


@pytest.mark.parametrize("attributes", [{}, {"_tensordict": 3}, 5, None])
def test_a_tensordict_of_nothing(tmp_path: Path, attributes: object) -> None:
    torch.save(Made(TensorDict, attributes), tmp_path / "model.pt")
    with pytest.raises(UnreadableFile, match="holds no weights"):
        open_file(tmp_path / "model.pt")
