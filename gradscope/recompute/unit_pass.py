"""One forward pass, seen call by call: which layers gave which outputs through which activation."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import torch
from torch.overrides import TorchFunctionMode

from gradscope.recompute.activation_slopes import activation_named, flat, input_before
from gradscope.recompute.unit_flow import Flow, behind, is_kept, joined, layer_flow
from gradscope.recompute.unit_tally import RECURRENT, outgoing_of_none

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from gradscope.recompute.unit_tally import Units

_LAYERS: Final[Mapping[str, int]] = {"linear": -1, "conv1d": -2, "conv2d": -3, "conv3d": -4}
"""Axis of the units in what they give."""
_READS: Final = frozenset(
    {"__get__", "size", "dim", "numel", "stride", "is_contiguous", "is_floating_point", "__len__", "detach"}
)
"""Looks at a tensor that no output depends on, or through which no gradient flows."""
_MAX_TEXT: Final = 120
_WEIGHTS: Final = 2
"""Place of the list of weights among an LSTM's arguments."""
_SEQUENCES: Final = 3
"""Dimensions."""


class Pass(TorchFunctionMode):
    """Sees every call of torch in its block, and passes it on as it is."""

    def __init__(self, units: Units) -> None:
        super().__init__()
        self._units, self._names = units, units.names
        self._is_first = not units.num_batches
        # The tensors themselves are held, or their ids would be used again.
        self._flows: dict[int, tuple[torch.Tensor, Flow]] = {}
        self._bare: dict[int, tuple[torch.Tensor, str, int]] = {}
        """Outputs of layers that no activation was applied to as yet: layer, axis of units."""
        self._times: dict[str, int] = {}
        """How far recurrent layers have come in their sequences."""

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Do the call; of layers and activations in it, count the outputs."""
        del types
        named: Mapping[str, Any] = kwargs or {}
        if not torch.is_grad_enabled():
            return func(*args, **named)
        name = getattr(func, "__name__", "")
        kind = self._kind(name, args, named)
        inputs = None if kind is None else input_before(kind, name, args, named)
        result = func(*args, **named)
        if self._units.problem is None:
            with self._watch_failing():
                if kind is not None and inputs is not None:
                    self._activated(kind, func, (args, named), inputs, result)
                else:
                    self._called(name, args, named, result)
        return result

    def end(self) -> None:
        """Count the outputs that went through no activation."""
        with self._watch_failing():
            for outputs, layer, axis in self._bare.values():
                self._units.count(layer, None, outputs.detach(), None, axis)

    @contextmanager
    def _watch_failing(self) -> Iterator[None]:
        """Whatever the user's tensors are (of vmap, of their own class), looking at them breaks nothing."""
        try:
            yield
        except Exception as error:  # noqa: BLE001  no list of what torch raises is complete
            self._units.problem = f"{type(error).__name__}: {' '.join(str(error).split())[:_MAX_TEXT]}"

    def _kind(self, name: str, args: tuple[Any, ...], named: Mapping[str, Any]) -> str | None:
        """Type of the activation, where a call applies one to a layer's bare outputs."""
        is_bare = id(_first(args, named)) in self._bare
        return activation_named(name, args, named) if is_bare and self._units.problem is None else None

    def _activated(
        self,
        kind: str,
        func: Callable[..., Any],
        call: tuple[tuple[Any, ...], Mapping[str, Any]],
        inputs: torch.Tensor,
        result: Any,
    ) -> None:
        given = _first(*call)
        _, layer, axis = self._bare.pop(id(given))
        rest = call[0][1:], {key: each for key, each in call[1].items() if key != "input"}
        with torch.no_grad():
            outputs = result.detach()
            self._units.count(layer, kind, outputs, flat(kind, func, outputs, inputs, rest), axis)
        if id(given) in self._flows:
            self._flows[id(result)] = result, self._flows[id(given)][1]

    def _called(self, name: str, args: tuple[Any, ...], named: Mapping[str, Any], result: Any) -> None:
        given = _first(args, named)
        if name in _LAYERS:
            self._layer(_LAYERS[name], args, named, result)
            return
        if name in RECURRENT:
            self._recurrent(RECURRENT[name], args, result)
        elif id(given) in self._bare and is_kept(name) and isinstance(result, torch.Tensor):
            _, layer, axis = self._bare.pop(id(given))
            self._bare[id(result)] = result, layer, axis
        if self._is_first and name not in _READS:
            self._used(name, args, named, result)

    def _layer(self, axis: int, args: tuple[Any, ...], named: Mapping[str, Any], result: Any) -> None:
        inputs = _first(args, named)
        weight = args[1] if len(args) > 1 else named["weight"]
        layer = self._names.get(id(weight)) if weight.dim() > 1 else None
        self._taken(inputs, weight if layer is not None else None, axis)
        if layer is not None:
            self._bare[id(result)] = result, layer, axis
            if layer not in self._units.outgoing:
                self._units.outgoing[layer] = outgoing_of_none(len(weight), goes_elsewhere=not self._is_first)
            if self._is_first:
                self._flows[id(result)] = result, layer_flow(layer, len(weight), axis)

    def _taken(self, inputs: Any, weight: torch.Tensor | None, axis: int) -> None:
        """A layer takes these inputs; without its weight they go elsewhere."""
        if id(inputs) not in self._flows:
            return
        _, flow = self._flows[id(inputs)]
        fits = flow.axis == axis and weight is not None and weight.shape[1] == inputs.shape[axis]
        for span in flow.spans:
            outgoing = self._units.outgoing[span.layer]
            if fits and weight is not None:
                outgoing.taken_by(self._names[id(weight)], span.columns(weight.detach()))
            else:
                outgoing.goes_elsewhere = True

    def _recurrent(self, kind: str, args: tuple[Any, ...], result: Any) -> None:
        """Hidden outputs of the last layer, [times, sequences, units] or batch first."""
        weights = args[_WEIGHTS] if len(args) > _WEIGHTS and isinstance(args[_WEIGHTS], (list, tuple)) else ()
        names = [self._names.get(id(each), "") for each in weights]
        inputs = [name for name in names if name.rpartition(".")[2].startswith("weight_ih_l")]
        outputs = result[0].detach()
        if not inputs or inputs[-1].endswith("_reverse"):
            return
        if inputs[-1] not in self._units.outgoing:
            self._units.outgoing[inputs[-1]] = outgoing_of_none(outputs.shape[-1], goes_elsewhere=True)
        self._units.count(inputs[-1], kind, self._without_padding(inputs[-1], outputs), None, -1)

    def _without_padding(self, layer: str, outputs: torch.Tensor) -> torch.Tensor:
        """Of [times, sequences, units], which may be a part of the times, those that are no padding."""
        mask, num_times = self._units.mask, len(outputs)
        since = self._times.get(layer, 0)
        self._times[layer] = since + num_times
        if mask is None or outputs.dim() != _SEQUENCES or len(mask) % max(outputs.shape[1], 1):
            return outputs
        by_time = mask.reshape(outputs.shape[1], -1).T[since : since + num_times]
        return outputs[by_time] if by_time.shape == outputs.shape[:2] else outputs

    def _used(self, name: str, args: tuple[Any, ...], named: Mapping[str, Any], result: Any) -> None:
        """Another function looks at tensors: units stay traceable through some."""
        tensors = [each for each in _listed((*args, *named.values())) if id(each) in self._flows]
        if not tensors:
            return
        flow = self._moved(name, tensors, args, named, result)
        if flow is not None:
            self._flows[id(result)] = result, flow
            return
        for span in (span for each in tensors for span in self._flows[id(each)][1].spans):
            self._units.outgoing[span.layer].goes_elsewhere = True

    def _moved(
        self,
        name: str,
        tensors: list[torch.Tensor],
        args: tuple[Any, ...],
        named: Mapping[str, Any],
        result: Any,
    ) -> Flow | None:
        if len(tensors) == 1:
            _, flow = self._flows[id(tensors[0])]
            found = behind(name, tensors[0], flow, result)
            if found is not None:
                return found
        parts = args[0] if args else named.get("tensors")
        if not isinstance(parts, (list, tuple)):
            return None
        axis = named.get("dim", named.get("axis", args[1] if len(args) > 1 else 0))
        flows = {i: self._flows[id(each)][1] for i, each in enumerate(parts) if id(each) in self._flows}
        return joined(name, parts, flows, result, axis)


def _first(args: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
    """What a function of torch is applied to."""
    return args[0] if args else named.get("input")


def _listed(values: tuple[Any, ...]) -> Iterator[torch.Tensor]:
    """Tensors among arguments, and in lists of them."""
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from (each for each in value if isinstance(each, torch.Tensor))
