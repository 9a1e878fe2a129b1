"""Records and run folders made by hand, for tests that need no training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gradscope.read.pickle_file import PickleFile
from gradscope.records import (
    ALL_LAYERS,
    Association,
    AssociationReport,
    ColumnShift,
    Crossing,
    Effect,
    LayerGradient,
    LeftOut,
    Origin,
    Replay,
    ReplayFile,
    Report,
    SeriesPoint,
    ShiftReport,
    SliceShift,
    SnapshotGradient,
    Status,
    StepShift,
    ZeroAnatomy,
)

if TYPE_CHECKING:
    from pathlib import Path

    from gradscope.records import Ring

CASE_LAYER = "actor.features_extractor.temporal_projection.weight"
CASE_SHAPE = (128, 153)
CASE_ZEROS = {2000: 866, 4000: 866, 6000: 5367, 8000: 12808}
"""The case's own figures: zeros of 19,584 weights at each step."""
HOSTILE = "evil\x1b[31m\n[bold]x[/bold]\u202e<script>|=cmd"
"""A name that tries to color, break lines, use markup, turn text around and run as a formula."""


def case_run(folder: Path) -> Path:
    """Four torch checkpoints whose stored gradient has exactly the case's zeros."""
    draw = np.random.default_rng(0)
    for step, zeros in CASE_ZEROS.items():
        gradient = draw.normal(size=CASE_SHAPE).astype(np.float32)
        gradient[np.abs(gradient) < 1e-4] = 1.0
        gradient.reshape(-1)[draw.choice(gradient.size, zeros, replace=False)] = 0.0
        weight = torch.zeros(CASE_SHAPE)
        checkpoint = {
            "model": {CASE_LAYER: weight},
            "grads": {CASE_LAYER: torch.from_numpy(gradient)},
            "step": step,
        }
        torch.save(checkpoint, folder / f"checkpoint_{step}.pt")
    return folder


def layer(name: str = CASE_LAYER, num_zero: int = 5367, **changes: Any) -> LayerGradient:
    """A measured layer of 19,584 weights."""
    size = CASE_SHAPE[0] * CASE_SHAPE[1]
    values: dict[str, Any] = {
        "name": name,
        "shape": CASE_SHAPE,
        "dtype": "float32",
        "origin": Origin.STORED,
        "num_elements": size,
        "num_zero": num_zero,
        "num_exact_zero": num_zero,
        "num_nonfinite": 0,
        "zero_fraction": num_zero / size,
        "exact_zero_fraction": num_zero / size,
        "baseline_zero_fraction": 0.01,
        "norm": 1.9,
        "max_abs": 0.2,
        "status": Status.CRITICAL,
        "anatomy": ZeroAnatomy(dead_input=896, dead_unit=num_zero - 896 - 91, scattered=91),
        "reasons": {"interval": "one batch", "optimizer": "not measured"},
    }
    return LayerGradient(**(values | changes))


def snapshot(step: int | None = 6000, **changes: Any) -> SnapshotGradient:
    """A measured snapshot with one layer."""
    only = layer()
    values: dict[str, Any] = {
        "run": ".",
        "step": step,
        "step_from": "num_timesteps",
        "source": f"rl_model_{step}_steps.zip",
        "gradient_source": f"rl_model_gradscope_{step}_steps.safetensors",
        "format": "sb3",
        "origin": Origin.STORED,
        "num_batches": 1,
        "batch_size": 256,
        "num_elements": only.num_elements,
        "num_zero": only.num_zero,
        "num_exact_zero": only.num_zero,
        "zero_fraction": only.zero_fraction,
        "exact_zero_fraction": only.zero_fraction,
        "num_nonfinite": 0,
        "norm": 1.9,
        "norm_before_clip": 1.9,
        "clip_coefficient": None,
        "position_activity": 0.81,
        "num_open_positions": 207,
        "status": Status.CRITICAL,
        "reasons": {"clip_coefficient": "SAC does not clip", "seed": "a batch of the training itself"},
        "layers": (only,),
    }
    return SnapshotGradient(**(values | changes))


def quiet_snapshot(step: int = 4000) -> SnapshotGradient:
    """A snapshot from before positions opened."""
    only = layer(num_zero=1057, status=Status.OK)
    fraction = only.zero_fraction
    return snapshot(
        step,
        position_activity=0.0,
        num_open_positions=0,
        num_zero=1057,
        zero_fraction=fraction,
        status=Status.OK,
        layers=(only,),
    )


