"""The README tells the truth: its screen, its commands, its Python."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from run_cli import gradscope
from stable_baselines3 import DQN

from gradscope.cli import app
from gradscope.cli.topics import TOPICS
from gradscope.read.format_table import ROWS
from gradscope.show.formats_screen import formats_markdown

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
SCREENS = re.findall(r"<!-- screen: gradscope (.+?) -->\n```\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize(("command", "screen"), SCREENS, ids=[command for command, _ in SCREENS])
def test_screens_in_the_readme_are_what_the_tool_prints(command: str, screen: str, tmp_path: Path) -> None:
    (tmp_path / "sample_checkpoints").symlink_to(ROOT / "sample_checkpoints")
    done = gradscope(*command.split(), directory=tmp_path)
    assert done.out == screen


def test_the_table_of_formats_is_the_one_that_the_tool_knows() -> None:
    block = re.search(r"<!-- formats -->\n(.*?)\n<!-- /formats -->", README, re.DOTALL)
    assert block is not None
    assert block[1] == formats_markdown([asdict(row) for row in ROWS])


def test_there_is_a_real_screen_on_the_first_page() -> None:
    assert SCREENS
    assert README.index("<!-- screen") < 2_000


def test_commands_and_topics_named_are_the_ones_there_are() -> None:
    commands = {
        command.name or command.callback.__name__ for command in app.registered_commands if command.callback
    }
    named = set(re.findall(r"^gradscope (\w+)", README, re.MULTILINE))
    assert named == commands
    topics = re.search(r"gradscope help TOPIC\s+# (.*)", README)
    assert topics is not None
    assert topics[1].split(", ") == list(TOPICS)


def test_every_option_named_exists() -> None:
    helps = "".join(
        gradscope(name, "--help", directory=ROOT, width=200).out for name in ("scan", "correlate", "try")
    )
    for option in set(re.findall(r"--[a-z][a-z-]+", README)):
        assert option in helps, option


def test_both_commands_of_the_first_page_are_targets_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for target in re.findall(r"make (\w+)", README):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_python_example_runs(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").symlink_to(ROOT / "sample_checkpoints" / "collapse")
    blocks = [block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "scan(" in block]
    assert len(blocks) == 1
    code = blocks[0].replace('"checkpoints/"', repr(str(tmp_path / "checkpoints")))
    exec(compile(code, "README.md", "exec"), {})  # noqa: S102 - our own README


def test_the_remedy_example_trains() -> None:
    (block,) = (each for each in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "remedy" in each)
    names: dict[str, Any] = {}
    exec(compile(block, "README.md", "exec"), names)  # noqa: S102 - our own README
    space = spaces.Box(-np.inf, np.inf, (4, 80), np.float32)
    policy = {"features_extractor_class": names["Normalised"], "net_arch": [8]}
    model = DQN("MlpPolicy", Bars(space), policy_kwargs=policy, learning_starts=10, seed=0, device="cpu")
    model.learn(40)
    norm = model.q_net.features_extractor.norm
    assert norm.running_num_rows.min() > 0
    assert torch.isfinite(model.q_net.q_net[0].weight).all()


class Bars(gymnasium.Env[Any, Any]):
    """Noise."""

    action_space = spaces.Discrete(2)

    def __init__(self, space: spaces.Box) -> None:
        self.observation_space = space

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        return self.np_random.normal(size=(4, 80)).astype(np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        del action
        return self.np_random.normal(size=(4, 80)).astype(np.float32), 0.0, False, False, {}
