"""What running the user's code does to the process, and what is said where it fails."""

from __future__ import annotations

import logging
import os
import random
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from makers import sb3_ring
from recompute.library import Case, Files, assert_equal, files, trained, world
from recompute.user_agents import NAME, gradients_in_train, importable, trusted, truth
from sb3_contrib import CrossQ
from stable_baselines3.common.callbacks import CheckpointCallback

from gradscope.errors import UsageError
from gradscope.read.sb3_blobs import sb3_blobs
from gradscope.read.sb3_training import sb3_training
from gradscope.recompute import Recomputed, Refusal, recompute_gradients
from gradscope.recompute.trusted.gradients import RecomputedPolicy
from gradscope.recompute.trusted.surroundings import surroundings

Maker = Callable[..., tuple[Case, Files]]
HEAD = """
import os
import torch
from pathlib import Path
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor


class Plain(BaseFeaturesExtractor):
    def __init__(self, space):
        super().__init__(space, 6)
        self.layer = torch.nn.Linear(6, 6)

    def forward(self, observations):
        {forward}
        return self.layer(observations.flatten(1))

"""


@pytest.fixture(scope="module")
def checkpoint_of(tmp_path_factory: pytest.TempPathFactory) -> Maker:
    """Trained with a well-behaved module of the name, once for each algorithm."""
    made: dict[str, tuple[Case, Files]] = {}

    def of(algorithm: str = "SAC") -> tuple[Case, Files]:
        if algorithm not in made:
            folder = tmp_path_factory.mktemp(algorithm)
            with importable(folder, HEAD.format(forward="pass")) as users:
                kwargs = {"net_arch": [8], "features_extractor_class": users.Plain}
                case = Case(algorithm=algorithm, policy_kwargs=kwargs)
                made[algorithm] = case, trained(case, folder / "run")[0]
        return made[algorithm]

    return of


def behaving(folder: Path, *, forward: str = "pass", rest: str = "") -> Path:
    """The user's module, as it has become since."""
    (folder / f"{NAME}.py").write_text(HEAD.format(forward=forward) + rest)
    return folder


def test_without_consent_nothing_is_imported(tmp_path: Path, checkpoint_of: Maker) -> None:
    _, checkpoint = checkpoint_of()
    marker = tmp_path / "ran"
    behaving(tmp_path, rest=f"Path({str(marker)!r}).touch()")
    training = sb3_training(checkpoint.zip)
    sys.path.insert(0, str(tmp_path))
    try:
        assert sb3_blobs(checkpoint.zip).imports == (f"{NAME}.Plain",)
        found = recompute_gradients(
            training, sb3_ring(checkpoint.ring), None, batches=1, batch_size=16, seed=5
        )
    finally:
        sys.path.remove(str(tmp_path))
    assert isinstance(found, Refusal)
    assert "--trust --code DIR" in found.reason
    assert NAME not in sys.modules
    assert not marker.exists()
    trusted(checkpoint, tmp_path)
    assert marker.exists()


def test_what_will_be_imported_is_told_before(tmp_path: Path, checkpoint_of: Maker) -> None:
    _, checkpoint = checkpoint_of()
    marker, told = tmp_path / "ran", []
    behaving(tmp_path, rest=f"Path({str(marker)!r}).touch()")

    def announce(names: tuple[str, ...]) -> None:
        assert not marker.exists()
        told.append(names)

    assert isinstance(trusted(checkpoint, tmp_path, announce=announce), RecomputedPolicy)
    assert told == [(f"{NAME}.Plain",)]


def test_plain_policies_need_no_consent_and_run_nothing(tmp_path: Path) -> None:
    checkpoint = trained(Case(algorithm="DQN"), tmp_path)[0]
    told: list[Any] = []
    assert isinstance(trusted(checkpoint, tmp_path, announce=told.append), Recomputed)
    assert told == []


def test_a_buffer_that_cannot_be_drawn_from_is_refused_before_anything_is_imported(
    tmp_path: Path, checkpoint_of: Maker
) -> None:
    _, checkpoint = checkpoint_of()
    told: list[Any] = []
    found = trusted(checkpoint, tmp_path, batch_size=1000, announce=told.append)
    assert found == Refusal(reason="a batch of 1000 is larger than the buffer's 39 valid rows")
    assert told == []


