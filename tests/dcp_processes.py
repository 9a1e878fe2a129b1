"""A distributed checkpoint as two processes write it; run by torch's own spawn, so it must be a module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.multiprocessing as mp
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    get_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

if TYPE_CHECKING:
    from pathlib import Path


def written_by_two(folder: Path) -> dict[str, Any]:
    """Save a model whose tensors two processes hold in parts; returns its whole tensors and moments."""
    mp.spawn(_write, args=(str(folder),), nprocs=2)
    whole: dict[str, Any] = torch.load(folder / "whole.pt")
    (folder / "whole.pt").unlink()
    return whole


def _write(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", f"file://{folder}/rendezvous", rank=rank, world_size=2)
    mesh = init_device_mesh("cpu", (2,))
    torch.manual_seed(0)
    # Five rows over two processes: three and two.
    network = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Tanh(), torch.nn.Linear(5, 3))
    fully_shard(network, mesh=mesh)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01)
    network(torch.randn(7, 3)).square().sum().backward()
    optimizer.step()
    model, optim = get_state_dict(network, optimizer)
    dcp.save({"model": model, "optim": optim, "step": 30}, checkpoint_id=f"{folder}/step_30")
    full = StateDictOptions(full_state_dict=True, cpu_offload=True)
    whole = {
        "model": get_model_state_dict(network, options=full),
        "optim": get_optimizer_state_dict(network, optimizer, options=full),
    }
    if rank == 0:
        torch.save(whole, f"{folder}/whole.pt")
    dist.destroy_process_group()
