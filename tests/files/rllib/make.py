"""Makes the RLlib checkpoints here and what RLlib itself held when it saved them (truth.npz).

    pip install "torch==2.13.0" "ray[rllib]==2.60.0" && python make.py FOLDER

Kept of each checkpoint: what gradscope looks at. Left out: environment runners, connectors, and the classes
of learners. ``old`` is of the API stack before RLModule; the path of its maker's machine is taken out of it.
"""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import ray
from ray.rllib.algorithms.dqn import DQNConfig
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.algorithms.sac import SACConfig
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig

LEARNER = "learner_group/learner"
KEPT = ("rllib_checkpoint.json", "algorithm_state.pkl", "class_and_ctor_args.pkl", f"{LEARNER}/state.pkl")


def shortened(config):
    network = DefaultModelConfig(fcnet_hiddens=[4], head_fcnet_hiddens=[], fusionnet_hiddens=[4])
    config = config.env_runners(num_env_runners=0).learners(num_learners=0)
    return config.rl_module(model_config=network).debugging(seed=0)


def saved(algorithm, name, out, truth):
    whole = out / f"{name}_whole"
    algorithm.save_to_path(whole)
    for each in (*KEPT, f"{LEARNER}/rl_module/default_policy/module_state.pkl"):
        (out / name / each).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(whole / each, out / name / each)
    shutil.rmtree(whole)
    learner = algorithm.learner_group._learner
    module = learner.module["default_policy"].unwrapped()
    for key, value in module.named_parameters():
        truth[f"{name}/weight/{key}"] = value.detach().numpy().copy()
        for optimizer in learner._named_optimizers.values():
            if value in optimizer.state:
                truth[f"{name}/exp_avg/{key}"] = optimizer.state[value]["exp_avg"].numpy().copy()


def make(out):
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    truth = {}
    ppo = shortened(PPOConfig().environment("CartPole-v1"))
    ppo = ppo.training(train_batch_size=64, minibatch_size=32, num_epochs=1).build_algo()
    saved(ppo, "ppo_fresh", out, truth)
    (out / "ppo_fresh/class_and_ctor_args.pkl").unlink()
    ppo.train()
    ppo.train()
    saved(ppo, "ppo", out, truth)
    dqn = shortened(DQNConfig().environment("CartPole-v1"))
    dqn = dqn.training(train_batch_size=16, num_steps_sampled_before_learning_starts=32).build_algo()
    dqn.train()
    saved(dqn, "dqn", out, truth)
    sac = shortened(SACConfig().environment("Pendulum-v1"))
    sac = sac.training(
        train_batch_size_per_learner=16, num_steps_sampled_before_learning_starts=32
    ).build_algo()
    sac.train()
    saved(sac, "sac", out, truth)
    old = PPOConfig().environment("CartPole-v1").env_runners(num_env_runners=0)
    old = old.api_stack(enable_rl_module_and_learner=False, enable_env_runner_and_connector_v2=False)
    old = old.training(
        train_batch_size=64, minibatch_size=32, num_epochs=1, model={"fcnet_hiddens": [4]}
    ).build()
    old.train()
    old.save(str(out / "old"))
    mark = out / "old/rllib_checkpoint.json"
    content = json.loads(mark.read_text())
    mark.write_text(json.dumps(content | {"state_file": "algorithm_state.pkl"}))
    state = out / "old/policies/default_policy/policy_state.pkl"
    place = str(Path(ray.__file__).parents[1]).encode()
    state.write_bytes(state.read_bytes().replace(place, b"/" + b"x" * (len(place) - 1)))
    for key, value in old.get_policy().model.named_parameters():
        truth[f"old/weight/{key}"] = value.detach().numpy().copy()
        truth[f"old/exp_avg/{key}"] = old.get_policy()._optimizers[0].state[value]["exp_avg"].numpy().copy()
    np.savez(out / "truth.npz", **truth)


if __name__ == "__main__":
    make(Path(sys.argv[1]).absolute())