MORE = """
class Plain(Plain):
    def __init__(self, space):
        super().__init__(space)
        self.more = torch.nn.Linear(1, 1)
"""
OTHER = """
class Plain(Plain):
    def __init__(self, space, needed):
        pass
"""
FAILED = "the user's code failed: "
FAILING = {
    "missing class": ("pass", "del Plain", f"{FAILED}AttributeError: "),
    "other import": ("pass", "import no_such_module", "module no_such_module not found: name its folder"),
    "library": ("pass", "import sb3_contrib.no", "module sb3_contrib.no not found: name its folder"),
    "exits": ("pass", "raise SystemExit(3)", f"{FAILED}SystemExit: 3"),
    "syntax": ("pass", "def :", f"{FAILED}SyntaxError: "),
    "forward": ("raise ValueError('two\\nlines')", "", f"{FAILED}ValueError: two lines"),
    "shape": ("observations = observations[:, :1]", "", f"{FAILED}RuntimeError: "),
    "other network": ("pass", MORE, "the rebuilt policy has actor.features_extractor.more.weight, "),
    "other constructor": ("pass", OTHER, f"{FAILED}TypeError: "),
}


@pytest.mark.parametrize("name", FAILING)
def test_failures_are_one_clear_line(name: str, tmp_path: Path, checkpoint_of: Maker) -> None:
    forward, rest, line = FAILING[name]
    _, checkpoint = checkpoint_of()
    found = trusted(checkpoint, behaving(tmp_path, forward=forward, rest=rest))
    assert isinstance(found, Refusal)
    assert found.reason.startswith(line)
    assert "\n" not in found.reason
    assert len(found.reason) < 400


def test_a_module_that_is_not_found(checkpoint_of: Maker) -> None:
    _, checkpoint = checkpoint_of()
    line = f"module {NAME} not found: name its folder with --code DIR, or install it"
    assert trusted(checkpoint, None) == Refusal(reason=line)


CROSS = """
from sb3_contrib.crossq.policies import CrossQPolicy


class Crossed(CrossQPolicy):
    pass
"""


def test_a_policy_of_an_algorithm_that_is_not_known(tmp_path: Path) -> None:
    """CrossQ's settings look like SAC's, its policy has no targets."""
    with importable(tmp_path, CROSS) as users:
        small = {"buffer_size": 60, "learning_starts": 12, "policy_kwargs": {"net_arch": [8]}}
        model = CrossQ(users.Crossed, world(Case(algorithm="SAC")), batch_size=8, **small)
        model.learn(40, callback=CheckpointCallback(40, str(tmp_path / "run"), save_replay_buffer=True))
    found = trusted(files(tmp_path / "run", 40), tmp_path)
    assert found == Refusal(reason="the checkpoint's policy has no critic_target: it is none of SAC")


