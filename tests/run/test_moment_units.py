"""Units of a moment, from files to records."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from recompute.library import Case, trained

from gradscope.run.find import find
from gradscope.run.given import Means
from gradscope.run.inputs import RunSlices
from gradscope.run.join import moments
from gradscope.run.recomputed import NO_REPLAY
from gradscope.run.units import moment_units
from gradscope.settings import Settings

if TYPE_CHECKING:
    from gradscope.records import UnitActivity

SAMPLES = Path(__file__).parents[2] / "sample_checkpoints"
KNOWN = RunSlices()


def units(folder: Path, step: int, settings: Settings) -> tuple[UnitActivity, ...] | str:
    (run,) = find([folder]).runs
    (moment,) = (each for each in moments(run) if each.step == step)
    return moment_units(moment, KNOWN, Means(settings=settings))


def test_units_of_a_real_checkpoint_with_the_next_step_of_its_optimizer(tmp_path: Path) -> None:
    trained(Case(algorithm="SAC"), tmp_path)
    found = units(tmp_path, 80, Settings(batches=2, batch_size=16))
    assert not isinstance(found, str)
    assert [each.layer for each in found] == [
        *("actor.latent_pi.0.weight", "actor.latent_pi.2.weight", "actor.mu.weight", "actor.log_std.weight"),
        *(f"critic.qf{critic}.{place}.weight" for critic in (0, 1) for place in (0, 2, 4)),
    ]
    for each in found:
        assert each.num_rows == 32
        assert each.update_to_weight is not None
        assert 1e-6 < each.update_to_weight < 0.1
        assert "update_to_weight" not in each.reasons


def test_only_wanted_layers_and_the_reason_where_there_are_none(tmp_path: Path) -> None:
    trained(Case(algorithm="TD3"), tmp_path)
    some = units(tmp_path, 80, Settings(batches=1, batch_size=16, layers=("actor.mu.0*",)))
    assert not isinstance(some, str)
    assert [each.layer for each in some] == ["actor.mu.0.weight"]
    (tmp_path / "rl_model_replay_buffer_80_steps.pkl").unlink()
    assert units(tmp_path, 80, Settings()) == NO_REPLAY


@pytest.mark.parametrize(("run", "dead"), [("collapse", True), ("healthy", False)])
def test_the_samples_with_the_user_s_code(run: str, *, dead: bool) -> None:
    settings = Settings(batches=2, batch_size=128, trust=True, code=SAMPLES)
    found = units(SAMPLES / run, 10000, settings)
    assert not isinstance(found, str)
    first = found[0]
    assert first.layer.endswith("temporal_projection.weight")
    assert bool(first.dead) == dead
    assert first.update_to_weight is not None
