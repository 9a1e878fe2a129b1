"""Every format that is read and what it can tell: what ``gradscope formats`` prints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gradscope.read import sniff, sniff_folder


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table: one kind of file or folder."""

    format: str
    """As the opened record says it."""
    reader: str
    """A key of formats.READERS."""
    files: str
    tells: str
    step: str
    """Where its step comes from."""
    gradients: str


ROWS: Final = (
    Row(
        format="sb3",
        reader=sniff.SB3,
        files="rl_model_2000_steps.zip",
        tells="weights, optimizer moments, step, algorithm",
        step="num_timesteps",
        gradients="recomputed with its replay buffer or rollout; or a recorder file of the same step",
    ),
    Row(
        format="sb3-buffer",
        reader=sniff.PICKLE,
        files="rl_model_replay_buffer_2000_steps.pkl",
        tells="inputs since the previous checkpoint, by slice",
        step="name",
        gradients="recomputed with the checkpoint of its step",
    ),
    Row(
        format="tianshou-pickle",
        reader=sniff.PICKLE,
        files="buffer.pkl (pickle of ReplayBuffer, VectorReplayBuffer)",
        tells="inputs, by slice",
        step="name",
        gradients="recomputed with the checkpoint of its step",
    ),
    Row(
        format="pickle",
        reader=sniff.PICKLE,
        files="memory.pkl: dict of arrays, list or deque of transitions, buffer class of your own",
        tells="inputs, by slice; or weights, where arrays are called like parameters",
        step="name; key step, ...",
        gradients="recomputed with the checkpoint of its step",
    ),
    Row(
        format="numpy",
        reader=sniff.NUMPY,
        files="transitions.npz, .npy",
        tells="inputs, by slice; or weights, where arrays are called like parameters",
        step="name; key step, ...",
        gradients="recomputed with the checkpoint of its step; or grads/NAME beside weights",
    ),
    Row(
        format="torchrl",
        reader=sniff_folder.TORCHRL,
        files="folder that ReplayBuffer.dumps wrote",
        tells="inputs, by slice",
        step="name",
        gradients="recomputed with the checkpoint of its step",
    ),
    Row(
        format="vec-normalize",
        reader=sniff.NORMALIZER,
        files="rl_model_vecnormalize_2000_steps.pkl",
        tells="how the network's inputs were normalised",
        step="name",
        gradients="none",
    ),
    Row(
        format="torch",
        reader=sniff.TORCH,
        files="checkpoint.pt, .pth, .bin (torch 1.6 on)",
        tells="weights of state dicts, nested ones and whole modules; moments; step",
        step="key step, global_step, ...; name; folder",
        gradients="where the key `grads` holds them by parameter name; or recomputed with --model",
    ),
    Row(
        format="torch-legacy",
        reader=sniff.TORCH_LEGACY,
        files="checkpoint.pt, .pth (before torch 1.6)",
        tells="weights of state dicts, nested ones and whole modules; moments; step",
        step="key step, global_step, ...; name; folder",
        gradients="as in torch",
    ),
    Row(
        format="lightning",
        reader=sniff.TORCH,
        files="epoch=1-step=20.ckpt, last.ckpt",
        tells="weights, optimizer moments, step, epoch",
        step="global_step",
        gradients="recomputed with --model",
    ),
    Row(
        format="torchscript",
        reader=sniff.TORCH,
        files="model.pt (torch.jit.save)",
        tells="weights, types of modules",
        step="name; folder",
        gradients="recomputed with --model",
    ),
    Row(
        format="torch-export",
        reader=sniff.TORCH_EXPORT,
        files="model.pt2 (torch.export.save)",
        tells="weights",
        step="name",
        gradients="recomputed with --model",
    ),
    Row(
        format="safetensors",
        reader=sniff.SAFETENSORS,
        files="model.safetensors",
        tells="weights, step from its metadata",
        step="metadata; name",
        gradients="recomputed with --model",
    ),
    Row(
        format="sharded",
        reader=sniff_folder.SHARDED,
        files="folder with model.safetensors.index.json or pytorch_model.bin.index.json",
        tells="weights of all shards",
        step="folder's name",
        gradients="recomputed with --model",
    ),
    Row(
        format="hf-trainer",
        reader=sniff_folder.TRAINER,
        files="checkpoint-500/ of Hugging Face's Trainer",
        tells="weights, step, logged gradient norm; moments where shapes tell the names",
        step="trainer_state.json global_step",
        gradients="recomputed with --model",
    ),
    Row(
        format="dcp",
        reader=sniff_folder.DCP,
        files="folder with .metadata and *.distcp (torch.distributed.checkpoint)",
        tells="weights and moments of all processes, step",
        step="key step, ...; folder's name",
        gradients="recomputed with --model",
    ),
    Row(
        format="rllib",
        reader=sniff_folder.RLLIB,
        files="checkpoint_000005/ of RLlib (ray 2)",
        tells="weights and moments of each module, step, algorithm",
        step="env steps sampled; training_iteration",
        gradients="recomputed with --model",
    ),
    Row(
        format="d3rlpy",
        reader=sniff.D3RLPY,
        files="model_1000.d3",
        tells="weights, optimizer moments, algorithm",
        step="name",
        gradients="recomputed with --model",
    ),
    Row(
        format="d3rlpy-run",
        reader=sniff_folder.D3RLPY_RUN,
        files="d3rlpy run folder with *_grad.csv",
        tells="gradient norm of each layer at each log; whether all of it was zero",
        step="content",
        gradients="norms only",
    ),
    Row(
        format="gradscope",
        reader=sniff.RECORDER,
        files="rl_model_gradscope_2000_steps.safetensors",
        tells="what the recorder saw at the first update after a save: gradients, batch, slices, clipping",
        step="content",
        gradients="all that the optimizers saw",
    ),
    Row(
        format="gradscope-timeline",
        reader=sniff.TIMELINE,
        files="rl_model_gradscope_timeline.jsonl",
        tells="zeros, norms, clipping and open positions every n updates",
        step="content",
        gradients="counts only",
    ),
    Row(
        format="gradscope-rollout",
        reader=sniff.ROLLOUT,
        files="rl_model_gradscope_rollout_2000_steps.safetensors",
        tells="what PPO, A2C or RecurrentPPO trained on after a checkpoint (save_rollout=True)",
        step="content",
        gradients="recomputed with the checkpoint of its step",
    ),
    Row(
        format="tianshou",
        reader=sniff.HDF5,
        files="buffer.hdf5 of save_hdf5",
        tells="replay buffer, in order of collection",
        step="name",
        gradients="recomputed with --model",
    ),
    Row(
        format="d3rlpy-dataset",
        reader=sniff.HDF5,
        files="dataset.h5 of ReplayBuffer.dump",
        tells="transitions, episode by episode",
        step="name",
        gradients="recomputed with --model",
    ),
    Row(
        format="minari",
        reader=sniff_folder.MINARI,
        files="folder with data/: HDF5, Arrow or Parquet",
        tells="transitions, episode by episode",
        step="name",
        gradients="recomputed with --model",
    ),
    Row(
        format="hdf5",
        reader=sniff.HDF5,
        files=".hdf5, .h5: D4RL, robomimic, own names",
        tells="replay by usual names or --replay-keys",
        step="name",
        gradients="recomputed with --model",
    ),
    Row(
        format="parquet",
        reader=sniff.PARQUET,
        files=".parquet: obs_0, obs_1, ... or lists",
        tells="replay by usual names or --replay-keys",
        step="name",
        gradients="recomputed with --model",
    ),
    Row(
        format="arrow",
        reader=sniff.ARROW,
        files=".arrow, .feather",
        tells="replay by usual names or --replay-keys",
        step="name",
        gradients="recomputed with --model",
    ),
    Row(
        format="csv",
        reader=sniff.CSV,
        files=".csv with a line of names",
        tells="replay by usual names or --replay-keys",
        step="name",
        gradients="recomputed with --model",
    ),
)
"""In the order in which they are shown."""
