"""Trainer checkpoints of sharded training (DeepSpeed, FSDP): one step each, of the run that they are of.

The layouts are those of deepspeed.runtime.engine (global_step*/mp_rank_00_model_states.pt) and of
accelerate.utils.fsdp_utils (pytorch_model_fsdp_0/, optimizer_0/, written by torch.distributed.checkpoint).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file
from samples_folders import dcp_saved, small_network, stepped

from gradscope import scan

if TYPE_CHECKING:
    from pathlib import Path

    from gradscope.records import Report

STEPS = (10, 20)


def trainer_folder(folder: Path, step: int) -> Path:
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / "trainer_state.json").write_text(json.dumps({"global_step": step, "log_history": []}))
    return path


def deepspeed_shards(folder: Path, step: int) -> None:
    network = small_network()
    flat = torch.cat([each.detach().flatten() for each in network.parameters()])
    state = {0: {"step": step, "exp_avg": flat, "exp_avg_sq": flat}}
    shard: dict[str, Any] = {"zero_stage": 2, "base_optimizer_state": {"state": state}}
    inner = folder / f"global_step{step}"
    inner.mkdir(parents=True)
    torch.save({"module": network.state_dict()}, inner / "mp_rank_00_model_states.pt")
    torch.save({"optimizer_state_dict": shard}, inner / "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt")


def seen(report: Report) -> list[tuple[str, int | None, str]]:
    return [(each.run, each.step, each.source) for each in report.snapshots]


def test_shards_beside_whole_weights_are_part_of_the_checkpoint(tmp_path: Path) -> None:
    for step in STEPS:
        path = trainer_folder(tmp_path, step)
        save_file(small_network().state_dict(), path / "model.safetensors")
        deepspeed_shards(path, step)
    report = scan(tmp_path)
    assert seen(report) == [(".", step, f"checkpoint-{step}") for step in STEPS]
    assert (report.skipped, report.unreadable) == ((), ())
    assert any("DeepSpeed's shards in global_step10 were not opened" in note for note in report.notes)


def test_shards_alone_are_the_checkpoint_and_moments_are_no_weights(tmp_path: Path) -> None:
    for step in STEPS:
        deepspeed_shards(trainer_folder(tmp_path, step), step)
    report = scan(tmp_path)
    models = [f"checkpoint-{step}/global_step{step}/mp_rank_00_model_states.pt" for step in STEPS]
    assert seen(report) == [(".", step, model) for step, model in zip(STEPS, models, strict=True)]
    layers = {layer.name for each in report.snapshots for layer in each.layers}
    assert layers == {name for name, _ in small_network().named_parameters()}
    left = [each for each in report.skipped if each.source.endswith("optim_states.pt")]
    assert [each.reason.partition(".")[0] for each in left] == ["holds no weights"] * len(STEPS)


def test_the_number_of_an_fsdp_model_is_no_step(tmp_path: Path) -> None:
    for step in STEPS:
        path, network = trainer_folder(tmp_path, step), small_network()
        dcp_saved({"model": network.state_dict()}, path / "pytorch_model_fsdp_0")
        dcp_saved({"optimizer": stepped(network).state_dict()}, path / "optimizer_0")
    report = scan(tmp_path)
    assert seen(report) == [(".", step, f"checkpoint-{step}/pytorch_model_fsdp_0") for step in STEPS]
    assert {each.step_from for each in report.snapshots} == {"folder"}


def test_folders_that_contradict_each_other_stay_apart(tmp_path: Path) -> None:
    deepspeed_shards(tmp_path / "checkpoint-5", 20)
    deepspeed_shards(tmp_path / "checkpoint-6", 6)
    assert {(run, step) for run, step, _ in seen(scan(tmp_path))} == {("checkpoint-5", 20), (".", 6)}
