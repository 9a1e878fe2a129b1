"""Recorded runs whose positions do or do not make the zeros: what correlate may call them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

import pytest
from truths.together import LARGE, curve, episodes, line, run
from truths.truth import SEEDS

from gradscope.records import ALL_LAYERS
from gradscope.run import open_run, scan_opened, with_associations

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gradscope.records import AssociationReport

MADE: Final[dict[str, dict[str, Any]]] = {
    "two lines": {"probability": line, "killed": line},
    "two curves": {"probability": curve, "killed": curve},
    "positions make zeros": {"probability": episodes, "size": LARGE, "buffer_size": 32},
}
"""Positions open more and more often while units are killed one by one; or are large enough to kill."""
TRUE: Final = {
    "two lines": "not associated",
    "two curves": "not associated",
    "positions make zeros": "associated and causal",
}


@pytest.fixture(scope="module")
def tell(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int], AssociationReport]:
    """Each run is trained once, by whichever test asks first."""
    known: dict[tuple[str, int], AssociationReport] = {}

    def tell_once(name: str, seed: int) -> AssociationReport:
        if (name, seed) not in known:
            known[name, seed] = association(run(tmp_path_factory.mktemp("run"), seed, **MADE[name]))
        return known[name, seed]

    return tell_once


def association(folder: Path) -> AssociationReport:
    opened = open_run(folder)
    (found,) = with_associations(scan_opened(opened), opened).associations
    return found


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", MADE)
def test_only_what_moves_together_is_associated(
    name: str, seed: int, tell: Callable[[str, int], AssociationReport]
) -> None:
    found = tell(name, seed)
    assert found.source == "timeline"
    assert found.verdict == TRUE[name], found.reason
    pooled = next(each for each in found.layers if each.name == ALL_LAYERS)
    # As they are, both series rise together in all of them: a plain correlation tells nothing apart.
    assert pooled.pearson is not None
    assert pooled.pearson > 0.8
    assert found.effects


def test_table_of_truths_against_verdicts(
    tell: Callable[[str, int], AssociationReport], capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [(name, seed, tell(name, seed)) for name in MADE for seed in SEEDS]
    with capsys.disabled():
        for name, seed, found in runs:
            sys.stdout.write(f"\n{name:22} {seed}  true: {TRUE[name]:22} told: {found.verdict}")
    assert all(found.verdict == TRUE[name] for name, _, found in runs)
