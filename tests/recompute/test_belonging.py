"""Checkpoint, buffer and VecNormalize file of different runs or steps: never a number without a word."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from makers import sb3_ring
from recompute.library import Case, Files, refusal, trained

from gradscope.read import open_file
from gradscope.read.sb3_training import sb3_training
from gradscope.recompute import Recomputed, Refusal, recompute_gradients
from gradscope.records import Normalizer


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Files]]:
    cases: dict[str, Case] = {
        "plain": Case(algorithm="SAC"),
        "normalised": Case(algorithm="SAC", normalize={}),
        "other": Case(algorithm="SAC", normalize={}, num_environments=1, options={"gamma": 0.9, "seed": 11}),
    }
    found = {}
    for name, case in cases.items():
        options = {key: value for key, value in case.options.items() if key != "seed"}
        folder = tmp_path_factory.mktemp(name)
        found[name] = trained(replace(case, options=options, steps=80 if name != "other" else 120), folder)
    return found


def note(files: Files, **changes: Any) -> str | None:
    found = replace(files, **changes).result()
    assert isinstance(found, Recomputed), found
    return found.reasons.get("replay")


def test_what_belongs_together_gets_no_word(runs: dict[str, list[Files]]) -> None:
    for name in ("plain", "normalised", "other"):
        assert [note(each) for each in runs[name]] == [None] * len(runs[name])


def test_a_stray_vecnormalize_file_is_refused(runs: dict[str, list[Files]]) -> None:
    for each in runs["plain"]:
        found = replace(each, normalizer=runs["normalised"][1].normalizer).result()
        assert isinstance(found, Refusal)
        assert "did not use VecNormalize" in found.reason


def test_a_missing_vecnormalize_file_is_refused(runs: dict[str, list[Files]]) -> None:
    found = replace(runs["normalised"][1], normalizer=None).result()
    assert isinstance(found, Refusal)
    assert "save_vecnormalize=True" in found.reason


def test_a_buffer_of_another_step_or_run_is_noted(runs: dict[str, list[Files]]) -> None:
    first, second = runs["normalised"][:2]
    # Where the newest row ends an episode nothing follows it that could be compared.
    compared = 0
    for each in (first, runs["other"][0], runs["other"][2]):
        found = sb3_ring(each.ring)
        assert found.dones is not None
        if not found.dones[found.position - 1].all():
            compared += 1
            assert "another step or another run" in str(note(second, ring=each.ring))
    assert compared
    assert "another step or another run" in str(note(first, ring=second.ring))
    assert "another step or another run" in str(note(runs["plain"][0], ring=runs["plain"][1].ring))


def test_a_vecnormalize_file_of_another_run_is_noted(runs: dict[str, list[Files]]) -> None:
    own = runs["normalised"][1]
    assert own.normalizer is not None
    normalizer = open_file(own.normalizer)
    assert isinstance(normalizer, Normalizer)
    foreign = replace(normalizer, mean={"": normalizer.mean[""] + 3})
    training, ring = sb3_training(own.zip), sb3_ring(own.ring)
    for each, words in ((normalizer, None), (foreign, "does not give the observations")):
        found = recompute_gradients(training, ring, each, batches=1, batch_size=16, seed=0)
        assert isinstance(found, Recomputed)
        told = found.reasons.get("replay")
        assert told is None if words is None else words in str(told)


@pytest.mark.parametrize("change", [{"gamma": -1.0}, {"gamma": 1.5}])
def test_impossible_settings_are_refused(runs: dict[str, list[Files]], change: dict[str, float]) -> None:
    settings = sb3_training(runs["plain"][0].zip).settings
    assert "not between 0 and 1" in refusal(runs["plain"][0], settings={**settings, **change})


@pytest.mark.parametrize("rate", [1e300, -1.0])
def test_an_impossible_learning_rate_leaves_out_the_actor(runs: dict[str, list[Files]], rate: float) -> None:
    files = runs["plain"][0]
    training = replace(sb3_training(files.zip), learning_rate=rate)
    found = recompute_gradients(training, sb3_ring(files.ring), None, batches=1, batch_size=8, seed=0)
    assert isinstance(found, Recomputed)
    assert "impossible learning rate" in found.layer_reasons["actor.mu.weight"]
    assert next(found.batches()).gradients
