"""Counts over the outputs of one layer's units, batch by batch; no output is kept but a bounded sample."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import torch

from gradscope.recompute.activation_slopes import RECTIFIED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    Array = NDArray[Any]

MAX_SAMPLE_ROWS: Final = 1024
MAX_SAMPLE_ELEMENTS: Final = 1 << 19
"""4 MB of doubles for one layer; half a second for its singular values."""
RECURRENT: Final = {"lstm": "LSTM", "gru": "GRU", "rnn_tanh": "RNN", "rnn_relu": "RNN"}
"""Types of recurrent layers by torch's name."""
ELSEWHERE: Final = "its outputs go elsewhere than into a linear or convolutional layer"
NOWHERE: Final = "no linear or convolutional layer takes its outputs"


@dataclass(kw_only=True, eq=False)
class Outgoing:
    """What takes the outputs of one layer's units, seen at the first batch."""

    zero: torch.Tensor
    """Whether all weights seen so far behind a unit are exactly 0, booleans [units]."""
    takers: list[str] = field(default_factory=list)
    """Names of their weights."""
    goes_elsewhere: bool = False
    """Whether something else than a known layer looks at the outputs."""

    def taken_by(self, name: str, columns: torch.Tensor) -> None:
        """Note weights of a next layer, [out, before, units, after]: those behind unit i are [:, :, i, :]."""
        self.takers.append(name)
        self.zero &= columns.abs().sum((0, 1, 3)) == 0


def _magnitudes(outputs: torch.Tensor, others: list[int], *, is_positive: bool) -> torch.Tensor:
    """Sum of |output| for each unit: 0 only where all are 0.

    In float32, where that is not too narrow: in double precision a sum takes three times as long.
    """
    narrow = outputs.float() if outputs.dtype.itemsize < 4 else outputs  # noqa: PLR2004 - bytes of float32
    found = (narrow if is_positive else narrow.abs()).sum(others)
    return found if math.isfinite(float(found.sum())) else outputs.abs().sum(others, dtype=torch.float64)


def outgoing_of_none(num_units: int, *, goes_elsewhere: bool) -> Outgoing:
    """Before any next layer was seen."""
    return Outgoing(zero=torch.ones(num_units, dtype=torch.bool), goes_elsewhere=goes_elsewhere)


