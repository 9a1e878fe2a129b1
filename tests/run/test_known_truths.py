"""Runs whose fault is known, against every verdict: no false alarm and no miss on seeds that set no limit."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

import pytest
from truths.clipping import EXPLOSIONS
from truths.inputs import INPUTS
from truths.small_types import SMALL_TYPES
from truths.truth import CODES, SEEDS, Told, Truth, table, told
from truths.units import UNITS
from truths.unlearned import UNLEARNED

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.filterwarnings(
    "ignore::RuntimeWarning:numpy", "ignore::RuntimeWarning:stable_baselines3"
)
"""What explodes overflows in the library's own statistics."""
TRUTHS: Final = (*INPUTS, *UNITS, *EXPLOSIONS, *UNLEARNED, *SMALL_TYPES)


@pytest.fixture(scope="module")
def tell(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Truth, int], Told]:
    """Each run is trained and explained once, by whichever test asks first."""
    known: dict[tuple[str, int], Told] = {}

    def tell_once(truth: Truth, seed: int) -> Told:
        key = (truth.name, seed)
        if key not in known:
            known[key] = told(truth, seed, tmp_path_factory.mktemp("run"))
        return known[key]

    return tell_once


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("truth", TRUTHS, ids=lambda truth: truth.name)
def test_what_was_planted_is_found_and_nothing_else(
    truth: Truth, seed: int, tell: Callable[[Truth, int], Told]
) -> None:
    found = tell(truth, seed)
    reasons = "\n".join(f"{code}: {found.verdicts[code]}: {why}" for code, why in found.reasons.items())
    assert not found.missed, reasons
    assert not found.false, reasons
    assert not found.settled, reasons
    assert not found.unsaid, reasons


def test_every_fault_has_a_healthy_twin() -> None:
    by_name = {each.name: each for each in TRUTHS}
    assert len(by_name) == len(TRUTHS)
    for truth in TRUTHS:
        if truth.twin is not None:
            assert not truth.supported & by_name[truth.twin].supported or truth.untestable


def test_table_of_truths_against_verdicts(tell: Callable[[Truth, int], Told], capsys: Any) -> None:
    runs = [tell(truth, seed) for truth in TRUTHS for seed in SEEDS]
    with capsys.disabled():
        sys.stdout.write(f"\n{table(runs)}\n")
    assert not any(each.missed or each.false for each in runs)
    planted = {code for each in runs for code in each.truth.supported}
    assert planted == set(CODES)
