"""Inputs of the layers that take the observation, by feature name and slice."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gradscope.records import LayerGradient, ZeroDetails
    from gradscope.run.inputs import RunSlices

_EXTRACTOR: Final = re.compile(r"(.*?features_extractor)\.")
_NUMBERED: Final = re.compile(r"(.*)\.(\d+)\.\w+")
_CRITIC: Final = re.compile(r"(?:^|.*\.)critic\.qf?\d+\.\d+\.weight")
_ACTOR_OUTPUT: Final = re.compile(r"(?:^|.*\.)actor\.mu(?:\.(\d+))?\.weight")
_BEHIND_LSTM: Final = "mlp_extractor."
"""RecurrentPPO's, which takes the output of its LSTM though it stands before it in the file."""
_MATRIX: Final = 2


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """Widths at which a layer takes the observation, and what its columns are called."""

    bar: int
    """Columns of one bar."""
    num_bars: int
    known: RunSlices
    num_actions: int
    """Columns of a continuous action, which a critic takes beside the observation."""

    @property
    def flat(self) -> int:
        return self.bar * self.num_bars


def named_inputs(layers: Sequence[LayerGradient], known: RunSlices) -> tuple[LayerGradient, ...]:
    """Layers whose details name their listed inputs, where these are columns of the observation.

    A layer takes the observation where it is the first of its network (of the features extractor, where
    that has weights) and its number of inputs is one bar's or the flat observation's, in a critic with
    the actions behind. Observations of several entries (Dict spaces) and images are not named.
    """
    layout = _layout(layers, known)
    if layout is None:
        return tuple(layers)
    entrances = {each.name for each in _entrances(layers)}
    return tuple(_named(each, layout) if each.name in entrances else each for each in layers)


def _layout(layers: Iterable[LayerGradient], known: RunSlices) -> _Layout | None:
    shape = known.shapes.get("")
    if shape is None or len(known.shapes) > 1 or not 1 <= len(shape) <= _MATRIX:
        return None
    length = (shape[0] if len(shape) == _MATRIX else known.sequence_length) or 1
    outputs = [each for each in layers if _ACTOR_OUTPUT.fullmatch(each.name)]
    width = math.prod(shape)
    if not width or width % length:
        return None
    return _Layout(
        bar=width // length,
        num_bars=length,
        known=known,
        num_actions=outputs[-1].shape[0] if outputs else 0,
    )


def _entrances(layers: Sequence[LayerGradient]) -> list[LayerGradient]:
    """First matrices: of each features extractor, else of each LSTM or numbered chain of modules."""
    matrices = [each for each in layers if len(each.shape) == _MATRIX]
    extractors = {match[1] for each in matrices if (match := _EXTRACTOR.match(each.name))}
    networks = {each.rpartition(".")[0] for each in extractors}
    is_recurrent = any(_is_first_recurrent(each.name) for each in matrices)
    first: dict[str, LayerGradient] = {}
    for place, each in enumerate(matrices):
        inside, chain = _EXTRACTOR.match(each.name), _NUMBERED.fullmatch(each.name)
        if inside:
            first.setdefault(inside[1], each)
        elif any(not network or each.name.startswith(f"{network}.") for network in networks) or (
            is_recurrent and _BEHIND_LSTM in each.name
        ):
            continue
        elif chain:
            first.setdefault(chain[1], each)
        elif _is_first_recurrent(each.name) or _is_first(each.name, matrices[:place]):
            first[each.name] = each
    return list(first.values())


def _is_first_recurrent(name: str) -> bool:
    return name.rpartition(".")[2] == "weight_ih_l0"


def _is_first(name: str, earlier: Sequence[LayerGradient]) -> bool:
    """Whether a module that stands alone is the first of those beside it: no head such as actor.mu."""
    beside = name.rpartition(".")[0].rpartition(".")
    return not any(each.name.startswith(beside[0] + beside[1]) for each in earlier)


def _named(layer: LayerGradient, layout: _Layout) -> LayerGradient:
    details, width = layer.details, layer.shape[1]
    if details is None or (layer.anatomy is not None and layer.anatomy.whole_layer):
        # Where nothing has a gradient, a list of all columns tells nothing.
        return layer
    bars = next((num for num in (1, layout.num_bars) if width == layout.bar * num), None)
    if bars is None and _CRITIC.fullmatch(layer.name) and width == layout.flat + layout.num_actions:
        bars = layout.num_bars
    return layer if bars is None else replace(layer, details=_with_names(details, layout, bars))


def _with_names(details: ZeroDetails, layout: _Layout, bars: int) -> ZeroDetails:
    listed = dict.fromkeys((*details.dead_inputs, *details.parallel_inputs))
    return replace(
        details,
        input_names={str(column): _name(column, layout, bars) for column in listed},
        input_slices={str(column): name for column in listed if (name := _slice(column, layout, bars))},
    )


def _name(column: int, layout: _Layout, bars: int) -> str:
    if column >= layout.bar * bars:
        return f"action {column - layout.bar * bars}"
    bar, place = divmod(column, layout.bar)
    names = layout.known.feature_names
    name = names[place] if names and len(names) == layout.bar else f"column {place}"
    return name if bars == 1 else f"{name} (bar {bar + 1} of {bars})"


def _slice(column: int, layout: _Layout, bars: int) -> str | None:
    """Of several that hold the column, the smallest; an action belongs to none."""
    if column >= layout.bar * bars:
        return None
    holding = [
        each
        for each in layout.known.slices
        if not each.key
        if (column if each.flat else column % layout.bar) in each.columns
        if not each.flat or bars == layout.num_bars
    ]
    return min(holding, key=lambda each: len(each.columns)).name if holding else None
