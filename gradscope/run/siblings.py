"""What the other layers of a file tell of one: gates by the recurrent weights, pruned weights by the mask."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from gradscope.measure.layer_facts import LayerFacts, layer_facts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradscope.records import Layer

_RECURRENT: Final = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
_PRUNED: Final = "_orig"
_MASK: Final = "_mask"


def stored_facts(layer: Layer, beside: Mapping[str, Layer]) -> LayerFacts:
    """Facts of one stored layer; only the layers that tell something of it are read.

    Raises:
        UnreadableFile: the file changed since it was opened.
    """
    owner, dot, leaf = layer.name.rpartition(".")
    shapes = {layer.name: layer.shape}
    modules: dict[str, str] = {}
    for name in _telling(owner + dot, leaf):
        if name in beside:
            shapes[name] = beside[name].shape
    for name in (layer.name, _following(layer.name)):
        known = layer if name == layer.name else beside.get(name)
        if known is not None:
            shapes[name] = known.shape
            modules |= {name: known.module} if known.module else {}
    facts = layer_facts(shapes, modules)[layer.name]
    mask = beside.get(f"{layer.name.removesuffix(_PRUNED)}{_MASK}") if leaf.endswith(_PRUNED) else None
    if mask is None or mask.weight is None:
        return facts
    return replace(facts, masked=mask.weight == 0)


def _telling(owner: str, leaf: str) -> tuple[str, ...]:
    if leaf.startswith(_RECURRENT):
        kind = next(each for each in _RECURRENT if leaf.startswith(each))
        return (f"{owner}weight_hh{leaf.removeprefix(kind)}",)
    return (f"{owner}bias_k",) if leaf == "in_proj_bias" else ()


def _following(name: str) -> str:
    """The weight of the next of numbered modules, where this is a bias of one."""
    owner, _, leaf = name.rpartition(".")
    before, dot, number = owner.rpartition(".")
    return f"{before}{dot}{int(number) + 1}.weight" if leaf == "bias" and number.isdecimal() else ""
