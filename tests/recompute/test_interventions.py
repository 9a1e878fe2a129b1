"""Changed inputs against the same recomputation on a buffer whose rows were changed by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from makers import sb3_ring
from recompute.library import Case, Files, assert_equal, trained
from recompute.rollout_library import BOX, OnPolicyCase, trained_on_policy
from recompute.user_agents import importable, trusted

from gradscope.read.sb3_training import sb3_training
from gradscope.recompute import Recomputed, recompute_gradients
from gradscope.recompute.batches import batch, draws
from gradscope.recompute.changes import Columns, flat, permuted, rescaled
from gradscope.recompute.trusted.model_drawing import ModelDrawing

if TYPE_CHECKING:
    from pathlib import Path

    from gradscope.recompute.rollout_gradients import RecomputedRollout
    from gradscope.records import Ring

    Array = np.ndarray[Any, Any]

torch.set_num_threads(1)

LAST = np.zeros((2, 3), dtype=bool)
LAST[:, 2] = True
COLUMN = Columns(key="", where=LAST)
"""The third column in both bars of ``World``'s observation."""
CASES = {
    "DQN": Case(algorithm="DQN", num_environments=2),
    "SAC shared": Case(
        algorithm="SAC",
        options={
            "optimize_memory_usage": True,
            "replay_buffer_kwargs": {"handle_timeout_termination": False},
        },
    ),
    "TD3 n-step": Case(algorithm="TD3", options={"n_steps": 3}),
}


@pytest.fixture(scope="module", params=CASES)
def checkpoint(request: Any, tmp_path_factory: Any) -> Files:
    return trained(CASES[request.param], tmp_path_factory.mktemp("run"))[-1]


def by_hand(checkpoint: Files, edit: Any) -> Recomputed:
    """Of a buffer with edited observations, next ones as well."""
    ring = sb3_ring(checkpoint.ring)
    following = ring.next_observations
    changed: Ring = replace(
        ring,
        observations={"": edit(ring.observations[""].copy())},
        next_observations=None if following is None else {"": edit(following[""].copy())},
    )
    found = recompute_gradients(sb3_training(checkpoint.zip), changed, None, batches=3, batch_size=16, seed=5)
    assert isinstance(found, Recomputed), found
    return found


def set_to(value: float) -> Any:
    def edit(rows: Array) -> Array:
        rows[..., 2] = value
        return rows

    return edit


def times(factor: float) -> Any:
    def edit(rows: Array) -> Array:
        rows[..., 2] *= factor
        return rows

    return edit


@pytest.mark.parametrize(
    ("change", "edit"),
    [
        (flat(COLUMN, np.array([0.5, 0.5])), set_to(0.5)),
        (rescaled(COLUMN, np.array([0.25, 0.25])), times(0.25)),
        (rescaled(COLUMN, np.array([1.0, 1.0])), times(1)),
    ],
    ids=["flat", "rescaled", "as it is"],
)
def test_a_change_is_the_same_as_a_changed_buffer(checkpoint: Files, change: Any, edit: Any) -> None:
    found = checkpoint.recomputed().intervened(num_batches=3, change=change)
    expected = by_hand(checkpoint, edit)
    for one, other in zip(found.batches(), expected.batches(), strict=True):
        assert_equal(one.gradients, other.gradients)
        assert one.observations[""].shape == (16, 2, 3)


def test_without_a_change_nothing_changes(checkpoint: Files) -> None:
    plain = checkpoint.recomputed(batches=3)
    for one, other in zip(plain.intervened(num_batches=3).batches(), plain.batches(), strict=True):
        assert_equal(one.gradients, other.gradients)


def test_permuting_moves_the_slice_and_nothing_else(checkpoint: Files) -> None:
    drawing = replace(checkpoint.recomputed(batch_size=40).drawing, change=permuted(COLUMN, 5))
    one = batch(replace(drawing, change=None), draws(5).rows)
    other, again = (batch(drawing, draws(5).rows) for _ in range(2))
    before, after = one.observations.numpy(), other.observations.numpy()
    assert (after == again.observations.numpy()).all()
    assert (before[..., :2] == after[..., :2]).all()
    assert sorted(map(tuple, before[..., 2])) == sorted(map(tuple, after[..., 2]))
    assert (before[..., 2] != after[..., 2]).any()
    assert (one.actions == other.actions).all()
    order = [int(np.flatnonzero((before[..., 2] == each).all(1))[0]) for each in after[..., 2]]
    following, moved = one.next_observations.numpy(), other.next_observations.numpy()
    # Rows drawn twice have twins of the same values, so any of them will do.
    assert (following[order][..., 2] == moved[..., 2]).all()
    assert (one.stored_observations[""] == other.stored_observations[""]).all()


def test_only_allowed_rows_are_drawn(checkpoint: Files) -> None:
    found = checkpoint.recomputed()
    allowed = found.drawing.numbers[3:9]
    held = found.drawing.stored(allowed)[""]
    drawn = [each.observations[""] for each in found.intervened(num_batches=4, allowed=allowed).batches()]
    rows = {row.tobytes() for each in drawn for row in each}
    assert rows == {row.tobytes() for row in held}
    assert all(len(each) == 16 for each in drawn)


def test_every_number_can_be_drawn_and_no_other(checkpoint: Files) -> None:
    found = checkpoint.recomputed(batches=60)
    held = {row.tobytes() for row in found.drawing.stored(found.drawing.numbers)[""]}
    drawn = {row.tobytes() for each in found.batches() for row in each.observations[""]}
    assert drawn <= held
    assert len(drawn) > 0.9 * len(held)


