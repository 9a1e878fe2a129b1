"""Makes the d3rlpy run folders here and the gradients that d3rlpy held at each log (truth.npz).

    pip install "torch==2.13.0" d3rlpy==2.8.1 && python make.py FOLDER

``dead`` is a DQN whose hidden layer is biased far below zero: its first layer gets no gradient at all.
"""

import sys
from pathlib import Path

import d3rlpy
import numpy as np
import torch
from d3rlpy.algos import CQLConfig, DQNConfig, SACConfig
from d3rlpy.logging import FileAdapter, FileAdapterFactory

ROWS = 64
SMALL = d3rlpy.models.VectorEncoderFactory([4])
TRUTH = {}


class Watching(FileAdapter):
    """d3rlpy's own log; each gradient is kept whole beside."""

    def watch_model(self, epoch, step):
        super().watch_model(epoch, step)
        for name, gradient in self._algo.impl.modules.get_gradients():
            TRUTH[f"{Path(self.logdir).name}/{step}/{name}"] = gradient.copy()


class Watched(FileAdapterFactory):
    def create(self, algo, experiment_name, n_steps_per_epoch):
        return Watching(algo, str(Path(self._root_dir) / experiment_name))


def make(out):
    d3rlpy.seed(0)
    random = np.random.default_rng(0)
    states = random.normal(size=(ROWS, 3)).astype(np.float32)
    rewards, ends = random.normal(size=ROWS).astype(np.float32), np.zeros(ROWS, np.float32)
    ends[31::32] = 1
    moves = random.uniform(-1, 1, (ROWS, 2)).astype(np.float32)
    continuous = d3rlpy.dataset.MDPDataset(states, moves, rewards, ends)
    discrete = d3rlpy.dataset.MDPDataset(states, random.integers(0, 2, (ROWS, 1)), rewards, ends)
    both = {"batch_size": 8, "actor_encoder_factory": SMALL, "critic_encoder_factory": SMALL}
    trained(SACConfig(**both), continuous, "sac", out)
    trained(CQLConfig(**both), continuous, "cql", out)
    trained(DQNConfig(batch_size=8, encoder_factory=SMALL), discrete, "dead", out, is_dead=True)
    np.savez(out / "truth.npz", **TRUTH)


def trained(config, dataset, name, out, is_dead=False):
    algorithm = config.create(device="cpu:0")
    algorithm.build_with_dataset(dataset)
    if is_dead:
        with torch.no_grad():
            algorithm.impl.modules.q_funcs[0]._encoder._layers[0].bias.fill_(-100.0)
    algorithm.fit(
        dataset,
        n_steps=10,
        n_steps_per_epoch=5,
        experiment_name=name,
        show_progress=False,
        with_timestamp=False,
        logger_adapter=Watched(root_dir=str(out)),
    )
    (out / name / "model_5.d3").unlink()
    algorithm.save_model(str(out / name / "model_10.pt"))
    for path in (out / name).glob("time_*.csv"):
        path.unlink()


if __name__ == "__main__":
    make(Path(sys.argv[1]))