@dataclass(kw_only=True, eq=False)
class UnitTally:
    """What was seen of one layer's units; satisfies ``gradscope.measure.units.UnitCounts``.

    An output is one number of one unit: of a row, of each bar where a linear layer looks at bars one by
    one, of each position where a convolution does.
    """

    layer: str
    """Weight whose rows make the units."""
    activation: str | None
    """Type of the activation that was applied to its outputs; None where none was seen."""
    num_units: int
    batch: int = 0
    """In which it was first seen: there the sample is taken."""
    num_rows: int = 0
    """Outputs of each unit."""
    _magnitude: torch.Tensor
    _num_flat: torch.Tensor | None
    _num_saturated: torch.Tensor | None
    _outgoing: Outgoing
    _sample: list[torch.Tensor] = field(default_factory=list)

    def add(self, outputs: torch.Tensor, flat: torch.Tensor | None, axis: int, *, keeps_sample: bool) -> None:
        """Count outputs of one pass, [..., units at ``axis``, ...].

        Args:
            outputs: behind the activation, without graph.
            flat: whether the activation's slope is exactly 0, of the same shape; None where it is so
                nowhere, for a ReLU, and without activation.
            axis: of the units.
            keeps_sample: whether rows may be kept, until there are enough.
        """
        others = [each for each in range(outputs.dim()) if each != axis % outputs.dim()]
        num_rows = outputs.numel() // self.num_units if self.num_units else 0
        self.num_rows += num_rows
        if not num_rows:
            return
        self._magnitude += _magnitudes(outputs, others, is_positive=self.activation == RECTIFIED)
        if flat is not None and self._num_flat is not None and self._num_saturated is not None:
            self._num_flat += torch.count_nonzero(flat, dim=others)
            self._num_saturated += torch.count_nonzero(flat & (outputs != 0), dim=others)
        if keeps_sample:
            self._keep(outputs.movedim(axis, -1).reshape(-1, self.num_units))

    def _keep(self, rows: torch.Tensor) -> None:
        most = max(1, min(MAX_SAMPLE_ROWS, MAX_SAMPLE_ELEMENTS // self.num_units))
        left = most - sum(map(len, self._sample))
        if left > 0:
            # Evenly spread; the spacing is no whole number, so it meets all bars and positions in turn.
            places = torch.linspace(0, len(rows) - 1, min(left, len(rows)), dtype=torch.float64).long()
            self._sample.append(rows[places].to(torch.float32, copy=True))

    @property
    def magnitude(self) -> Array:
        """Sum of |output|, float64 [units]; not finite where an output is not."""
        return self._magnitude.numpy()

    @property
    def is_flat(self) -> Array | None:
        """Whether the activation's slope is exactly 0 on every row, booleans [units]; None without one."""
        if self._num_flat is None:
            return None
        found = self._magnitude == 0 if self.activation == RECTIFIED else self._num_flat == self.num_rows
        return found.numpy()

    @property
    def num_saturated(self) -> Array | None:
        """Outputs where that slope is exactly 0 and the output is not, [units]."""
        return None if self._num_saturated is None else self._num_saturated.numpy()

    @property
    def sample(self) -> Array:
        """Some outputs of the batch in which it was first seen, float32 [rows, units]."""
        empty = torch.empty(0, self.num_units)
        return torch.cat([empty, *self._sample]).numpy()

    @property
    def outgoing_zero(self) -> Array | None:
        """Whether all weights of all next layers from a unit are exactly 0; None where not known."""
        return None if self.outgoing_reason else self._outgoing.zero.numpy()

    @property
    def outgoing_reason(self) -> str:
        """Why that is not known; "" where it is."""
        return ELSEWHERE if self._outgoing.goes_elsewhere else "" if self._outgoing.takers else NOWHERE


def unit_tally(layer: str, activation: str | None, outgoing: Outgoing, *, can_be_flat: bool) -> UnitTally:
    """Counts of nothing yet."""
    num_units = len(outgoing.zero)
    counts: Sequence[torch.Tensor] = [torch.zeros(num_units, dtype=torch.int64) for _ in range(2)]
    return UnitTally(
        layer=layer,
        activation=activation,
        num_units=num_units,
        _magnitude=torch.zeros(num_units, dtype=torch.float64),
        _num_flat=counts[0] if can_be_flat else None,
        _num_saturated=counts[1] if can_be_flat else None,
        _outgoing=outgoing,
    )


@dataclass(kw_only=True, eq=False)
class Units:
    """Counts of all layers that were seen, filled by ``activations.watched``."""

    tallies: dict[str, UnitTally] = field(default_factory=dict)
    """By name of the weight, in order of execution."""
    outgoing: dict[str, Outgoing] = field(default_factory=dict)
    names: Mapping[int, str] = field(default_factory=dict)
    """Layer of each weight, by the tensor's id."""
    num_batches: int = 0
    """Batches that have been computed."""
    problem: str | None = None
    """Why a network's units cannot be followed; nothing that was counted is then the whole."""
    mask: torch.Tensor | None = None
    """Rows that are no padding, booleans [rows]; None: all."""

    def count(
        self, layer: str, kind: str | None, outputs: torch.Tensor, is_flat: torch.Tensor | None, axis: int
    ) -> None:
        """Add outputs of a layer behind its activation, with its units at ``axis``."""
        if layer not in self.tallies:
            can_be_flat = kind is not None and kind not in RECURRENT.values()
            made = unit_tally(layer, kind, self.outgoing[layer], can_be_flat=can_be_flat)
            made.batch = self.num_batches
            self.tallies[layer] = made
        tally = self.tallies[layer]
        if tally.activation != kind:
            # Applied twice, in two ways: what is said of a layer speaks of the first.
            return
        if self.mask is not None and outputs.dim() + axis > 0 and len(outputs) == len(self.mask):
            outputs = outputs[self.mask]
            is_flat = None if is_flat is None else is_flat[self.mask]
        with torch.no_grad():
            tally.add(outputs, is_flat, axis, keeps_sample=tally.batch == self.num_batches)
