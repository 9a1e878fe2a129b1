"""What was caught for one save, and the snapshot file's content made of it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Final

from gradscope.records import SNAPSHOT_SCHEMA, Clipping
from gradscope.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch

    from gradscope.record.batch import Observations, PositionCounts
    from gradscope.record.gradients import GradientCounts, WatchedLayer
    from gradscope.record.recording import Plan

MAX_ROWS: Final = 4096
"""Rows of a batch that are stored."""
CLIP_TOLERANCE: Final = 1e-6
"""Relative; a larger difference of norms than this was made by somebody."""

RESUMED: Final = "training was resumed: the first update seen is not of a fresh network"


@dataclass(frozen=True, kw_only=True)
class Captured:
    """The first gradient one optimizer saw after a save."""

    step: int
    updates_after_save: int
    """1: on the saved weights themselves."""
    gradients: Mapping[str, torch.Tensor | None]
    counts: GradientCounts


@dataclass(kw_only=True)
class Saved:
    """One checkpoint that waits for its gradients; filled by the recording."""

    path: Path
    step: int
    num_updates: int
    batch_size: int | None
    update: int = 0
    observations: Observations | None = None
    rows: PositionCounts | None = None
    captured: dict[str, Captured] = field(default_factory=dict)


def rounded(number: float | None) -> float | None:
    """Nine digits, which hold a float32; None where not finite."""
    return None if number is None or not math.isfinite(number) else float(f"{number:.9g}")


def clipping(counts: GradientCounts, plan: Plan) -> Clipping:
    """Norm before clipping and the factor that clipping applied, or why they are not known."""
    before, after = counts.norm_before_clip, counts.total_norm
    if before is None:
        reason = "no backward pass was seen before this step"
        return Clipping(reasons={"norm_before_clip": reason, "clip_coefficient": reason})
    if not math.isfinite(before):
        reason = "the gradient's norm is not finite"
        return Clipping(reasons={"norm_before_clip": reason, "clip_coefficient": reason})
    if before == 0 or not math.isfinite(after):
        reason = (
            "every gradient is 0" if before == 0 else "the gradient became non-finite after the backward pass"
        )
        return Clipping(norm_before_clip=rounded(before), reasons={"clip_coefficient": reason})
    if not plan.clips and abs(after / before - 1) <= CLIP_TOLERANCE:
        reason = f"{plan.algorithm} does not clip"
        return Clipping(norm_before_clip=rounded(before), reasons={"clip_coefficient": reason})
    return Clipping(norm_before_clip=rounded(before), clip_coefficient=rounded(after / before))


def snapshot_content(
    saved: Saved, plan: Plan, baseline: Mapping[str, float | None]
) -> tuple[Mapping[str, torch.Tensor], Mapping[str, object]]:
    """Tensors and metadata of one snapshot file."""
    gradients = caught_gradients(saved)
    tensors = {f"gradient.{name}": tensor for name, tensor in gradients.items() if tensor is not None}
    rows = {key: values[:MAX_ROWS].cpu().clone() for key, values in (saved.observations or {}).items()}
    tensors |= {
        f"batch.observations.{key}" if key else "batch.observations": value for key, value in rows.items()
    }
    num_rows = next((len(values) for values in (saved.observations or {}).values()), saved.batch_size)
    metadata = {
        "schema": SNAPSHOT_SCHEMA,
        "gradscope": __version__,
        "step": saved.step,
        "algorithm": plan.algorithm,
        "num_updates": saved.num_updates,
        "num_batches": 1,
        "batch_size": num_rows,
        "zero_tolerance": plan.zero_tolerance,
        **plan.observed,
        **({} if saved.rows is None else asdict(saved.rows)),
        "observations": "as the network sees them (normalised, preprocessed)",
        "optimizers": {name: optimizer_entry(captured, plan) for name, captured in saved.captured.items()},
        "layers": layer_entries(plan, gradients, baseline),
        "reasons": snapshot_reasons(saved, baseline),
    }
    return tensors, metadata


def caught_gradients(saved: Saved) -> Mapping[str, torch.Tensor | None]:
    """By layer; where two optimizers own a layer, the first that saw a gradient speaks."""
    merged: dict[str, torch.Tensor | None] = {}
    for captured in saved.captured.values():
        for name, tensor in captured.gradients.items():
            if merged.get(name) is None:
                merged[name] = tensor
    return merged


def optimizer_entry(captured: Captured, plan: Plan) -> Mapping[str, object]:
    """How far from the saved weights this optimizer's gradient is, and what clipping did to it."""
    clip = clipping(captured.counts, plan)
    norm = rounded(captured.counts.total_norm)
    reasons = dict(clip.reasons) | ({} if norm is not None else {"norm": "the gradient is not finite"})
    return {
        "updates_after_save": captured.updates_after_save,
        "step": captured.step,
        "norm_before_clip": clip.norm_before_clip,
        "norm": norm,
        "clip_coefficient": clip.clip_coefficient,
        "reasons": reasons,
    }


def layer_entries(
    plan: Plan, gradients: Mapping[str, torch.Tensor | None], baseline: Mapping[str, float | None]
) -> list[Mapping[str, object]]:
    """One entry per layer, each layer once, in the optimizers' order."""
    entries: dict[str, Mapping[str, object]] = {}
    for optimizer, (_, layers) in plan.optimizers.items():
        for layer in layers:
            if layer.name not in entries:
                entries[layer.name] = layer_entry(layer, optimizer, gradients, baseline)
    return list(entries.values())


def layer_entry(
    layer: WatchedLayer,
    optimizer: str,
    gradients: Mapping[str, torch.Tensor | None],
    baseline: Mapping[str, float | None],
) -> Mapping[str, object]:
    """Shape, owner and baseline of one layer, and why it has no gradient."""
    reason = (
        "no gradient reached this parameter" if layer.name in gradients else f"{optimizer} has not stepped"
    )
    has_gradient = gradients.get(layer.name) is not None
    return {
        "name": layer.name,
        "shape": list(layer.parameter.shape),
        "dtype": str(layer.parameter.dtype).removeprefix("torch."),
        "optimizer": optimizer,
        "module": layer.module,
        "gradient": has_gradient,
        "reason": None if has_gradient else reason,
        "baseline_zero_fraction": baseline.get(layer.name),
    }


def snapshot_reasons(saved: Saved, baseline: Mapping[str, float | None]) -> Mapping[str, str]:
    """What this snapshot lacks, or holds otherwise than one would expect."""
    reasons: dict[str, str] = {}
    if not baseline:
        reasons["baseline_zero_fraction"] = RESUMED
    elif missing := [name for name, fraction in baseline.items() if fraction is None]:
        reasons["baseline_zero_fraction"] = f"no gradient at the first update of {', '.join(missing)}"
    num_rows = next((len(values) for values in (saved.observations or {}).values()), None)
    first = next(iter(saved.captured), None)
    if num_rows is None:
        reasons["batch.observations"] = (
            "no features extractor was called before the first update after this save"
        )
    elif num_rows > MAX_ROWS:
        reasons["batch.observations"] = f"the first {MAX_ROWS} of {num_rows} rows"
    elif any(caught.updates_after_save > 1 for caught in saved.captured.values()):
        reasons["batch.observations"] = (
            f"of the first update after the save ({first}); others stepped on a later batch"
        )
    late = {caught.step for caught in saved.captured.values()} - {saved.step}
    if late:
        reasons["gradient"] = f"the first update after this save came at step {min(late)}"
    return reasons
