"""The table of ``gradscope formats``: what can be read and what each file type can tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gradscope.show.screen import Column, Page, new_table

if TYPE_CHECKING:
    from gradscope.show.screen import Look

FORMATS: Final = (
    {
        "format": "sb3",
        "files": "rl_model_2000_steps.zip",
        "tells": "weights, optimizer moments, step, algorithm",
        "gradients": "recomputed with its replay buffer or rollout; or a recorder file of the same step",
    },
    {
        "format": "sb3 replay buffer",
        "files": "rl_model_replay_buffer_2000_steps.pkl",
        "tells": "inputs since the previous checkpoint, by slice",
        "gradients": "recomputed with the checkpoint of its step",
    },
    {
        "format": "sb3 VecNormalize",
        "files": "rl_model_vecnormalize_2000_steps.pkl",
        "tells": "how the network's inputs were normalised",
        "gradients": "none",
    },
    {
        "format": "torch",
        "files": "checkpoint.pt, .pth, .ckpt, .bin (zip form, torch 1.6 on)",
        "tells": "weights, step; {model, optimizer, grads, step}",
        "gradients": "where the key `grads` holds them by parameter name; or recomputed with --model",
    },
    {
        "format": "safetensors",
        "files": "model.safetensors",
        "tells": "weights, step from its metadata",
        "gradients": "none",
    },
    {
        "format": "gradscope",
        "files": "rl_model_gradscope_2000_steps.safetensors",
        "tells": "what the recorder saw at the first update after a save: gradients, batch, slices, clipping",
        "gradients": "all that the optimizers saw",
    },
    {
        "format": "gradscope timeline",
        "files": "rl_model_gradscope_timeline.jsonl",
        "tells": "zeros, norms, clipping and open positions every n updates",
        "gradients": "counts only",
    },
    {
        "format": "gradscope rollout",
        "files": "rl_model_gradscope_rollout_2000_steps.safetensors",
        "tells": "what PPO, A2C or RecurrentPPO trained on after a checkpoint (save_rollout=True)",
        "gradients": "recomputed with the checkpoint of its step",
    },
)


def formats_screen(look: Look) -> str:
    """The table as text."""
    page = Page(look)
    heads = ("format", "files", "tells", "gradients")
    columns = [Column(head, "left" if head == "format" else "text") for head in heads]
    page.table(new_table(look, columns, [[row[head] for head in heads] for row in FORMATS]))
    page.line()
    page.line(
        "Nothing in a file is executed or imported without --trust. Formats are told by their first bytes.",
        "dim",
    )
    return page.text()
