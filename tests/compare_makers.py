"""Two runs made by hand, for comparing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from makers import CASE_LAYER, CASE_SHAPE, layer, report, shift_report, snapshot

from gradscope.judge import crossings
from gradscope.judge.status import layer_status, snapshot_status
from gradscope.records import Comparison, Origin, Status, ZeroAnatomy
from gradscope.run.compared import compared
from gradscope.settings import Limits, Settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gradscope.records import LayerGradient, Report, SnapshotGradient

SIZE = CASE_SHAPE[0] * CASE_SHAPE[1]


def zeros(
    fraction: float, name: str = CASE_LAYER, fresh: float | None = 0.01, **changes: Any
) -> LayerGradient:
    """A layer of 19,584 weights with so many zeros, judged by the default limits."""
    number = round(fraction * SIZE)
    values: dict[str, Any] = {
        "anatomy": ZeroAnatomy(scattered=number),
        "baseline_zero_fraction": fresh,
        "status": layer_status(number / SIZE, fresh, Limits()),
    }
    return replace(layer(name, number), **(values | changes))


def taken(step: int | None, *layers: LayerGradient, **changes: Any) -> SnapshotGradient:
    """A snapshot of these layers."""
    number = sum(each.num_zero or 0 for each in layers)
    elements = sum(each.num_elements for each in layers)
    values: dict[str, Any] = {
        "num_elements": elements,
        "num_zero": number,
        "num_exact_zero": number,
        "zero_fraction": number / elements,
        "exact_zero_fraction": number / elements,
        "num_nonfinite": sum(each.num_nonfinite or 0 for each in layers),
        "status": snapshot_status(layers),
        "layers": layers,
    }
    return snapshot(step, **(values | changes))


def unknown(step: int | None, why: str = "no replay buffer of this step") -> SnapshotGradient:
    """A snapshot without any gradient."""
    keys = ("num_zero", "num_exact_zero", "zero_fraction", "exact_zero_fraction", "norm", "num_nonfinite")
    bare = replace(
        zeros(0.0),
        **dict.fromkeys(("num_zero", "zero_fraction", "anatomy", "norm", "num_nonfinite")),
        origin=Origin.NONE,
        status=Status.UNKNOWN,
        reasons={"zero_fraction": why},
    )
    return replace(
        taken(step, zeros(0.0)),
        **dict.fromkeys(keys),
        origin=Origin.NONE,
        status=Status.UNKNOWN,
        layers=(bare,),
        reasons=dict.fromkeys(keys, why),
    )


def a_run(path: str, snapshots: Sequence[SnapshotGradient], **changes: Any) -> Report:
    """A report of one run."""
    values: dict[str, Any] = {
        "path": path,
        "snapshots": tuple(snapshots),
        "crossings": crossings(snapshots, Settings()),
        "shift": shift_report(),
        "unreadable": (),
        "associations": (),
    }
    return report(**(values | changes))


def by_step(path: str, fractions: Mapping[int, float], **changes: Any) -> Report:
    """A run of one layer with so many zeros at each step."""
    return a_run(path, [taken(step, zeros(fraction)) for step, fraction in fractions.items()], **changes)


def collapse_and_cure() -> Comparison:
    """A loses its gradients from step 6,000 on; B, which has a layer more, does not."""
    own = zeros(0.0, "actor.features_extractor.input_norm.weight")
    cured = [taken(step, own, zeros(0.05), norm=1.2) for step in (4000, 6000, 8000)]
    return compared(
        by_step("runs/collapse", {2000: 0.04, 4000: 0.05, 6000: 0.274, 8000: 0.654}),
        a_run("runs/cured", cured),
    )


def assert_reasons(value: object) -> None:
    """Every null beside a ``reasons`` has its reason; a step that neither run is worse at has no layer."""
    if isinstance(value, list):
        for each in value:
            assert_reasons(each)
    if not isinstance(value, dict):
        return
    nulls = {key for key, each in value.items() if each is None} - {"layer"}
    assert nulls <= set(value.get("reasons", ())), (nulls, value)
    for each in value.values():
        assert_reasons(each)
