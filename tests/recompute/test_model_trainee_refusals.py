"""--model that cannot be trained on: one line says why and what to try."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

import pytest
import torch
from recompute.model_runs import ModelRun, trained
from torch import optim

from gradscope.errors import UsageError
from gradscope.recompute.networks import Mismatch
from gradscope.recompute.trusted.optimizer_kind import optimizer_kind

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> ModelRun:
    return trained(tmp_path_factory.mktemp("actor"), "actor", lambda model: optim.AdamW(model.parameters()))


def reason(run: ModelRun, function: str | None = None) -> str:
    with pytest.raises(UsageError) as caught:
        run.recomputed(function=function).trainee()
    return str(caught.value)


def changed(run: ModelRun, folder: Path, change: Any) -> ModelRun:
    content = torch.load(run.checkpoint)
    change(content)
    path = folder / "changed.pt"
    torch.save(content, path)
    return ModelRun(folder=run.folder, function=run.function, checkpoint=path, rows=run.rows)


def test_no_optimizer_says_what_to_save(run: ModelRun, tmp_path: Path) -> None:
    line = reason(changed(run, tmp_path, lambda content: content.pop("optimizer")))
    assert "holds no optimizer state" in line
    assert "'optimizer': optimizer.state_dict()" in line


def test_several_optimizers(run: ModelRun, tmp_path: Path) -> None:
    both = changed(
        run,
        tmp_path,
        lambda content: content.update(optimizer=[content["optimizer"], deepcopy(content["optimizer"])]),
    )
    assert "holds 2 optimizers" in reason(both)


def test_a_function_that_always_gives_one_model(run: ModelRun) -> None:
    assert "build the model inside" in reason(run, "always")


@pytest.mark.parametrize(
    ("function", "words"),
    [("stranger", "moves what is no parameter of the model"), ("one_group", None)],
)
def test_the_users_own_optimizer_must_fit(function: str, words: str | None, run: ModelRun) -> None:
    if words is not None:
        assert words in reason(run, function)
        return
    assert run.recomputed(function=function).trainee().layers[0] == "log_std"


def test_what_the_function_gives_as_optimizer_must_be_one(run: ModelRun) -> None:
    with pytest.raises(AssertionError, match=r"a str as optimizer: not a torch\.optim\.Optimizer"):
        run.recomputed(function="no_optimizer")


def test_groups_of_other_sizes(run: ModelRun) -> None:
    assert "its groups have [1, 2, 4] parameters, the saved [7]" in reason(run, "grouped")


def test_adam_of_older_torch_may_be_adamw(run: ModelRun, tmp_path: Path) -> None:
    def older(content: Any) -> None:
        content["optimizer"]["param_groups"][0].pop("decoupled_weight_decay")

    line = reason(changed(run, tmp_path, older))
    assert "does not tell Adam from AdamW (weight_decay 0.01" in line

    # Without a decay the two are one.
    def undecayed(content: Any) -> None:
        older(content)
        content["optimizer"]["param_groups"][0]["weight_decay"] = 0.0

    trainee = changed(run, tmp_path, undecayed).recomputed().trainee()
    assert isinstance(trainee.parts[0].optimizer, optim.Adam)


def test_a_state_that_is_not_the_parameters(run: ModelRun, tmp_path: Path) -> None:
    def wrong(content: Any) -> None:
        content["optimizer"]["state"][0]["exp_avg"] = torch.zeros(5)

    assert "fits no order of the names" in reason(changed(run, tmp_path, wrong))
    assert "exp_avg is (5,), not (2,)" in reason(changed(run, tmp_path, wrong), "one_group")


@pytest.mark.parametrize(
    ("settings", "state"),
    [
        ({"lr": 1, "betas": (0.9, 0.99), "weight_decay": 0}, {"exp_avg"}),
        ({"lr": 1, "betas": (0.9, 0.99), "eps": 1, "weight_decay": 0, "amsgrad": False, "rank": 4}, {"step"}),
        ({"lr": 1, "betas": (0.9, 0.99), "eps": 1, "weight_decay": 0, "amsgrad": False}, {"state1", "qmap1"}),
        ({"lr": 1, "betas": (0.9, 0.99), "eps": 1, "weight_decay": 0}, set()),
        ({}, set()),
    ],
    ids=["Lion", "GaLore", "8 bit", "Adamax or RAdam", "nothing"],
)
def test_optimizers_that_are_not_torchs(settings: dict[str, Any], state: set[str]) -> None:
    with pytest.raises(Mismatch, match="none that is known of torch's"):
        optimizer_kind([settings], [dict.fromkeys(state, 0)])
