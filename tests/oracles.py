"""Slow, obviously right versions of what gradscope.measure computes: plain loops, no cleverness."""

from __future__ import annotations

import math
from collections import Counter
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence


def zeros(
    gradient: np.ndarray[Any, Any], tolerance: float = 1e-8, expected: Sequence[int] = ()
) -> dict[str, Any]:
    """Counts of ZeroCount and its anatomy; `expected` are places of a vector."""
    value = {place: gradient[place].item() for place in product(*map(range, gradient.shape))}
    finite = {p: v for p, v in value.items() if np.isfinite(v)}
    zero = {place for place, v in finite.items() if abs(v) <= tolerance}
    kind: Counter[str] = Counter()
    for place in zero:
        kind[_kind(place, value, zero, expected)] += 1
    largest = max((abs(v) for v in finite.values()), default=0.0)
    squares = math.fsum((abs(v) / largest) ** 2 for v in finite.values()) if largest else 0.0
    return {
        "num_elements": len(value),
        "num_zero": len(zero),
        "num_exact_zero": sum(v == 0 for v in finite.values()),
        "num_nonfinite": len(value) - len(finite),
        "norm": largest * math.sqrt(squares) if finite else None,
        "max_abs": largest if finite else None,
        "anatomy": dict(kind),
    }


def _kind(place: tuple[int, ...], value: Any, zero: Any, expected: Sequence[int]) -> str:
    if len(place) == 1 and place[0] in expected:
        return "expected"
    if len(zero) == len(value):
        return "whole_layer"
    if len(place) < 2:
        return "dead_unit"
    if all(each in zero for each in value if each[1] == place[1]):
        return "dead_input"
    if all(each in zero for each in value if each[0] == place[0]):
        return "dead_unit"
    return "scattered"


def resting_value(column: Sequence[float]) -> float:
    """Most frequent finite value where more than half have it, else 0."""
    finite = [value for value in column if math.isfinite(value)]
    value, number = Counter(finite).most_common(1)[0] if finite else (0.0, 0)
    return value if 2 * number > len(finite) else 0.0


def stability_index(reference: Sequence[float], current: Sequence[float], resting: float) -> float:
    """PSI over the resting value and the deciles of the reference's other values."""
    away = sorted(value for value in reference if value != resting)
    edges = [away[max(k * len(away) // 10 - 1, 0)] if away else resting for k in range(1, 10)]

    def bins(values: Sequence[float]) -> list[int]:
        counts = [0] * 11
        for value in values:
            counts[0 if value == resting else 1 + sum(value > edge for edge in edges)] += 1
        return counts

    pairs = [(p, q) for p, q in zip(bins(reference), bins(current), strict=True) if p + q]
    half = len(pairs) / 2
    shares = [((p + 0.5) / (len(reference) + half), (q + 0.5) / (len(current) + half)) for p, q in pairs]
    return math.fsum((q - p) * math.log(q / p) for p, q in shares)


def holm(p_values: Sequence[float]) -> list[float]:
    """Each p-value's smallest level at which Holm's procedure still rejects it."""
    ordered = sorted(p_values)
    return [min(1.0, max((len(ordered) - j) * q for j, q in enumerate(ordered) if q <= p)) for p in p_values]


def shifted_correlation(activity: Sequence[float], layer: Sequence[float], shift: int) -> float:
    """Pearson's r after moving the activity `shift` places later in a circle."""
    moved = [activity[(place - shift) % len(activity)] for place in range(len(activity))]
    return float(np.corrcoef(moved, layer)[0, 1])


def step_down(statistic: np.ndarray[Any, Any]) -> list[float]:
    """Westfall-Young's adjusted p-values, by removing the best layer again and again."""
    left, adjusted, floor = list(range(len(statistic))), [0.0] * len(statistic), 0.0
    while left:
        best = max(left, key=lambda layer: statistic[layer, 0])
        maxima = [max(statistic[layer, k] for layer in left) for k in range(statistic.shape[1])]
        floor = max(floor, sum(m >= statistic[best, 0] for m in maxima) / len(maxima))
        adjusted[best] = floor
        left.remove(best)
    return adjusted


def change_of_level(series: Sequence[float]) -> int:
    """Start of the second of two levels that leave the least squares."""

    def left_over(place: int) -> float:
        parts = (series[:place], series[place:])
        return sum(math.fsum((v - math.fsum(part) / len(part)) ** 2 for v in part) for part in parts)

    return min(range(1, len(series)), key=left_over)


def kinds_of_layer(
    gradient: np.ndarray[Any, Any], leaf: str, module: str | None, masked: Any, used: Any
) -> tuple[dict[str, int], list[int], list[int] | None]:
    """Zeros by kind, dead units and dead inputs (None of a vector), element by element."""
    all_places = list(product(*map(range, gradient.shape)))
    zero = {place for place in all_places if abs(gradient[place]) <= 1e-8}
    wild = {place for place in all_places if _is_expected(place, gradient, (leaf, module), masked, used)}
    free = [place for place in all_places if place not in wild]
    gates = _num_gates(gradient.shape, leaf, module)
    height = len(gradient) // gates
    swapped = (module == "Embedding" and gradient.ndim == 2) or (
        module == "ConvTranspose1d" and gradient.ndim == 3
    )

    def unit(place: tuple[int, ...]) -> int:
        return place[1] if swapped else place[0] % height

    def column(place: tuple[int, ...]) -> int:
        return place[0] if swapped else place[1]

    def dead(line: Any) -> set[int]:
        groups = {line(place) for place in free}
        return {one for one in groups if all(place in zero for place in free if line(place) == one)}

    units = dead(unit)
    inputs = dead(column) if gradient.ndim > 1 else set()
    kinds: Counter[str] = Counter()
    for place in zero:
        if place in wild:
            kinds["expected"] += 1
        elif all(each in zero for each in free):
            kinds["whole_layer"] += 1
        elif gradient.ndim == 1:
            kinds["dead_unit"] += 1
        elif column(place) in inputs:
            kinds["dead_input"] += 1
        else:
            kinds["dead_unit" if unit(place) in units else "scattered"] += 1
    return dict(kinds), sorted(units), sorted(inputs) if gradient.ndim > 1 else None


def _num_gates(shape: tuple[int, ...], leaf: str, module: str | None) -> int:
    if not leaf.startswith(("weight_ih", "weight_hh", "bias_ih", "bias_hh")):
        return 1
    gates = {"LSTM": 4, "GRU": 3}.get(module or "", 1)
    if module is None and leaf == "weight_hh" and len(shape) == 2:
        gates = 3 if shape[0] == 3 * shape[1] else 4 if shape[0] >= 4 * shape[1] else 1
    return gates if shape[0] % gates == 0 else 1


def _is_expected(
    place: tuple[int, ...], gradient: np.ndarray[Any, Any], known: Any, masked: Any, used: Any
) -> bool:
    leaf, module = known
    if masked is not None:
        return bool(masked[place])
    if leaf == "in_proj_bias" and gradient.ndim == 1 and len(gradient) % 3 == 0:
        third = len(gradient) // 3
        return module in {None, "MultiheadAttention"} and third <= place[0] < 2 * third
    if module != "Embedding" or gradient.ndim != 2:
        return False
    if used is not None:
        return place[0] not in set(used.tolist())
    return not gradient[place[0]].any() and bool(gradient.any())
