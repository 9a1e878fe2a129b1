"""A scan that recomputes gradients: origin, sums over batches, baseline, what is said where it cannot."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from conftest import train_sb3
from makers import sb3_ring
from run_cli import gradscope

from gradscope import Settings, open_snapshot, scan
from gradscope.measure import fraction_interval, zero_count
from gradscope.read import open_file
from gradscope.read.sb3_training import sb3_training
from gradscope.recompute import Recomputed, recompute_gradients
from gradscope.records import LayerGradient, Normalizer, Origin, SnapshotGradient

if TYPE_CHECKING:
    from collections.abc import Callable

STEP = 128


def layers_of(snapshot: SnapshotGradient) -> dict[str, LayerGradient]:
    return {layer.name: layer for layer in snapshot.layers}


def by_hand(folder: Path, batches: int, seed: int = 0) -> Recomputed:
    normalizer = open_file(folder / f"rl_model_vecnormalize_{STEP}_steps.pkl")
    assert isinstance(normalizer, Normalizer)
    found = recompute_gradients(
        sb3_training(folder / f"rl_model_{STEP}_steps.zip"),
        sb3_ring(folder / f"rl_model_replay_buffer_{STEP}_steps.pkl"),
        normalizer,
        batches=batches,
        batch_size=16,
        seed=seed,
    )
    assert isinstance(found, Recomputed)
    return found


@pytest.mark.parametrize("algorithm", ["SAC", "TD3", "DQN"])
def test_counts_are_sums_over_the_batches(sb3_files: Callable[[str], Path], algorithm: str) -> None:
    folder = sb3_files(algorithm)
    snapshot = scan(folder).snapshots[-1]
    assert snapshot.origin is Origin.RECOMPUTED
    assert (snapshot.num_batches, snapshot.batch_size, snapshot.seed) == (8, 16, 0)
    found = by_hand(folder, batches=8)
    gradients = [batch.gradients for batch in found.batches()]
    fresh = [batch.gradients for batch in found.fresh_batches()]
    layers = layers_of(snapshot)
    assert set(found.layers) == {name for name, layer in layers.items() if layer.num_zero is not None}
    for name in found.layers:
        stacked = np.stack([each[name] for each in gradients])
        assert layers[name].num_zero == np.count_nonzero(np.abs(stacked) <= 1e-8)
        assert layers[name].num_exact_zero == np.count_nonzero(stacked == 0)
        assert layers[name].zero_fraction == pytest.approx(np.mean(np.abs(stacked) <= 1e-8))
        assert layers[name].interval == fraction_interval([zero_count(each, name=name) for each in stacked])
        baseline = np.mean([np.abs(each[name]) <= 1e-8 for each in fresh])
        assert layers[name].baseline_zero_fraction == pytest.approx(baseline)
        norms = [np.linalg.norm(each.astype(np.float64)) for each in stacked]
        assert layers[name].norm == pytest.approx(np.mean(norms))
    whole = [np.concatenate([each[name].ravel() for name in found.layers]) for each in gradients]
    assert snapshot.num_zero == np.count_nonzero(np.abs(np.stack(whole)) <= 1e-8)
    assert snapshot.norm == pytest.approx(
        np.mean([np.linalg.norm(each.astype(np.float64)) for each in whole])
    )


def test_every_null_of_a_recomputed_snapshot_has_its_reason(sb3_files: Callable[[str], Path]) -> None:
    for snapshot in scan(sb3_files("SAC")).snapshots:
        for record in (snapshot, *snapshot.layers):
            nulls = {name for name, value in vars(record).items() if value is None}
            assert nulls <= {*record.reasons, "gradient_source", "double_of"}
        assert snapshot.reasons["clip_coefficient"] == "SAC does not clip"


def test_one_batch_has_no_interval_and_says_so(sb3_files: Callable[[str], Path]) -> None:
    snapshot = scan(sb3_files("SAC"), settings=Settings(batches=1)).snapshots[-1]
    layer = next(layer for layer in snapshot.layers if layer.num_zero is not None)
    assert layer.interval is None
    assert layer.reasons["interval"] == "one batch"


def test_the_seed_decides_and_global_chance_stays(sb3_files: Callable[[str], Path]) -> None:
    folder = sb3_files("SAC")
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002 - the global state itself
    first, again, other = (scan(folder, settings=Settings(seed=seed, batches=2)) for seed in (5, 5, 6))
    assert first.snapshots == again.snapshots
    assert first.snapshots[-1].norm != other.snapshots[-1].norm
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002


def test_stored_only_and_too_large_batches_have_reasons(sb3_files: Callable[[str], Path]) -> None:
    folder = sb3_files("SAC")
    stored = scan(folder, settings=Settings(source="stored")).snapshots[-1]
    assert stored.origin is Origin.NONE
    assert "only stored ones were asked for" in stored.reasons["zero_fraction"]
    large = scan(folder, settings=Settings(batch_size=100)).snapshots
    assert large[0].origin is Origin.NONE
    assert "larger than the buffer's 63 valid rows" in large[0].reasons["zero_fraction"]
    assert large[1].origin is Origin.RECOMPUTED


def test_stored_gradients_are_preferred_and_recomputed_on_demand(tmp_path: Path) -> None:
    from gradscope.record import GradscopeCallback  # noqa: PLC0415 - stable_baselines3, only here

    model = train_sb3("SAC", tmp_path / "first")
    options = {"save_replay_buffer": True, "save_vecnormalize": True}
    model.learn(128, callback=GradscopeCallback(64, str(tmp_path / "second"), **options))
    tmp_path /= "second"
    auto = scan(tmp_path).snapshots[-1]
    asked = scan(tmp_path, settings=Settings(source="recomputed")).snapshots[-1]
    assert (auto.origin, asked.origin) == (Origin.STORED, Origin.RECOMPUTED)
    assert auto.gradient_source
    assert asked.gradient_source is None


def test_a_named_replay_takes_the_place_of_the_ones_beside(sb3_files: Callable[[str], Path]) -> None:
    folder = sb3_files("SAC")
    buffer = folder / "rl_model_replay_buffer_64_steps.pkl"
    snapshot = scan(folder, settings=Settings(batch_size=64, replay=buffer)).snapshots[-1]
    assert "larger than the buffer's 63 valid rows" in snapshot.reasons["zero_fraction"]


def test_on_the_command_line(sb3_files: Callable[[str], Path], tmp_path: Path) -> None:
    folder = str(sb3_files("SAC"))
    options = ["--batches", "2", "--batch-size", "8", "--seed", "3"]
    done = gradscope("scan", folder, *options, "--json", directory=tmp_path)
    assert done.code == 0
    document: dict[str, Any] = json.loads(done.out)
    for snapshot in document["snapshots"]:
        assert snapshot["origin"] == "recomputed"
        assert [snapshot[key] for key in ("num_batches", "batch_size", "seed")] == [2, 8, 3]
    shown = gradscope("report", directory=tmp_path)
    assert shown.code == 0
    assert "recomputed (2 batches, batch size 8, seed 3)" in " ".join(shown.out.split())


def test_only_layers_that_are_asked_for(sb3_files: Callable[[str], Path]) -> None:
    snapshot = scan(sb3_files("SAC"), settings=Settings(layers=("actor.*",), batches=1)).snapshots[-1]
    assert snapshot.layers
    assert all(layer.name.startswith("actor.") for layer in snapshot.layers)
    whole = scan(sb3_files("SAC"), settings=replace(Settings(), batches=1)).snapshots[-1]
    assert layers_of(snapshot)["actor.mu.weight"] == layers_of(whole)["actor.mu.weight"]
    assert open_snapshot(sb3_files("SAC") / f"rl_model_{STEP}_steps.zip").layers


def test_what_the_recorder_noted_is_not_said_of_recomputed_gradients() -> None:
    folder = Path(__file__).parents[2] / "sample_checkpoints" / "confounded"
    stored, recomputed = (
        scan(folder, settings=Settings(source=source, batches=1)).snapshots[-1]
        for source in ("stored", "recomputed")
    )
    assert any("one update after the save" in note for note in stored.notes)
    assert not recomputed.notes


def copied(folder: Path, into: Path, *names: str) -> Path:
    into.mkdir()
    for name in names:
        (into / name).write_bytes((folder / name).read_bytes())
    return into


def test_a_buffer_that_cannot_be_read_is_not_called_missing(
    sb3_files: Callable[[str], Path], tmp_path: Path
) -> None:
    names = ("rl_model_128_steps.zip", "rl_model_vecnormalize_128_steps.pkl")
    folder = copied(sb3_files("SAC"), tmp_path / "run", *names)
    content = (sb3_files("SAC") / "rl_model_replay_buffer_128_steps.pkl").read_bytes()
    (folder / "rl_model_replay_buffer_128_steps.pkl").write_bytes(content[: len(content) // 2])
    report = scan(folder)
    assert report.unreadable
    assert report.snapshots[0].reasons["zero_fraction"] == (
        "rl_model_replay_buffer_128_steps.pkl could not be read"
    )


def test_a_buffer_of_another_step_is_noted_where_it_is_seen(sb3_files: Callable[[str], Path]) -> None:
    buffer = sb3_files("SAC") / "rl_model_replay_buffer_64_steps.pkl"
    report = scan(sb3_files("SAC"), settings=Settings(replay=buffer, batches=1))
    assert any("it is of another step or another run" in note for note in report.notes)


def test_two_buffers_of_one_step_are_told(sb3_files: Callable[[str], Path], tmp_path: Path) -> None:
    names = [each.name for each in sb3_files("SAC").iterdir() if "128" in each.name]
    folder = copied(sb3_files("SAC"), tmp_path / "run", *names)
    twin = folder / "zz_replay_buffer_128_steps.pkl"
    twin.write_bytes((folder / "rl_model_replay_buffer_128_steps.pkl").read_bytes())
    told = "is not used: another file of step 128 is named as its checkpoint is"
    report = scan(folder)
    assert f"zz_replay_buffer_128_steps.pkl {told}" in report.notes
    assert report.snapshots[0].notes == ()
    for name in ("a", "b"):
        (folder / f"{name}_buffer_128.pkl").write_bytes(twin.read_bytes())
    (folder / "rl_model_replay_buffer_128_steps.pkl").unlink()
    notes = scan(folder).snapshots[0].notes
    assert notes == ("of several buffers of step 128 a_buffer_128.pkl is used",)


def test_a_model_without_consent_runs_nothing(sb3_files: Callable[[str], Path], tmp_path: Path) -> None:
    module = tmp_path / "would_run.py"
    module.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    settings = Settings(model="would_run:make", code=tmp_path, source="recomputed")
    snapshot = scan(sb3_files("SAC"), settings=settings).snapshots[-1]
    assert snapshot.origin is Origin.NONE
    assert "trust" in snapshot.reasons["zero_fraction"]
    assert not (tmp_path / "ran").exists()
