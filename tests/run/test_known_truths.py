"""Runs whose fault is known, against every verdict: no false alarm and no miss on seeds that set no limit."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import pytest
from truths import POSITION, TRUTHS, Truth, trained

from gradscope.records import Verdict
from gradscope.run import open_run, scan_opened, with_shift
from gradscope.run.explain import explanation
from gradscope.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

SEEDS: Final = (21, 22, 23)
SETTINGS: Final = Settings(slices={"market": ("0:7",), "position": (POSITION,)}, slices_from="option")
TABLE: Final[list[str]] = []


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("truth", TRUTHS, ids=lambda truth: truth.name)
def test_what_was_planted_is_found_and_nothing_else(truth: Truth, seed: int, tmp_path: Path) -> None:
    opened = open_run(trained(truth, tmp_path, seed), settings=SETTINGS)
    found = explanation(with_shift(scan_opened(opened), opened), opened, step=400)
    supported = {each.code for each in found.findings if each.verdict is Verdict.SUPPORTED}
    missed, false = truth.supported - supported, supported - truth.supported - truth.also
    words = [", ".join(sorted(each)) or "-" for each in (supported, missed, false)]
    TABLE.append(f"{truth.name:38} {seed}  found: {words[0]}; missed: {words[1]}; false: {words[2]}")
    told = "\n".join(f"{each.code}: {each.verdict}: {each.reason}" for each in found.findings)
    assert not missed, told
    assert not false, told


def test_table_of_truths_against_verdicts() -> None:
    """The others fill it; shown with ``pytest -rP`` or ``-s``."""
    sys.stdout.write("\n".join(["", *TABLE, ""]))
    assert all(line.endswith("missed: -; false: -") for line in TABLE)