@pytest.mark.parametrize(
    ("library", "pip"), [("cloudpickle", "stable-baselines3"), ("sb3_contrib", "sb3-contrib")]
)
def test_a_library_that_is_not_installed(
    library: str, pip: str, tmp_path: Path, checkpoint_of: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, checkpoint = checkpoint_of()
    folder = behaving(tmp_path, rest="import sb3_contrib")
    monkeypatch.setitem(sys.modules, library, None)  # as Python itself marks what cannot be imported
    found = trusted(checkpoint, folder)
    assert found == Refusal(reason=f"{library} is not installed: pip install {pip}")


def test_a_folder_that_is_none(tmp_path: Path, checkpoint_of: Maker) -> None:
    _, checkpoint = checkpoint_of()
    assert trusted(checkpoint, tmp_path / "no").reason == f"--code {tmp_path / 'no'} is no folder"


def test_a_later_batch_that_fails_is_one_line_too(tmp_path: Path, checkpoint_of: Maker) -> None:
    _, checkpoint = checkpoint_of("DQN")
    count = "self.calls = getattr(self, 'calls', 0) + 1; assert self.calls < 4, 'enough'"
    found = trusted(checkpoint, behaving(tmp_path, forward=count), batches=5)
    with pytest.raises(UsageError, match="the user's code failed: AssertionError: enough"):
        list(found.batches())


RUDE = """
import logging
import random
import sys
import warnings
import numpy as np
os.environ["USER_OF_TESTS"] = "1"
os.environ.pop("HOME", None)
sys.path.append("/nowhere")
sys.argv.append("rude")
sys.dont_write_bytecode = False
os.chdir("/")
np.seterr(all="raise")
np.random.seed(1)
random.seed(1)
torch.manual_seed(1)
torch.set_default_dtype(torch.float64)
torch.use_deterministic_algorithms(True)
torch.set_grad_enabled(False)
torch.set_float32_matmul_precision("medium")
torch.autograd.set_detect_anomaly(True)
warnings.simplefilter("error")
logging.basicConfig(level=1, force=True)
print("hello from import")
"""


def process_state() -> dict[str, Any]:
    return {
        "path": list(sys.path),
        "argv": list(sys.argv),
        "bytecode": sys.dont_write_bytecode,
        "environment": dict(os.environ),
        "folder": Path.cwd(),
        "errors": np.geterr(),
        "numpy": np.random.mtrand._rand.get_state(),
        "random": random.getstate(),
        "torch": torch.get_rng_state().tolist(),
        "dtype": torch.get_default_dtype(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "grad": torch.is_grad_enabled(),
        "precision": torch.get_float32_matmul_precision(),
        "anomaly": torch.is_anomaly_enabled(),
        "threads": torch.get_num_threads(),
        "logging": (logging.root.level, list(logging.root.handlers)),
        "filters": list(warnings.filters),
        "modules": {name for name in sys.modules if NAME in name},
    }


def assert_untouched(before: dict[str, Any]) -> None:
    after = process_state()
    for key, value in before.items():
        np.testing.assert_equal(after[key], value, err_msg=key)


def test_rude_code_leaves_the_process_as_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], checkpoint_of: Maker
) -> None:
    _, checkpoint = checkpoint_of()
    speaks = "print('hello from forward')"
    folder = behaving(tmp_path, forward=f"{speaks}; torch.set_grad_enabled(False)", rest=RUDE)
    before = process_state()
    found = trusted(checkpoint, folder, batches=2)
    # Gradients were switched off in the middle: there is no loss to differentiate.
    assert isinstance(found, Refusal)
    assert_untouched(before)
    folder = behaving(tmp_path, forward=speaks, rest=RUDE)
    found = trusted(checkpoint, folder, batches=2)
    assert isinstance(found, Refusal), "float64 by default does not go with the buffer's float32"
    assert_untouched(before)
    quiet = RUDE.replace("torch.set_default_dtype(torch.float64)\n", "")
    found = trusted(checkpoint, behaving(tmp_path, forward=speaks, rest=quiet), batches=2)
    assert isinstance(found, RecomputedPolicy), found
    list(found.batches())
    list(found.fresh_batches())
    assert_untouched(before)
    assert not list(folder.glob("__pycache__"))
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "hello from import" in shown.err
    assert "hello from forward" in shown.err


@pytest.mark.parametrize(
    "forward", ["torch.manual_seed(7)", "torch.rand(3); import numpy; numpy.random.rand()"]
)
@pytest.mark.parametrize("algorithm", ["SAC", "TD3"])
def test_code_that_seeds_or_draws_does_so_as_in_training(
    algorithm: str, forward: str, tmp_path: Path, checkpoint_of: Maker
) -> None:
    case, checkpoint = checkpoint_of(algorithm)
    with importable(tmp_path, HEAD.format(forward=forward)):
        expected = gradients_in_train(truth(case, checkpoint))
    before = process_state()
    found = trusted(checkpoint, tmp_path)
    (one,) = found.batches()
    assert_equal(one.gradients, expected)
    assert_untouched(before)


def test_what_a_module_sets_holds_for_its_own_turns(tmp_path: Path, checkpoint_of: Maker) -> None:
    _, checkpoint = checkpoint_of()
    folder = behaving(
        tmp_path,
        forward="assert os.environ['USER_OF_TESTS'] == '1'; import helper_of_tests",
        rest="os.environ['USER_OF_TESTS'] = '1'",
    )
    (tmp_path / "helper_of_tests.py").write_text("")
    found = trusted(checkpoint, folder, batches=3)
    assert isinstance(found, RecomputedPolicy), found
    assert len(list(found.batches())) == 3
    assert "USER_OF_TESTS" not in os.environ
    assert "helper_of_tests" not in sys.modules


def test_two_runs_may_have_modules_of_the_same_name(tmp_path: Path, checkpoint_of: Maker) -> None:
    found = []
    for place, forward in enumerate(("pass", "observations = 2 * observations")):
        folder = tmp_path / str(place)
        folder.mkdir()
        case, checkpoint = checkpoint_of()
        with importable(folder, HEAD.format(forward=forward)):
            expected = gradients_in_train(truth(case, checkpoint))
        found.append((trusted(checkpoint, folder), expected))
    for one, expected in (*found, *found):
        (batch,) = one.batches()
        assert_equal(batch.gradients, expected)


def test_the_default_device_is_put_back() -> None:
    before = surroundings()
    torch.set_default_device("meta")
    assert torch.empty(1).device.type == "meta"
    before.put_back()
    assert torch.empty(1).device.type == "cpu"
    assert not torch.overrides._get_current_function_mode_stack()
