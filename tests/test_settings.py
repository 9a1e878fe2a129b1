from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gradscope.errors import UsageError
from gradscope.settings import Limits, Settings, find_config, read_config, settings_from

if TYPE_CHECKING:
    from pathlib import Path

EXAMPLE = """
[observation]
sequence_length = 10
features = ["ret_1", "position_x"]
[slices]
market = "0:146"
position = ["position_*"]
[limits]
warn = 0.2
[layers."*temporal_projection*"]
collapse = 0.30
"""


def test_the_contracts_example_is_understood(tmp_path: Path) -> None:
    (tmp_path / "gradscope.toml").write_text(EXAMPLE)
    path = find_config(tmp_path / "other", tmp_path)
    assert path is not None
    settings = settings_from(read_config(path), "gradscope.toml")
    assert settings.sequence_length == 10
    assert settings.feature_names == ("ret_1", "position_x")
    assert settings.slices == {"market": ("0:146",), "position": ("position_*",)}
    assert settings.slices_from == "config"
    assert settings.limits == Limits(warn=0.2)
    assert settings.limits_of("a.temporal_projection.weight").collapse == 0.3
    assert settings.limits_of("head.weight").collapse == 0.5


def test_pyproject_counts_only_with_a_table_of_ours(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[project]\nname='x'\n")
    assert find_config(tmp_path) is None
    (tmp_path / "pyproject.toml").write_text("[tool.gradscope.limits]\nwarn = 0.05\n")
    assert find_config(tmp_path) == tmp_path / "pyproject.toml"
    assert read_config(tmp_path / "pyproject.toml") == {"limits": {"warn": 0.05}}


@pytest.mark.parametrize("content", ["tool = 3", "[tool]\nother = 1", "not toml at all ["])
def test_a_pyproject_that_is_not_about_gradscope_is_left_alone(tmp_path: Path, content: str) -> None:
    (tmp_path / "pyproject.toml").write_text(content)
    assert find_config(tmp_path) is None


@pytest.mark.parametrize(
    "text",
    [
        "[limit]\nwarn=0.1",
        "[limits]\nwarm=0.1",
        "[limits]\nwarn='a'",
        "[limits]\nwarn=true",
        "[limits]\nwarn=2",
        "[limits]\nwarn=0.9",
        "[observation]\nsequence_length=0",
        "[observation]\nsequence_length=1.5",
        "[observation]\nfeatures='a'",
        "[slices]\nposition=3",
        "[slices]\nposition=[]",
        "slices=3",
        "[layers]\nx=3",
        "[layers.x]\nwarm=0.3",
    ],
)
def test_wrong_values_are_refused_in_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "gradscope.toml").write_text(text)
    with pytest.raises(UsageError) as caught:
        settings_from(read_config(tmp_path / "gradscope.toml"), "gradscope.toml")
    assert "\n" not in str(caught.value)


def test_a_near_name_is_offered() -> None:
    with pytest.raises(UsageError, match="Did you mean 'limits'"):
        settings_from({"limit": {}}, "x")


@pytest.mark.parametrize("content", [b"a = [", b"\xff\xfe", b"a = " + b"[" * 5000])
def test_files_that_are_no_toml_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "gradscope.toml"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="TOML"):
        read_config(path)


def test_layer_globs_choose_and_skip() -> None:
    settings = Settings(layers=("*weight",), skip_layers=("head*",))
    names = ["a.weight", "a.bias", "head.weight"]
    assert [settings.wants_layer(name) for name in names] == [True, False, False]