def shift_report() -> ShiftReport:
    """Positions shifted by 3.1 standard deviations at step 6000; market as it was."""
    column = ColumnShift(
        index=146,
        name="position_duration_long_normalized",
        active_fraction_reference=0.0,
        active_fraction=0.8,
        wasserstein=3.1,
        ks=0.8,
        psi=4.0,
        p_value_adjusted=1e-9,
        rms=41.0,
        rms_reference=0.0,
    )
    still = SliceShift(name="position", num_columns=1, activity=0.0, wasserstein=0.0, status=Status.OK)
    moved = SliceShift(
        name="position",
        num_columns=1,
        activity=0.81,
        wasserstein=3.1,
        wasserstein_max=3.1,
        ks=0.8,
        fraction_shifted=1.0,
        rms=41.0,
        rms_ratio=37.0,
        status=Status.CRITICAL,
        columns=(column,),
    )
    common = {"run": ".", "num_rows": 1000, "window_truncated": False}
    return ShiftReport(
        steps=(
            StepShift(step=4000, source="replay_4000.pkl", is_reference=True, slices=(still,), **common),
            StepShift(step=6000, source="replay_6000.pkl", is_reference=False, slices=(moved,), **common),
        ),
        slices={"position": "146:153"},
        slices_from="config",
    )


def association_report() -> AssociationReport:
    """Activity and zeros that rise together."""
    points = [(4000, 0.0, 0, 0.054), (5000, 0.3, 77, 0.1), (6000, 0.81, 207, 0.274)]
    return AssociationReport(
        slice="position",
        run=".",
        num_steps=3,
        source="timeline",
        series=tuple(
            SeriesPoint(step=step, activity=active, num_open_positions=held, zero_fraction=zeros)
            for step, active, held, zeros in points
        ),
        activity_change_step=5000,
        layers=(
            Association(
                name=CASE_LAYER,
                num_steps=3,
                pearson=0.91,
                spearman=0.88,
                p_value=0.002,
                p_value_adjusted=0.011,
                change_step=5000,
                verdict="associated",
            ),
        ),
        effects=effects(),
        verdict="associated and causal",
        reason="Zeros of 1 of 1 layers rise with position activity, and flat takes them away.",
        reasons={"effects": "step 8,000: no replay buffer of this step"},
    )


def effects() -> tuple[Effect, ...]:
    """Interventions at step 6000: flat and rescaled take most zeros away, other rows cannot be drawn."""
    after = {"flat": (0.0, "effect"), "permuted": (0.25, "no effect"), "rescaled": (0.051, "effect")}
    made = [
        Effect(
            step=6000,
            layer=layer,
            intervention=name,
            zero_fraction=zeros,
            zero_fraction_after=left * zeros / 0.274,
            difference=(left / 0.274 - 1) * zeros,
            mechanical_difference=0.4 if name == "flat" else -0.02,
            interval=((left / 0.274 - 1) * zeros - 0.01, (left / 0.274 - 1) * zeros + 0.01),
            verdict=verdict,
        )
        for name, (left, verdict) in after.items()
        for layer, zeros in ((ALL_LAYERS, 0.2), (CASE_LAYER, 0.274))
    ]
    why = "12 of 1000 rows have the slice at rest: 512 are needed"
    keys = ("zero_fraction", "zero_fraction_after", "difference", "interval", "mechanical_difference")
    rows = Effect(step=6000, layer=ALL_LAYERS, intervention="inactive rows", reasons=dict.fromkeys(keys, why))
    return (*made, rows)


def report(**changes: Any) -> Report:
    """A whole report: two snapshots, one crossing, shift and association, one bad file."""
    values: dict[str, Any] = {
        "path": "checkpoints",
        "zero_tolerance": 1e-8,
        "limits": {"warn": 0.1, "critical": 0.25, "collapse": 0.5},
        "slices": {"position": "146:153"},
        "slices_from": "config",
        "snapshots": (quiet_snapshot(), snapshot()),
        "crossings": (Crossing(run=".", layer=CASE_LAYER, limit="critical", step=6000, zero_fraction=0.274),),
        "replays": (ReplayFile(run=".", step=6000, source="replay_6000.pkl", num_rows=1000),),
        "skipped": (LeftOut(source="README.md", reason="no known format"),),
        "unreadable": (LeftOut(source="broken.zip", reason="the zip ends early. Copy it again."),),
        "shift": shift_report(),
        "associations": (association_report(),),
    }
    return Report(**(values | changes))


def sb3_ring(path: Path) -> Ring:
    """The ring of a Stable-Baselines3 buffer."""
    replay = PickleFile().read(path)
    assert isinstance(replay, Replay)
    ring = replay.ring
    assert ring is not None
    return ring
