"""Every format that is read and what it can tell: what ``gradscope formats`` prints."""

from __future__ import annotations

from typing import Final

from gradscope.read import sniff
from gradscope.read.format_checkpoints import ROWS as CHECKPOINTS
from gradscope.read.format_replays import ROWS as REPLAYS
from gradscope.read.format_row import RECORDED, Row

ROWS: Final = (
    *CHECKPOINTS,
    *REPLAYS,
    Row(
        kind=RECORDED,
        format="gradscope",
        reader=sniff.RECORDER,
        files="rl_model_gradscope_2000_steps.safetensors",
        tells="what the recorder saw at the first update after a save: gradients, batch, slices, clipping",
        step="content",
        gradients="all that the optimizers saw",
    ),
    Row(
        kind=RECORDED,
        format="gradscope-timeline",
        reader=sniff.TIMELINE,
        files="rl_model_gradscope_timeline.jsonl",
        tells="zeros, norms, clipping and open positions every n updates",
        step="content",
        gradients="counts only",
    ),
    Row(
        kind=RECORDED,
        format="gradscope-rollout",
        reader=sniff.ROLLOUT,
        files="rl_model_gradscope_rollout_2000_steps.safetensors",
        tells="what PPO, A2C or RecurrentPPO trained on after a checkpoint (save_rollout=True)",
        step="content",
        gradients="recomputed with the checkpoint of its step",
    ),
)
"""In the order in which they are shown."""
