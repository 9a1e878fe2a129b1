"""Wording, rounding and order, decided once for every renderer."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gradscope.records import ALL_LAYERS, Origin, Status
from gradscope.settings import SMALL_LAYER_SHARE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gradscope.records import Crossing, LayerGradient, Report, SnapshotGradient, ZeroAnatomy

UNKNOWN: Final = "?"
"""What a screen shows for None."""
ROUNDS_TO_NOTHING: Final = 0.0005
"""Fractions below would print as 0.0 %."""
THOUSAND: Final = 1000
PLAIN_NUMBERS: Final = (1e-4, 1e6)
"""Sizes between are printed without an exponent."""
KINDS: Final = {
    "expected": "expected",
    "whole_layer": "whole layer",
    "dead_input": "dead inputs",
    "dead_unit": "dead units",
    "scattered": "scattered",
}
_HIDDEN: Final = {"Cc", "Cf", "Cs", "Zl", "Zp", "Co", "Cn"}
"""Unicode categories that could steer a terminal or reorder text."""


def safe(name: str) -> str:
    """A name from a file; control, format and surrogate characters are written out as escapes."""
    return "".join(
        char.encode("unicode_escape").decode() if unicodedata.category(char) in _HIDDEN else char
        for char in name
    )


def sentence(text: str) -> str:
    """The text with a capital first letter."""
    return text[:1].upper() + text[1:]


def percent(fraction: float | None) -> str:
    """0.2738 -> "27.4 %"; what is not quite none or all never looks like it."""
    if fraction is None:
        return UNKNOWN
    if 0 < fraction < ROUNDS_TO_NOTHING:
        return "<0.1 %"
    if 1 - ROUNDS_TO_NOTHING <= fraction < 1:
        return ">99.9 %"
    return f"{100 * fraction:.1f} %"


def number(value: float | None) -> str:
    """Three significant digits: 1.90, 0.0213, 4.1e-09, 12,300."""
    if value is None:
        return UNKNOWN
    if value == 0:
        return "0"
    if not PLAIN_NUMBERS[0] <= abs(value) < PLAIN_NUMBERS[1]:
        return f"{value:.1e}"
    rounded = float(f"{value:.3g}")
    return f"{rounded:#.3g}".rstrip(".") if abs(rounded) < THOUSAND else f"{rounded:,.0f}"


def count(value: int | None) -> str:
    """12808 -> "12,808"."""
    return UNKNOWN if value is None else f"{value:,}"


def bar(fraction: float | None, width: int, *, ascii_only: bool) -> str:
    """A bar of at most ``width`` cells; any zero at all shows at least a sliver."""
    if fraction is None or width <= 0:
        return ""
    if ascii_only:
        return "#" * max(round(fraction * width), 1 if fraction else 0)
    eighths = max(round(fraction * width * 8), 1 if fraction else 0)
    full, part = divmod(eighths, 8)
    return "█" * full + (" ▏▎▍▌▋▊▉"[part] if part else "")


def short_layer(name: str, width: int, *, ascii_only: bool = False) -> str:
    """A layer name of at most ``width`` cells; its end says most, so the beginning goes."""
    name = safe(name)
    if ascii_only:
        name = name.encode("ascii", "backslashreplace").decode()
    dots = "~" if ascii_only else "…"
    if len(name) <= width:
        return name
    return dots + name[len(name) - max(width - len(dots), 1) :]


def kinds(anatomy: ZeroAnatomy | None) -> str:
    """Zeros by kind, most first: "dead units 4,380, dead inputs 896"."""
    if anatomy is None:
        return UNKNOWN
    counts = [(getattr(anatomy, key), words) for key, words in KINDS.items()]
    present = sorted((each for each in counts if each[0]), key=lambda each: -each[0])
    return ", ".join(f"{words} {number:,}" for number, words in present) or "none"


@dataclass(frozen=True, kw_only=True)
class StepRow:
    """One line of the step table."""

    step: str
    activity: str
    zeros: str
    fraction: float | None
    norm: str
    clip: str
    status: Status
    first_layer: str


def run_names(report: Report) -> list[str]:
    """Runs in the order they appear."""
    return list(dict.fromkeys(snapshot.run for snapshot in report.snapshots))


def of_run(report: Report, run: str) -> list[SnapshotGradient]:
    """Snapshots of one run, in order."""
    return [snapshot for snapshot in report.snapshots if snapshot.run == run]


def step_rows(report: Report, run: str) -> list[StepRow]:
    """The step table of one run."""
    return [
        StepRow(
            step=count(snapshot.step) if snapshot.step is not None else safe(snapshot.source),
            activity=percent(snapshot.position_activity),
            zeros=percent(snapshot.zero_fraction),
            fraction=snapshot.zero_fraction,
            norm=number(snapshot.norm),
            clip=_clip(snapshot),
            status=snapshot.status,
            first_layer=_first_to_cross(report, snapshot),
        )
        for snapshot in of_run(report, run)
    ]


def _clip(snapshot: SnapshotGradient) -> str:
    if snapshot.clip_coefficient is not None:
        return number(snapshot.clip_coefficient)
    return "none" if "does not clip" in snapshot.reasons.get("clip_coefficient", "") else UNKNOWN


def _first_to_cross(report: Report, snapshot: SnapshotGradient) -> str:
    """The layer that crossed the worst limit at this step for the first time."""
    here = [
        each
        for each in layer_crossings(report, snapshot.run)
        if each.step == snapshot.step and each.step is not None
    ]
    if not here:
        return ""
    heavy = heavy_layers(snapshot)
    worst = max(here, key=lambda each: (each.layer in heavy, Status(each.limit).rank, each.zero_fraction))
    return worst.layer


def layer_crossings(report: Report, run: str) -> list[Crossing]:
    """Crossings of single layers, the pooled total left out: worst limit first, layers that count first."""
    found = [each for each in report.crossings if each.run == run and each.layer != ALL_LAYERS]
    heavy = {name for snapshot in of_run(report, run) for name in heavy_layers(snapshot)}
    return sorted(
        found,
        key=lambda each: (
            -Status(each.limit).rank,
            each.layer not in heavy,
            each.step or 0,
            -each.zero_fraction,
        ),
    )


def heavy_layers(snapshot: SnapshotGradient) -> set[str]:
    """Layers large enough to decide the snapshot's status."""
    least = SMALL_LAYER_SHARE * snapshot.num_elements
    return {layer.name for layer in snapshot.layers if layer.num_elements >= least}


