"""Remedies on tiny real runs whose truth is known: what they do to zeros, and that they do it at all."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from run.causes import POSITION, rollout_run, run

from gradscope import trial
from gradscope.errors import UsageError
from gradscope.recompute.batches import draws
from gradscope.records import TrialVerdict, TryReport
from gradscope.run import open_run
from gradscope.run.given import Means
from gradscope.settings import Settings
from gradscope.trial import arms, tried

if TYPE_CHECKING:
    from pathlib import Path

SLICES = {"market": (f"0:{POSITION}",), "position": (f"{POSITION}:{POSITION + 1}",)}
SETTINGS = Settings(slices=SLICES, slices_from="option")
INPUTS = ("slice-normalizer", "input-layer-norm")


def opened(folder: Path, **changes: Any) -> Any:
    return open_run(folder, settings=replace(SETTINGS, **changes))


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Positions of 300 beside a market of 1: fresh units die as soon as they open."""
    return run(tmp_path_factory.mktemp("large"), size=300.0, seed=3)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(tmp_path_factory.mktemp("small"), size=1.0, seed=3)


@pytest.fixture(scope="module")
def found(large: Path) -> TryReport:
    return tried(opened(large), from_step=80, gradient_steps=100, seeds=3)


def verdicts(report: TryReport) -> dict[str, TrialVerdict | None]:
    return {each.remedy: each.verdict for each in report.trials}


def test_the_cure_of_a_scale_mismatch_helps_and_the_layer_norm_of_one_column_says_why_not(
    found: TryReport,
) -> None:
    by_name = {each.remedy: each for each in found.trials}
    assert [each.remedy for each in found.trials] == list(arms.REMEDIES)
    none, normalizer = by_name["none"], by_name["slice-normalizer"]
    assert none.verdict is None
    assert none.zero_fraction is not None
    assert none.zero_fraction > 0.25
    assert normalizer.verdict is TrialVerdict.HELPS
    assert normalizer.zero_fraction is not None
    assert normalizer.zero_fraction < 0.2
    assert normalizer.interval is not None
    assert normalizer.interval[1] < -0.05
    alone = by_name["input-layer-norm"]
    assert alone.verdict is None
    assert "single column" in alone.reasons["verdict"]


def test_a_rate_of_its_own_cannot_mend_the_size_of_an_input(found: TryReport) -> None:
    for name in ("slice-gradient-scale", "slice-learning-rate", "activity-learning-rate"):
        one = next(each for each in found.trials if each.remedy == name)
        assert one.verdict is not TrialVerdict.HELPS or (one.zero_fraction or 0) > 0.25, name
        assert len(one.series) == 40
        assert one.series[-1].gradient_step == 100
        assert one.loss is not None


def test_the_same_seed_is_the_same_trial(large: Path, found: TryReport) -> None:
    again = tried(opened(large), from_step=80, gradient_steps=100, seeds=1, remedies=["slice-learning-rate"])
    first = tried(opened(large), from_step=80, gradient_steps=100, seeds=1, remedies=["slice-learning-rate"])
    assert again == first
    assert [each.remedy for each in again.trials] == ["none", "slice-learning-rate"]
    assert again.trials[1].interval is None
    assert again.trials[1].verdict is TrialVerdict.UNCLEAR
    assert found.trials[0].zero_fraction != again.trials[0].zero_fraction


def test_nothing_is_called_help_where_nothing_is_wrong(small: Path) -> None:
    report = tried(opened(small), from_step=80, gradient_steps=40, seeds=3)
    assert TrialVerdict.HELPS not in verdicts(report).values()
    assert TrialVerdict.HARMS not in verdicts(report).values()
    assert report.trials[0].zero_fraction is not None
    assert report.trials[0].zero_fraction < 0.2


def test_rows_are_those_of_the_run_and_end_where_its_files_end(large: Path) -> None:
    report = tried(opened(large), from_step=80, seeds=1, remedies=["slice-learning-rate"])
    # No update was ever made in this run, so a row comes in with each; the buffer of 79 rows misses one.
    assert (report.gradient_steps, report.to_step, report.rows_per_update) == (79, 160, 1.0)
    assert report.notes == ("the run had made no update yet by this step",)
    longer = tried(opened(large), from_step=160, gradient_steps=5, seeds=1, remedies=["slice-learning-rate"])
    assert longer.to_step == 160
    assert any("no later checkpoint" in note for note in longer.notes)


