"""Numbers become findings."""

from gradscope.judge.status import crossings, layer_status, snapshot_status, unexpected_layer_fraction

__all__ = ["crossings", "layer_status", "snapshot_status", "unexpected_layer_fraction"]