def worst_snapshot(report: Report, run: str) -> SnapshotGradient | None:
    """The snapshot with the worst status, then the most zeros; None without gradients."""
    measured = [each for each in of_run(report, run) if each.zero_fraction is not None]
    return max(measured, key=lambda each: (each.status.rank, each.zero_fraction or 0), default=None)


def unexpected(layer: LayerGradient) -> float:
    """Share of zeros without the expected ones; -1 where unknown."""
    if layer.zero_fraction is None or layer.anatomy is None or layer.num_zero is None or not layer.num_zero:
        return -1.0 if layer.zero_fraction is None else 0.0
    return layer.zero_fraction * (1 - layer.anatomy.expected / layer.num_zero)


def worst_layers(layers: Iterable[LayerGradient], most: int) -> list[LayerGradient]:
    """Layers with a gradient, worst status first, then most unexpected zeros; none that are free of zeros."""
    known = [layer for layer in layers if layer.origin is not Origin.NONE and layer.num_zero]
    return sorted(known, key=lambda layer: (-layer.status.rank, -unexpected(layer)))[:most]


def origin_words(snapshots: Sequence[SnapshotGradient]) -> str:
    """One line on where gradients come from and which batch they are of."""
    known = [each for each in snapshots if each.origin is not Origin.NONE]
    if not known:
        return "no gradients"
    first = known[0]
    size = f"batch size {first.batch_size}" if first.batch_size else "batch size unknown"
    batches = (
        f"{first.num_batches} batch" + ("" if first.num_batches == 1 else "es") if first.num_batches else ""
    )
    seed = f"seed {first.seed}" if first.seed is not None else ""
    origins = "/".join(dict.fromkeys(each.origin.value for each in known))
    some = "" if len(known) == len(snapshots) else f" for {len(known)} of {len(snapshots)} snapshots"
    return f"gradients {origins}{some} ({', '.join(part for part in (batches, size, seed) if part)})"
