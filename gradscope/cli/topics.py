"""``gradscope help TOPIC``."""

from __future__ import annotations

from typing import Annotated, Final

import typer

TOPICS: Final = {
    "zeros": """What counts as a zero: |g| <= 1e-8 (--zero-tolerance); exact zeros are counted apart too.
Kinds, each zero counted once, in this order:
  expected     cannot be otherwise: the key bias of softmax attention (a third of in_proj_bias)
  whole layer  every gradient of the layer is zero
  dead inputs  a whole column: the input was zero on every row (or the unit below is dead)
  dead units   a whole row: the unit got no gradient from above or never fired
  scattered    the rest
Healthy is not 0 %: a hidden ReLU layer can have 45 %. Compare with the fresh network's zeros.""",
    "limits": """warn 10 %, critical 25 %, collapse 50 % zeros of a layer, the expected ones left out;
where a fresh network's zeros are known, they must be exceeded by 5 points too.
A snapshot is as bad as its worst layer that holds at least 1 % of its elements.
Change them: --limit warn=0.1,critical=0.25,collapse=0.5, or [limits] in gradscope.toml.""",
    "config": """gradscope.toml in the run's folder or here, or [tool.gradscope] in pyproject.toml:

[observation]
sequence_length = 10
features = ["ret_1", "..."]
[slices]
market = "0:146"
position = ["position_*"]
[limits]
warn = 0.10
critical = 0.25
collapse = 0.50
[layers."*temporal_projection*"]
collapse = 0.30""",
    "slices": """A slice names columns of one bar: --slice position=146:153 or --slice 'position=position_*'.
flat:1500:1510 counts columns of the whole flat observation; key:image is an entry of a Dict space.
A flat observation with --sequence-length is read bars outer, features inner, oldest bar first.
Not set: as the recorder was told; else columns that are constant in the earliest replay and vary
later are offered as `position`, and every output says that they were guessed.""",
    "record": """In the place of Stable-Baselines3's CheckpointCallback:

from gradscope.record import GradscopeCallback
callback = GradscopeCallback(save_freq=2000, save_path="checkpoints", save_replay_buffer=True,
                             slices={"position": "73:80"}, sequence_length=4)
model.learn(10_000, callback=callback)

At each save it adds the gradients the optimizers saw; every 20th update one line in a timeline.""",
    "recompute": """Where no gradient is stored, it is computed again: networks from the weights,
batches from the replay buffer, the algorithm's own losses, in plain torch; no code of the files runs.
--batches 1 --batch-size B --seed S gives, bit for bit, what the library's own
train(gradient_steps=1, batch_size=B) has after set_random_seed(S).
In JSON counts are sums over batches; screens show the mean batch.
`fresh` is the mean of 8 newly initialised networks of the same architecture, on the same batches.
PPO, A2C and RecurrentPPO save no rollout: record it with GradscopeCallback(..., save_rollout=True).
A features extractor or policy of your own: --trust --code DIR imports it; a line says what.
--source optimizer shows what Adam's moments tell, from the checkpoint alone; it is no gradient.""",
    "replays": """Beside Stable-Baselines3's buffers, rows are read from npz and npy, torch.save, torchrl's
dumps, tianshou's pickles, and pickled dicts, buffer classes, lists and deques of transitions.
Entries are known by their usual names (obs, next_obs, act, rew, done; state_memory; obs_buf; ...).
Others are named: --replay-keys observations=x,next_observations=y,actions=a,rewards=r,dones=d;
also terminations, timeouts, not_dones (1 where it goes on). Places of a tuple are 0, 1, 2, ...:
--replay-keys observations=0,actions=1; a plain .npy is observations=0.
What a buffer says of its ring counts (ptr, size, full, max_size): rows never written are left out, and
rows come in order of collection. --replay FILE takes one file for every checkpoint, for scan, shift,
correlate, explain and try; in a scanned folder a file belongs to the checkpoint of its step, and of
several runs in one folder to the one that is named as it is.
A Stable-Baselines3 checkpoint is recomputed from any replay with observations, next_observations,
actions (scaled to -1..1, as its buffer has them), rewards and ends, on the same batches as from its own
buffer where rows lie as they lie there. Files of other things are skipped, packed ones to be unpacked.""",
    "model": """For any PyTorch run: a function without arguments that gives the model and its loss.

# digits.py
import torch
def digits():
    model = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))
    def loss(batch):
        return torch.nn.functional.cross_entropy(model(batch["x"]), batch["y"])
    return model, loss

torch.save({"x": inputs, "y": labels}, "batch.pt")    # also .npz or .safetensors

gradscope scan checkpoints/ --model digits:digits --code . --trust --replay batch.pt
All rows are one batch, in file order; with --batch-size N, --batches batches are drawn.
gradscope try trains on with the optimizer that the checkpoint holds: see help try.
A replay buffer gives observations, next_observations, actions, rewards, ends.
In a batch file, rows called observations (or observations.KEY) are what --slice,
correlate and explain change; rename with --replay-keys observations=x.""",
    "try": """gradscope try PATH --from STEP trains on offline: the checkpoint's networks, optimizers and
targets, once as they were (none) and once per remedy, on the same batches, with --seeds trainings of each.
Rows come in at the run's own pace, from this and the later replay buffers; no environment is run.
PPO, A2C and RecurrentPPO go through the rollouts that the recorder stored (save_rollout=True), epoch
after epoch; an LSTM's states are those of the weights of that time, as while collecting.
--model takes the rows of --replay (with --batch-size N in shuffled epochs) or of the step's buffer, and
the optimizer that is saved with the model: torch.save({"model": ..., "optimizer":
optimizer.state_dict(), "step": n}, path). Adam, AdamW, SGD, RMSprop and torch's others are told by their
state; for any other, and for groups that name no parameters, return model, loss, optimizer.
  slice-normalizer        each slice by its own statistics, the one in question a tenth
  input-layer-norm        a layer norm for each slice of the input, without weights
  slice-gradient-scale    a tenth of the gradient of the slice's own columns; Adam cancels it
  slice-learning-rate     a tenth of each update of these columns
  activity-learning-rate  half the learning rate while the slice is active in the newest rows; with
                          --model, in those of the batch
  recycle-dead-units      dead ReLU units begin anew, at once and every 100 updates
Zeros are counted outside the slice's own columns, at the end: over the last quarter of the steps.
helps, harms: 5 points or more, and the 95 % interval over seeds leaves 0 out. no effect: the interval
lies within 5 points. unclear: neither. All of them are importable from gradscope.remedy.""",
    "compare": """compare RUN_A RUN_B pairs snapshots by step and layers by name; B - A is in points.
A run is worse at a step where its zeros, the expected ones left out, are 5 points more than the
other's, and 5 points more beyond its own fresh network too; in all layers together or in one layer
of at least 1 % of the elements. Where layers contradict each other, the worse status decides.
Several batches: what lies within their spread is called unclear. One batch has no spread: it says so.
Two files are compared whatever their steps; RUN may be results that scan or report wrote with -o.""",
    "memory": """--memory 2GB (or 512MiB) limits the private memory of the whole process; mapped files do not
count. A file that needs more is listed as unreadable, with the reason, and the rest goes on.
Default: nine tenths of what the machine or its container has.
.gradscope/measured.db keeps what was measured, at most 256 MB, unused for at most 90 days; a scan that
was killed goes on from there. It may be deleted at any time.""",
    "exit-codes": """0 done; 1 --fail-on reached; 2 wrong usage or no such PATH; 3 some input could not be
read (the rest was measured and shown); 4 nothing could be read.""",
}


def help_(
    topic: Annotated[str | None, typer.Argument(metavar="[TOPIC]", help=", ".join(TOPICS))] = None,
) -> int:
    """Explain a topic: zeros, limits, config, slices, record, recompute, replays, model, memory, ..."""
    import sys

    from gradscope.errors import UsageError

    if topic is None:
        sys.stdout.write(f"Topics: {', '.join(TOPICS)}. Commands: gradscope --help.\n")
        return 0
    if topic not in TOPICS:
        raise UsageError(f"no topic {topic!r}. Topics: {', '.join(TOPICS)}.")
    sys.stdout.write(TOPICS[topic] + "\n")
    return 0
