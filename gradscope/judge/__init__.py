"""Numbers become findings."""

from gradscope.judge.interventions import causal_verdict
from gradscope.judge.status import crossings, layer_status, snapshot_status, unexpected_layer_fraction
from gradscope.judge.together import association_verdict

__all__ = [
    "association_verdict",
    "causal_verdict",
    "crossings",
    "layer_status",
    "snapshot_status",
    "unexpected_layer_fraction",
]