def test_changes_come_after_vecnormalize(tmp_path: Path) -> None:
    (checkpoint, *_) = trained(Case(algorithm="DQN", normalize={"clip_obs": 2.0}, steps=40), tmp_path)
    drawing = checkpoint.recomputed().drawing
    seen = drawing.seen(drawing.stored(drawing.numbers))[""]
    assert np.abs(seen).max() <= 2
    one = batch(replace(drawing, change=flat(COLUMN, np.array([7.0, 8.0]))), draws(5).rows)
    assert one.observations.numpy()[:, :, 2].tolist() == [[7, 8]] * 16
    assert one.next_observations.numpy()[:, :, 2].tolist() == [[7, 8]] * 16
    assert one.observations.dtype == torch.float32


def test_the_users_code_sees_changed_inputs(tmp_path: Path) -> None:
    with importable(tmp_path) as users:
        options = {"net_arch": [8], "features_extractor_class": users.Plain}
        (checkpoint, *_) = trained(Case(algorithm="DQN", policy_kwargs=options, steps=40), tmp_path)
    found = trusted(checkpoint, tmp_path)
    ring = sb3_ring(checkpoint.ring)
    assert ring.next_observations is not None
    edited = replace(
        ring,
        observations={"": set_to(0.5)(ring.observations[""].copy())},
        next_observations={"": set_to(0.5)(ring.next_observations[""].copy())},
    )
    by_change = found.intervened(num_batches=2, change=flat(COLUMN, np.array([0.5, 0.5])))
    by_buffer = replace(found, drawing=replace(found.drawing, ring=edited, num_batches=2))
    for one, other in zip(by_change.batches(), by_buffer.batches(), strict=True):
        assert_equal(one.gradients, other.gradients)


@pytest.fixture(scope="module", params=["PPO", "A2C", "RecurrentPPO"])
def rollout(request: Any, tmp_path_factory: Any) -> RecomputedRollout:
    policy = "MlpLstmPolicy" if request.param == "RecurrentPPO" else "MlpPolicy"
    space = spaces.Box(-np.inf, np.inf, (2, 3), np.float32)
    case = OnPolicyCase(algorithm=request.param, policy=policy, action_space=BOX, space=space)
    size = None if request.param == "A2C" else 8
    return trained_on_policy(case, tmp_path_factory.mktemp("rollout")).recomputed(batch_size=size)


def test_a_rollouts_change_leaves_ratios_at_one(rollout: RecomputedRollout) -> None:
    """With the weights that collected it, and the input as it was, the gradient is what it was."""
    same = rollout.intervened(num_batches=1, change=rescaled(COLUMN, np.array([1.0, 1.0])))
    one, other = next(rollout.batches()), next(same.batches())
    for name, gradient in one.gradients.items():
        np.testing.assert_allclose(other.gradients[name], gradient, rtol=1e-3, atol=1e-5)
    changed = next(rollout.intervened(num_batches=1, change=flat(COLUMN, np.array([9.0, 9.0]))).batches())
    assert any(not np.allclose(changed.gradients[name], one.gradients[name]) for name in one.gradients)
    assert (changed.observations[""] == one.observations[""]).all()


def test_a_rollout_says_what_its_rows_are(rollout: RecomputedRollout) -> None:
    kind = rollout.drawing.kind
    assert kind.are_normalised
    assert kind.are_sequences == (rollout.drawing.rollout.algorithm == "RecurrentPPO")
    assert kind.are_one_batch == (rollout.drawing.rollout.algorithm == "A2C")
    if kind.are_sequences:
        return
    allowed = rollout.drawing.numbers[:4]
    held = {row.tobytes() for row in rollout.drawing.stored(allowed)[""]}
    drawn = [each.observations[""] for each in rollout.intervened(num_batches=3, allowed=allowed).batches()]
    assert len(drawn) == 3
    assert {row.tobytes() for each in drawn for row in each} == held


def test_rows_of_a_model_keep_their_other_entries() -> None:
    draw = np.random.default_rng(0)
    rows = {"observations": draw.normal(size=(50, 2, 3)), "next_observations": draw.normal(size=(50, 2, 3))}
    drawing = ModelDrawing(
        rows=rows | {"actions": np.arange(50)}, num_batches=1, batch_size=50, seed=0, takes_all=True
    )
    moved = replace(drawing, change=permuted(COLUMN, 0)).batch(np.random.RandomState(0))
    assert (moved["actions"] == np.arange(50)).all()
    order = [
        int(np.flatnonzero(rows["observations"][:, 0, 2] == each)[0])
        for each in moved["observations"][:, 0, 2]
    ]
    assert order != list(range(50))
    assert (moved["next_observations"][:, 1, 2] == rows["next_observations"][order][:, 1, 2]).all()
    assert (moved["observations"][..., :2] == rows["observations"][..., :2]).all()
    few = replace(drawing, allowed=np.array([4, 7])).batch(np.random.RandomState(0))
    assert set(few["actions"].tolist()) == {4, 7}
    keyed = replace(drawing, rows={"observations.image": rows["observations"]})
    assert set(keyed.stored(np.arange(3))) == {"image"}
    assert drawing.stored(np.arange(3))[""].shape == (3, 2, 3)


def test_columns_are_written_in_a_copy_of_the_same_type() -> None:
    rows = {"": np.arange(12, dtype=np.uint8).reshape(2, 2, 3), "other": np.ones((2, 1))}
    changed = COLUMN.put(rows, np.array([250.0, 251.0]))
    assert changed[""].dtype == np.uint8
    assert changed[""][:, :, 2].tolist() == [[250, 251]] * 2
    assert rows[""][0, 0, 2] == 2
    assert changed["other"] is rows["other"]
