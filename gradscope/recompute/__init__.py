"""RECOMPUTE: checkpoint + replay buffer -> the gradients the library's next train() would see.

``recompute_gradients`` draws the batches (batches.py) from random states of its own and does the losses
of one algorithm (dqn.py, sac.py, td3.py, quantiles.py) over networks that play the parts roles.py names.
They are rebuilt from their weights in plain torch (plain.py, extractors.py, networks.py): neither the
producing library nor any code of the files is run. Everything it is not sure of is a Refusal
(support.py, ring_checks.py). fresh.py makes the healthy baseline.
"""

from gradscope.recompute.batches import Drawing
from gradscope.recompute.gradients import (
    BatchGradients,
    Recomputed,
    Refusal,
    recompute_gradients,
)

__all__ = ["BatchGradients", "Drawing", "Recomputed", "Refusal", "recompute_gradients"]
