"""Facts of small networks, made by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from gradscope.judge.hypothesis_facts import Facts, PastStep
from gradscope.records import (
    ColumnShift,
    Effect,
    LayerGradient,
    OptimizerEvidence,
    Origin,
    SliceShift,
    SnapshotGradient,
    Status,
    StepShift,
    UnitActivity,
    ZeroAnatomy,
)

FIRST, SECOND, HEAD = "net.0.weight", "net.2.weight", "net.4.weight"


def one_layer(name: str, shape: tuple[int, ...], status: Status = Status.OK, **anatomy: int) -> LayerGradient:
    zeros, size = sum(anatomy.values()), math.prod(shape)
    return LayerGradient(
        name=name,
        shape=shape,
        dtype="float32",
        origin=Origin.STORED,
        num_elements=size,
        num_zero=zeros,
        num_exact_zero=zeros,
        num_nonfinite=0,
        zero_fraction=zeros / size,
        exact_zero_fraction=zeros / size,
        norm=1.0,
        max_abs=0.0 if zeros == size else 0.1,
        status=status,
        anatomy=ZeroAnatomy(**anatomy),
        optimizer=OptimizerEvidence(never_trained_fraction=0.0),
    )


def one_snapshot(*layers: LayerGradient, **changes: Any) -> SnapshotGradient:
    zeros, size = sum(each.num_zero or 0 for each in layers), sum(each.num_elements for each in layers)
    values: dict[str, Any] = {
        "run": ".",
        "step": 8000,
        "step_from": "num_timesteps",
        "source": "rl_model_8000_steps.zip",
        "gradient_source": None,
        "format": "sb3",
        "origin": Origin.STORED,
        "num_batches": 1,
        "batch_size": 128,
        "num_elements": size,
        "num_zero": zeros,
        "num_exact_zero": sum(each.num_exact_zero or 0 for each in layers),
        "zero_fraction": zeros / size,
        "num_nonfinite": 0,
        "norm": 1.0,
        "norm_before_clip": 1.0,
        "clip_coefficient": 1.0,
        "status": max((each.status for each in layers), key=lambda each: each.rank),
        "layers": layers,
    }
    return SnapshotGradient(**(values | changes))


def dead_network(num_dead: int = 40) -> SnapshotGradient:
    """64 units of which some have no gradient, and the next layer's columns from them."""
    status = Status.COLLAPSE if num_dead else Status.OK
    return one_snapshot(
        one_layer(FIRST, (64, 20), status, dead_unit=num_dead * 20),
        one_layer("net.0.bias", (64,), status, dead_unit=num_dead),
        one_layer(SECOND, (64, 64), status, dead_input=num_dead * 64),
        one_layer(HEAD, (1, 64)),
    )


def shut_network() -> SnapshotGradient:
    """Two layers without any gradient before a tanh."""
    return one_snapshot(
        one_layer("actor.mu.0.weight", (64, 20), Status.COLLAPSE, whole_layer=1280),
        one_layer("actor.mu.2.weight", (1, 64), Status.COLLAPSE, whole_layer=64),
        one_layer("critic.qf0.0.weight", (64, 21)),
    )


def units(layer: str = FIRST, num_units: int = 64, **changes: Any) -> UnitActivity:
    values: dict[str, Any] = {"activation": "ReLU", "num_rows": 1024, "saturated_fraction": 0.0}
    return UnitActivity(layer=layer, num_units=num_units, **(values | changes))


def one_effect(intervention: str, after: float, verdict: str = "effect", layer: str = FIRST) -> Effect:
    before = 0.625
    difference = after - before
    return Effect(
        step=8000,
        layer=layer,
        intervention=intervention,
        zero_fraction=before,
        zero_fraction_after=after,
        difference=difference,
        mechanical_difference=0.0,
        interval=(difference - 0.02, difference + 0.02),
        verdict=verdict,
    )


def moved(wasserstein: float | None = 1.2, largest: float = 264.0) -> StepShift:
    """A step's inputs: three market columns of size 1 and one position column."""
    market = [ColumnShift(index=at, name=None, rms=1.0) for at in range(3)]
    position = ColumnShift(index=3, name="pnl", rms=largest)
    return StepShift(
        run=".",
        step=8000,
        source="replay.pkl",
        is_reference=False,
        num_rows=1000,
        window_truncated=False,
        slices=(
            SliceShift(name="market", num_columns=3, wasserstein=0.1, columns=market),
            SliceShift(name="position", num_columns=1, wasserstein=wasserstein, columns=(position,)),
        ),
    )


def past(*norms: float, zeros: float = 0.02, risen_at: int | None = None) -> tuple[PastStep, ...]:
    return tuple(
        PastStep(
            step=1000 * (at + 1),
            norm_before_clip=norm,
            clip_coefficient=min(1.0, 10 / norm),
            zero_fraction=0.6 if risen_at is not None and at >= risen_at else zeros,
        )
        for at, norm in enumerate(norms)
    )


def facts(snapshot: SnapshotGradient | None = None, **changes: Any) -> Facts:
    return Facts(snapshot=snapshot or dead_network(), **changes)


def with_layers(snapshot: SnapshotGradient, **changes: Any) -> SnapshotGradient:
    """The same change in every layer."""
    return replace(snapshot, layers=tuple(replace(each, **changes) for each in snapshot.layers))
