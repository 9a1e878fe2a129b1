"""Names are there, twice in a row, and cost nothing before they are asked for."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import gradscope.remedy


@pytest.mark.parametrize("name", gradscope.remedy.__all__)
def test_a_name_is_never_the_file_it_lives_in(name: str) -> None:
    home = importlib.import_module(f"gradscope.remedy.{gradscope.remedy._HOMES[name]}")
    for _ in range(2):
        assert getattr(gradscope.remedy, name) is getattr(home, name)
    assert callable(getattr(home, name))
    assert set(gradscope.remedy._HOMES) == set(gradscope.remedy.__all__)


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_without_stable_baselines3_only_its_callback_is_missing() -> None:
    code = """
import sys
sys.modules["stable_baselines3"] = None
import gradscope.remedy
print("torch" in sys.modules)
gradscope.remedy.SliceNormalizer, gradscope.remedy.recycle_dead_units
try:
    gradscope.remedy.ActivityLearningRateCallback
except gradscope.GradscopeError as error:
    print(error)
"""
    assert run(code).splitlines() == [
        "False",
        (
            "ActivityLearningRateCallback: Stable-Baselines3 is not installed. "
            'Run `pip install "stable-baselines3"`.'
        ),
    ]


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Cure'"):
        gradscope.remedy.Cure  # noqa: B018 - the access itself is tested
