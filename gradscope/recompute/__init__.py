"""RECOMPUTE: checkpoint + replay buffer or rollout -> the gradients the library's next train() would see.

``recompute_gradients`` draws the batches (batches.py) from random states of its own and does the losses
of one algorithm (dqn.py, sac.py, td3.py, quantiles.py) over networks that play the parts roles.py names.
They are rebuilt from their weights in plain torch (plain.py, extractors.py, networks.py): neither the
producing library nor any code of the files is run. Everything it is not sure of is a Refusal
(support.py, ring_checks.py). fresh.py makes the healthy baseline.

``recompute_rollout`` does the same for PPO, A2C and RecurrentPPO from a rollout that the recorder stored:
mini-batches (rollout_batches.py, recurrent_batches.py), losses (on_policy.py), policies
(on_policy_networks.py, recurrent.py), doubts (rollout_checks.py), baseline (on_policy_fresh.py).

activations.py watches the networks' units while batches are computed: unit_pass.py sees each call of torch,
unit_flow.py knows which weights lie behind a unit, activation_slopes.py where slopes are 0, unit_tally.py
counts.
"""

from gradscope.recompute.batches import Drawing
from gradscope.recompute.gradients import Recomputed, recompute_gradients
from gradscope.recompute.results import BatchGradients, Refusal
from gradscope.recompute.rollout_gradients import RecomputedRollout, recompute_rollout

__all__ = [
    "BatchGradients",
    "Drawing",
    "Recomputed",
    "RecomputedRollout",
    "Refusal",
    "recompute_gradients",
    "recompute_rollout",
]
