"""Interventions on tiny runs whose truth is known, three seeds each, and a table of what came out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from run.causes import OPENS, POSITION, rollout_run, run

from gradscope.judge.interventions import takes_zeros
from gradscope.records import ALL_LAYERS
from gradscope.run import open_run, scan_opened, with_associations
from gradscope.run.effects import chosen_steps, run_effects
from gradscope.run.given import Means
from gradscope.run.interventions import AT_REST, interventions
from gradscope.run.recomputed import recomputation
from gradscope.run.step_effects import moment_effects
from gradscope.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from gradscope.records import Effect

FIRST = "q_net.q_net.0.weight"
SETTINGS = Settings(slices={"position": (f"{POSITION}",)}, slices_from="option")
SEEDS = (11, 12, 13)


@dataclass(frozen=True, kw_only=True)
class Truth:
    """How a run is built, and what must be found in its first layer."""

    size: float
    kills_units: bool
    is_cause: bool


TRUTHS = {
    "positions far too large": Truth(size=500.0, kills_units=False, is_cause=True),
    "bystander of dead units": Truth(size=1.0, kills_units=True, is_cause=False),
    "nothing wrong": Truth(size=1.0, kills_units=False, is_cause=False),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: Any) -> Any:
    kept: dict[tuple[str, int], Path] = {}

    def make(name: str, seed: int) -> Path:
        if (name, seed) not in kept:
            truth, folder = TRUTHS[name], tmp_path_factory.mktemp("run")
            kept[name, seed] = run(folder, size=truth.size, kills_units=truth.kills_units, seed=seed)
        return kept[name, seed]

    return make


def effects(folder: Path, settings: Settings = SETTINGS) -> list[Effect]:
    opened = open_run(folder, settings=settings)
    report = scan_opened(opened)
    only = opened.runs[0]
    found = run_effects(
        only.moments, report.snapshots, Means(settings=settings), only.slices, "position", layers=(FIRST,)
    )
    assert found.reasons == ()
    return [*found.effects]


def of(found: list[Effect], layer: str, intervention: str) -> Effect:
    (one,) = (each for each in found if (each.layer, each.intervention) == (layer, intervention))
    return one


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", TRUTHS)
def test_truth_against_verdict(made: Any, name: str, seed: int, capsys: Any) -> None:
    found = effects(made(name, seed))
    causes = sorted({each.intervention for each in found if takes_zeros(each)})
    flat = of(found, FIRST, "flat")
    with capsys.disabled():
        print(  # noqa: T201  the table that the proofs are
            f"\n{name:26} seed {seed}: zeros {flat.zero_fraction:6.1%}, flat {flat.zero_fraction_after:6.1%}"
            f" -> {', '.join(causes) or 'no cause'}",
            end="",
        )
    assert bool(causes) == TRUTHS[name].is_cause
    if TRUTHS[name].is_cause:
        # By its size: any row's position is as large.
        assert causes == ["flat", "rescaled"]
        assert flat.interval is not None
        assert flat.interval[1] < 0


def test_the_slices_own_column_is_told_apart(made: Any) -> None:
    found = effects(made("nothing wrong", SEEDS[0]))
    flat = of(found, FIRST, "flat")
    assert flat.mechanical_difference == pytest.approx(1, abs=0.1)
    assert flat.difference == pytest.approx(0, abs=0.05)
    assert of(found, FIRST, "permuted").mechanical_difference == pytest.approx(0, abs=0.1)


def test_rows_that_cannot_be_drawn_have_their_reason(made: Any) -> None:
    found = effects(made("nothing wrong", SEEDS[0]))
    active, inactive = (of(found, ALL_LAYERS, f"{kind} rows") for kind in ("active", "inactive"))
    assert "every row" in active.reasons["difference"]
    assert "64 are needed" in inactive.reasons["interval"]
    assert active.zero_fraction is None
    assert active.verdict == "unclear"


def test_a_step_before_positions_has_nothing_to_change(made: Any) -> None:
    opened = open_run(made("nothing wrong", SEEDS[0]), settings=SETTINGS)
    only = opened.runs[0]
    report = scan_opened(opened)
    means = Means(settings=SETTINGS)
    assert moment_effects(only.moments[0], means, only.slices, "position") == AT_REST
    chosen = chosen_steps(only.moments, report.snapshots, only.slices, "position")
    assert [moment.step for moment, _ in chosen] == [2 * OPENS]


def test_rescaling_gives_each_column_the_others_median_rms(made: Any) -> None:
    opened = open_run(made("positions far too large", SEEDS[0]), settings=SETTINGS)
    only = opened.runs[0]
    found: Any = recomputation(only.moments[1], Means(settings=SETTINGS))
    possible: Any = interventions(found.drawing, only.slices.named("position"), only.slices)
    rows = found.drawing.stored(found.drawing.numbers)
    change = possible.by_name["rescaled"].change
    values = change(found.drawing.seen(rows), found.drawing.numbers)[""].astype(np.float64)
    sizes = np.sqrt(np.square(values).mean(axis=0))
    assert sizes[POSITION] == pytest.approx(np.median(np.delete(sizes, POSITION)), rel=1e-5)
    assert np.abs(rows[""][:, POSITION]).min() > 300


def test_stored_gradients_alone_make_no_intervention(made: Any) -> None:
    settings = Settings(slices=SETTINGS.slices, source="stored")
    opened = open_run(made("nothing wrong", SEEDS[0]), settings=settings)
    report = with_associations(scan_opened(opened), opened)
    (found,) = report.associations
    assert found.effects == ()
    assert "--source stored" in found.reasons["effects"]
    assert "Interventions" not in found.reason


def test_progress_is_told_to_the_end(made: Any) -> None:
    seen: list[tuple[str, int, int]] = []
    opened = open_run(made("bystander of dead units", SEEDS[0]), settings=SETTINGS)
    report = with_associations(
        scan_opened(opened), opened, progress=lambda what, done, total: seen.append((what, done, total))
    )
    assert {what for what, _, _ in seen} == {"intervening"}
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)
    assert report.associations[0].effects
    assert report.associations[0].verdict == "too few steps"
    assert "No change of 'position' takes most zeros" in report.associations[0].reason


@pytest.mark.parametrize(("size", "is_cause"), [(500.0, True), (1.0, False)])
def test_rollouts_are_changed_too(tmp_path: Path, size: float, is_cause: bool) -> None:
    found = effects(rollout_run(tmp_path, size=size, seed=SEEDS[0]))
    assert bool([each for each in found if takes_zeros(each)]) == is_cause
    assert of(found, ALL_LAYERS, "permuted").verdict == "no effect"


def test_a_normalised_slice_is_flat_where_it_rests(tmp_path: Path) -> None:
    folder = run(tmp_path, size=500.0, seed=SEEDS[0], is_normalised=True)
    opened = open_run(folder, settings=SETTINGS)
    only = opened.runs[0]
    found: Any = recomputation(only.moments[1], Means(settings=SETTINGS))
    possible: Any = interventions(found.drawing, only.slices.named("position"), only.slices)
    seen = found.drawing.seen(found.drawing.stored(found.drawing.numbers))
    changed = possible.by_name["flat"].change(seen, found.drawing.numbers)[""][:, POSITION]
    normalizer = only.moments[1].normalizer
    assert normalizer is not None
    mean, var = (each[""][POSITION] for each in (normalizer.mean, normalizer.var))
    rest = max(-mean / np.sqrt(var + normalizer.epsilon), -normalizer.clip)
    assert changed == pytest.approx(np.full(len(changed), rest), rel=1e-5)
    assert rest < -0.3
