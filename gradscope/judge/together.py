"""Associations of all layers become one verdict in plain words; a cause is never claimed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gradscope.records import ALL_LAYERS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradscope.records import Association

NOT_TESTABLE: Final = "associated, effect not testable"
TIMING: Final = "That is timing, not a cause: only an intervention on the input can tell."
TOO_FEW: Final = "too few steps"
RECORD: Final = "Record a denser timeline with gradscope.record.GradscopeCallback."
MAX_NAMED: Final = 3
"""Layers named in the reason; the others are counted."""


def association_verdict(
    slice_name: str,
    layers: Sequence[Association],
    change_step: int | None,
    *,
    unknown: str | None = None,
    unused: str | None = None,
) -> tuple[str, str]:
    """Verdict over all layers and its reason, before interventions (interventions.py).

    Args:
        slice_name: whose activity it is.
        layers: of one run, the pooled total "*" among them.
        change_step: step at which the activity's level changes most, where it does.
        unknown: why no step's activity is known, where none is.
        unused: why a timeline that is there is not used; the reason ends with it.

    Returns:
        "associated, effect not testable", "not associated" or "too few steps"; one or two sentences.
    """
    verdict, reason = _verdict(slice_name, layers, change_step)
    if verdict == TOO_FEW and unknown is not None:
        reason = f"the activity of {slice_name!r} is not known: {unknown}."
    elif verdict == TOO_FEW and unused is None:
        reason = f"{reason} {RECORD}"
    return verdict, f"{reason} {unused}." if unused else reason


def _verdict(slice_name: str, layers: Sequence[Association], change_step: int | None) -> tuple[str, str]:
    named = [layer for layer in layers if layer.name != ALL_LAYERS] or list(layers)
    associated = [layer for layer in named if layer.verdict == "associated"]
    pooled = [layer for layer in layers if layer.name == ALL_LAYERS and layer.verdict == "associated"]
    if associated:
        return NOT_TESTABLE, _associated(slice_name, associated, len(named), change_step)
    if pooled:
        return NOT_TESTABLE, _pooled(slice_name, pooled[0], change_step)
    tested = [layer for layer in named if layer.verdict == "not associated"]
    if tested:
        return "not associated", _not_associated(slice_name, tested, change_step)
    why = next((layer.reasons["verdict"] for layer in named if "verdict" in layer.reasons), "no layer")
    return TOO_FEW, f"{why}."


def _associated(
    slice_name: str, layers: Sequence[Association], num_layers: int, change_step: int | None
) -> str:
    ordered = sorted(layers, key=lambda layer: (layer.p_value_adjusted or 0.0, -abs(layer.pearson or 0.0)))
    names = ", ".join(layer.name for layer in ordered[:MAX_NAMED])
    others = f" and {len(ordered) - MAX_NAMED} more" if len(ordered) > MAX_NAMED else ""
    when = "" if change_step is None else f", whose level changes most at step {change_step:,}"
    return (
        f"zeros of {len(layers)} of {num_layers} layers ({names}{others}) rise together with "
        f"{slice_name!r} activity{when}. {TIMING}"
    )


def _pooled(slice_name: str, total: Association, change_step: int | None) -> str:
    when = "" if change_step is None else f", whose level changes most at step {change_step:,}"
    return (
        f"zeros of all layers together rise with {slice_name!r} activity{when} (p = "
        f"{total.p_value_adjusted:.2g}); no single layer stands out. {TIMING}"
    )


def _not_associated(slice_name: str, layers: Sequence[Association], change_step: int | None) -> str:
    known = [layer.p_value_adjusted for layer in layers if layer.p_value_adjusted is not None]
    if not known:
        return f"{layers[0].reasons.get('verdict', 'nothing changes')}."
    return (
        f"no layer's zeros rise together with {slice_name!r} activity more closely than chance allows: "
        f"smallest adjusted p = {min(known):.2g} over {len(layers)} layers, trends taken out."
        f"{_when(layers, change_step)}"
    )


def _when(layers: Sequence[Association], change_step: int | None) -> str:
    """Where both change, for the layer that follows the activity best; no proof of the contrary."""
    rising = [layer for layer in layers if layer.change_step is not None and (layer.pearson or 0) > 0]
    if change_step is None or not rising:
        return ""
    best = max(rising, key=lambda layer: layer.pearson or 0)
    return (
        f" The activity's level changes most at step {change_step:,}, the zeros of {best.name} at step "
        f"{best.change_step:,} (r = {best.pearson:.2f}). One rise in each series is little to go by: "
        "this does not show that they are unrelated."
    )