def test_unchanged_training_is_the_trainee_on_the_streams_batches(large: Path) -> None:
    """By hand: the zeros of every gradient outside the position's columns, over the last quarter."""
    report = tried(opened(large), from_step=160, gradient_steps=8, seeds=1, remedies=["slice-learning-rate"])
    run_ = opened(large)
    context = _context_of(run_)
    stream = context.feed.stream
    trainee, drawn = context.found.trainee(), draws(0)
    shares = []
    for number in range(8):
        one = stream.batch(drawn.rows, stream.end_after(number + 1), context.found.batch_size)
        gradients = {name: each.numpy() for name, each in trainee.update(one, drawn).by_layer.items()}
        outside = [
            np.delete(each, POSITION, axis=1) if name == "q_net.q_net.0.weight" else each
            for name, each in gradients.items()
        ]
        shares.append(
            sum((np.abs(each) <= 1e-8).sum() for each in outside) / sum(each.size for each in outside)
        )
    assert report.trials[0].zero_fraction == pytest.approx(np.mean(shares[-2:]), abs=1e-12)


def _context_of(run_: Any) -> Any:
    moments = trial._moments(run_, 160)
    return trial._context(
        moments, Means(settings=run_.settings, given=run_.given), run_.runs[0].slices, "position"
    )


@pytest.mark.parametrize(("name", "factor"), [("slice-gradient-scale", 0.1), ("slice-learning-rate", 0.1)])
def test_what_acts_on_columns_acts_on_these_alone(name: str, factor: float, large: Path) -> None:
    context = _context_of(opened(large))
    stream = context.feed.stream
    assert list(context.own) == ["q_net.q_net.0.weight"]
    assert np.flatnonzero(context.own["q_net.q_net.0.weight"]).tolist() == [POSITION]
    weight = "q_net.q_net.0.weight"
    moved, gradients = [], []
    for arm in (arms.REMEDIES["none"](context, 0), arms.REMEDIES[name](context, 0)):
        assert isinstance(arm, arms.Arm)
        drawn = draws(0)
        before = arm.trainee.parameters[weight].detach().clone()
        seen = arm.trainee.update(stream.batch(drawn.rows, len(stream), 32), drawn)
        moved.append((arm.trainee.parameters[weight].detach() - before)[:, POSITION])
        gradients.append(seen.by_layer[weight])
    others = [at for at in range(gradients[0].shape[1]) if at != POSITION]
    alive = gradients[0][:, POSITION].abs() > 0
    if name == "slice-gradient-scale":
        # Adam divides it out again; the norm it is clipped by is smaller too.
        ratio = (gradients[1][:, POSITION] / gradients[0][:, POSITION])[alive]
        other = gradients[1][:, others] / gradients[0][:, others]
        assert torch.allclose(ratio / other.nanmedian(), torch.full_like(ratio, factor), rtol=1e-3)
        assert torch.allclose(moved[0][alive], moved[1][alive], rtol=1e-2)
    else:
        assert torch.equal(gradients[0], gradients[1])
        assert torch.allclose(moved[1], factor * moved[0], rtol=1e-3, atol=3e-8)
        assert moved[0].abs().max() > 0


