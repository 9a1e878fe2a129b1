"""What fuzzing has reached, and what it has found, through the same properties; needs no fuzzer."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzz.targets import run, starts_a_child, targets

from gradscope.read.formats import READERS

HERE = Path(__file__).parent
FEW = 5
"""Inputs of a reader that starts a process for each."""
COUNTED_EVERY = 8
"""Inputs of which one has its memory counted, which is slow."""


def inputs(kind: str, target: str) -> list[Path]:
    return sorted((HERE / kind / target).glob("*"))


def test_every_reader_is_a_target() -> None:
    assert set(READERS) <= set(targets())


@pytest.mark.parametrize("target", targets())
def test_inputs_that_cover_the_parser_break_no_property(target: str) -> None:
    found = inputs("corpus", target)
    assert found, f"no corpus: make fuzz, then python -m fuzz.run_all --keep {target}"
    for number, path in enumerate(found[:FEW] if starts_a_child(target) else found):
        run(target, path.read_bytes(), counts_memory=number % COUNTED_EVERY == 0)


@pytest.mark.parametrize("target", targets())
def test_what_was_found_stays_mended(target: str) -> None:
    for path in inputs("findings", target):
        run(target, path.read_bytes(), counts_memory=True)
