"""What well-known training code leaves behind, as its own source names files and keys: which step, which run.

The contents are built here by torch.save, for these projects are no dependencies: nanoGPT train.py, rl_games
a2c_common.py, rsl_rl on_policy_runner.py, skrl agents/torch/base.py, mmengine hooks/checkpoint_hook.py, timm
utils/checkpoint_saver.py, fairseq checkpoint_utils.py, Megatron-LM checkpointing.py, fastai learner.py,
Composer checkpoint_saver.py, DreamerV3-torch, Sample Factory learner.py, DI-engine, accelerate, PFRL
train_agent.py, ultralytics trainer.py, CleanRL dqn.py and td3_continuous_action.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest
import torch
from safetensors.torch import save_file
from samples_folders import small_network, stepped

from gradscope import scan

if TYPE_CHECKING:
    from pathlib import Path

NET: Final = small_network()
W: Final = NET.state_dict()
OPTIMIZER: Final = stepped(NET).state_dict()
NUM: Final = len(W)
PREPROCESSOR: Final = {"running_mean": torch.zeros(4), "current_count": torch.tensor(1.0)}
RUNNING: Final = {"running_mean_std.running_mean": torch.zeros(4, dtype=torch.float64)}
MEGATRON: Final = {"language_model": {"encoder": {"layers.0.weight": torch.ones(3, 4)}}}
FASTAI: Final = {"state": [{"grad_avg": torch.ones(3, 4), "sqr_avg": torch.ones(3, 4)}], "hypers": [{}]}

LAYOUTS: Final[dict[str, tuple[str, Any, str, int | None, int]]] = {
    # file, content, run, step, number of layers
    "nanoGPT": ("ckpt.pt", {"model": W, "optimizer": OPTIMIZER, "iter_num": 2000}, ".", 2000, NUM),
    "rl_games": ("nn/last_ep_100_rew_3.2.pth", {"model": {**W, **RUNNING}, "epoch": 100}, "nn", 100, NUM),
    "rsl_rl": ("model_100.pt", {"model_state_dict": W, "iter": 100, "infos": None}, ".", 100, NUM),
    "skrl": (
        "checkpoints/agent_1000.pt",
        {"policy": W, "value": W | {}, "optimizer": OPTIMIZER, "state_preprocessor": PREPROCESSOR},
        *("checkpoints", 1000, 2 * NUM),
    ),
    "mmengine": (
        "iter_1000.pth",
        {"meta": {"iter": 1000}, "state_dict": W, "message_hub": {}},
        ".",
        1000,
        NUM,
    ),
    "timm": ("checkpoint-3.pth.tar", {"epoch": 3, "state_dict": W, "state_dict_ema": W | {}}, ".", 3, NUM),
    "fairseq": ("checkpoint_2_500.pt", {"model": W, "extra_state": {"epoch": 2}}, ".", 500, NUM),
    "Megatron": (
        "iter_0001000/mp_rank_00/model_optim_rng.pt",
        {"iteration": 1000, "model": MEGATRON, "optimizer": {"fp32_from_fp16_params": [list(W.values())]}},
        *(".", 1000, 1),
    ),
    "a process's own": ("1000/rank_0/model.pt", W, ".", 1000, NUM),
    "a process's own, by epoch": ("epoch_3/rank0/weights.pt", {"model": W}, ".", 3, NUM),
    "fastai": ("models/model.pth", {"model": W, "opt": FASTAI}, "models", None, NUM),
    "Composer": (
        "ep1-ba100-rank0.pt",
        {"state": {"model": W, "optimizers": {"Adam": OPTIMIZER}}},
        ".",
        100,
        NUM,
    ),
    "Dreamer": ("latest.pt", {"agent_state_dict": {"_wm.weight": torch.ones(3, 3)}}, ".", None, 1),
    "Sample Factory": (
        "checkpoint_p0/checkpoint_000000978_4005888.pth",
        {"train_step": 978, "env_steps": 4_005_888, "model": W, "optimizer": OPTIMIZER},
        *("checkpoint_p0", 4_005_888, NUM),
    ),
    "Sample Factory, best": (
        "checkpoint_p0/best_000000900_3686400_reward_3.1.pth",
        {"train_step": 900, "env_steps": 3_686_400, "model": W},
        *("checkpoint_p0", 3_686_400, NUM),
    ),
    "DI-engine": ("ckpt/ckpt_best.pth.tar", {"model": W, "last_iter": 1000}, "ckpt", 1000, NUM),
    "PFRL": ("1000_checkpoint/model.pt", W, ".", 1000, NUM),
    "PFRL, end": ("2000_finish/model.pt", W, ".", 2000, NUM),
    "ultralytics": ("weights/last.pt", {"epoch": 1, "model": NET, "updates": 10}, "weights", 1, NUM),
    "CleanRL": (
        "CartPole-v1__dqn__1__1700000000/dqn.cleanrl_model",
        W,
        "CartPole-v1__dqn__1__1700000000",
        None,
        NUM,
    ),
    "CleanRL, several": ("Ant-v4__td3__1/td3.cleanrl_model", (W, W | {}), "Ant-v4__td3__1", None, 2 * NUM),
}


@pytest.mark.parametrize("project", LAYOUTS)
def test_a_layout(project: str, tmp_path: Path) -> None:
    name, content, run, step, num_layers = LAYOUTS[project]
    path = tmp_path / "all" / name
    path.parent.mkdir(parents=True)
    torch.save(content, path)
    report = scan(tmp_path / "all")
    found = [(each.source, each.run, each.step, len(each.layers)) for each in report.snapshots]
    assert found == [(name, run, step, num_layers)]
    assert not report.unreadable
    assert not [note for note in report.notes if "counts" in note]


def test_accelerate(tmp_path: Path) -> None:
    for number in (0, 1):
        path = tmp_path / "checkpoints" / f"checkpoint_{number}"
        path.mkdir(parents=True)
        save_file(W, path / "model.safetensors")
        torch.save(OPTIMIZER, path / "optimizer.bin")
    report = scan(tmp_path)
    assert [(each.run, each.step) for each in report.snapshots] == [("checkpoints", 0), ("checkpoints", 1)]
    assert [each.source.rpartition("/")[2] for each in report.skipped] == ["optimizer.bin"] * 2
