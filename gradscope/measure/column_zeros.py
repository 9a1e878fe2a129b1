"""Zeros of gradients by column and batch, so that a slice's own columns can be told apart later."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from gradscope.measure.layer_facts import expected_places, layer_facts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from gradscope.measure.layer_facts import LayerFacts

    Array: TypeAlias = NDArray[Any]
    Booleans: TypeAlias = NDArray[np.bool_]
    Floats: TypeAlias = NDArray[np.float64]

_MATRIX: Final = 2


@dataclass(kw_only=True)
class LayerColumns:
    """One layer over batches."""

    per_column: int
    """Elements of one column."""
    alive: Booleans
    """Columns whose gradient was ever not exactly 0, NaN among them."""
    zeros: list[Array] = field(default_factory=list)
    """Of each batch: zeros by column, without expected ones."""
    num_nonfinite: int = 0


@dataclass(kw_only=True)
class ColumnZeros:
    """Zeros of all layers over batches. Column: index 1; of a vector, each element."""

    tolerance: float
    modules: Mapping[str, str] = field(default_factory=dict)
    layers: dict[str, LayerColumns] = field(default_factory=dict)
    facts: dict[str, LayerFacts] = field(default_factory=dict)

    def add(self, gradients: Mapping[str, Array], wanted: Iterable[str]) -> None:
        """Count the wanted layers of one batch; the others tell which zeros are expected."""
        if not self.facts.keys() >= gradients.keys():
            self.facts = layer_facts({name: each.shape for name, each in gradients.items()}, self.modules)
        for name in wanted:
            if name in gradients and gradients[name].size:
                self._add(name, gradients[name])

    def alive(self) -> dict[str, Booleans]:
        """Columns by layer whose gradient was ever not exactly 0."""
        return {name: layer.alive for name, layer in self.layers.items()}

    def outside(self, names: Iterable[str], own: Mapping[str, Booleans]) -> Floats:
        """Zero fraction of each batch over all these layers, without a slice's columns and expected zeros.

        Returns:
            [batches]; empty where no element is left, NaN where a gradient was not finite.
        """
        kept = {name: ~own[name] if name in own else np.ones_like(self.layers[name].alive) for name in names}
        return _fractions([self._share(name, each) for name, each in kept.items()])

    def inside(self, names: Iterable[str], own: Mapping[str, Booleans]) -> Floats:
        """The same of the slice's own columns."""
        return _fractions([self._share(name, own[name]) for name in names if name in own])

    def _share(self, name: str, kept: Booleans) -> tuple[Floats, int]:
        """Zeros of each batch, and elements, in the kept columns."""
        layer = self.layers[name]
        zeros = np.array([each[kept].sum() for each in layer.zeros], dtype=np.float64)
        if layer.num_nonfinite:
            zeros[:] = np.nan
        return zeros, int(np.count_nonzero(kept)) * layer.per_column

    def _add(self, name: str, gradient: Array) -> None:
        flat = gradient.reshape(1) if not gradient.ndim else gradient
        axis = 1 if flat.ndim >= _MATRIX else 0
        others = tuple(place for place in range(flat.ndim) if place != axis)
        zero = np.abs(flat.astype(np.float64)) <= self.tolerance
        expected = expected_places(gradient, name, self.facts[name])
        if expected is not None:
            zero &= ~expected.reshape(flat.shape)
        width = flat.shape[axis]
        new = LayerColumns(per_column=flat.size // width, alive=np.zeros(width, dtype=bool))
        layer = self.layers.setdefault(name, new)
        layer.alive |= np.asarray((flat != 0).any(axis=others))
        layer.zeros.append(zero.sum(axis=others))
        layer.num_nonfinite += int(flat.size - np.count_nonzero(np.isfinite(flat)))


def _fractions(shares: list[tuple[Floats, int]]) -> Floats:
    elements = sum(size for _, size in shares)
    if not elements:
        return np.zeros(0)
    return np.asarray(np.sum([zeros for zeros, _ in shares], axis=0) / elements)