def test_recycled_units_have_gradients_again(large: Path) -> None:
    context = _context_of(opened(large))
    stream = context.feed.stream
    arm = arms.REMEDIES["recycle-dead-units"](context, 0)
    assert isinstance(arm, arms.Arm)
    trainee, drawn = arm.trainee, draws(0)
    with torch.no_grad():
        trainee.parameters["q_net.q_net.0.bias"][:5] = -1e6
    kept = {name: each.detach().clone() for name, each in trainee.parameters.items()}
    one = stream.batch(drawn.rows, len(stream), 32)
    arm.ready(1, len(stream), one)
    assert all(torch.equal(trainee.parameters[name], each) for name, each in kept.items())
    arm.ready(0, len(stream), one)
    bias, outgoing = trainee.parameters["q_net.q_net.0.bias"], trainee.parameters["q_net.q_net.2.weight"]
    assert (bias[:5] > -10).all()
    # Units of the next layer that are dead too have begun anew, with all their inputs.
    kept_rows = trainee.parameters["q_net.q_net.2.bias"] == kept["q_net.q_net.2.bias"]
    assert kept_rows.any()
    assert not outgoing[kept_rows][:, :5].any()
    assert torch.equal(trainee.parameters["q_net_target.q_net.0.bias"], kept["q_net_target.q_net.0.bias"])


def test_what_cannot_be_tried_is_one_line(large: Path, tmp_path: Path) -> None:
    run_ = opened(large)
    with pytest.raises(UsageError, match=r"--from 7: no checkpoint.*80, 160"):
        tried(run_, from_step=7)
    with pytest.raises(UsageError, match="unknown"):
        tried(run_, from_step=80, remedies=["prayer"])
    (large / "rl_model_replay_buffer_80_steps.pkl").rename(tmp_path / "away.pkl")
    try:
        with pytest.raises(UsageError, match="cannot be trained on: no replay buffer"):
            tried(opened(large), from_step=80)
    finally:
        (tmp_path / "away.pkl").rename(large / "rl_model_replay_buffer_80_steps.pkl")


def test_a_run_without_the_slice_still_tries_what_needs_none(large: Path) -> None:
    bare = open_run(large, settings=Settings(slices={"market": ("0:3",)}, slices_from="option"))
    report = tried(bare, from_step=80, gradient_steps=3, seeds=1)
    known = {each.remedy for each in report.trials if each.zero_fraction is not None}
    assert known == {"none", "recycle-dead-units"}
    assert all("slice" in each.reasons["verdict"] for each in report.trials if each.remedy not in known)


def test_an_interrupt_keeps_what_is_finished(large: Path) -> None:
    calls = []

    def progress(what: str, done: int, total: int) -> None:
        calls.append((what, done, total))
        if done > 2 * 10:
            raise KeyboardInterrupt

    report = tried(
        opened(large),
        from_step=80,
        gradient_steps=10,
        seeds=3,
        remedies=["slice-normalizer"],
        progress=progress,
    )
    assert report.is_interrupted
    assert [each.num_seeds for each in report.trials] == [1, 1]
    assert calls[0] == ("training on", 10, 60)
    with pytest.raises(KeyboardInterrupt):
        tried(
            opened(large),
            from_step=80,
            gradient_steps=10,
            progress=lambda *_: (_ for _ in ()).throw(KeyboardInterrupt),
        )


def test_ppo_trains_on_from_a_stored_rollout(tmp_path: Path) -> None:
    """One rollout is stored: it is met again, as if collected by the weights of that time."""
    run_ = opened(rollout_run(tmp_path, size=300.0, seed=3))
    report = tried(run_, from_step=120, gradient_steps=100, seeds=3)
    by_name = {each.remedy: each for each in report.trials}
    none = by_name["none"]
    assert none.zero_fraction is not None
    assert none.zero_fraction > 0.25
    assert by_name["slice-normalizer"].verdict is TrialVerdict.HELPS
    assert (by_name["slice-normalizer"].zero_fraction or 0) < 0.2
    assert by_name["slice-learning-rate"].zero_fraction is not None
    assert by_name["activity-learning-rate"].zero_fraction is not None
    assert any("what was collected between them is not trained on" in note for note in report.notes)
    assert any("after gradient step 50" in note for note in report.notes)


def test_the_files_of_the_run_stay_as_they_were(large: Path) -> None:
    before = {path: path.read_bytes() for path in large.iterdir() if path.is_file()}
    state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002 - the global one
    tried(opened(large), from_step=80, gradient_steps=3, seeds=1)
    assert {path: path.read_bytes() for path in large.iterdir() if path.is_file()} == before
    assert torch.equal(state[0], torch.get_rng_state())
    assert np.array_equal(state[1], np.random.get_state()[1])  # noqa: NPY002
