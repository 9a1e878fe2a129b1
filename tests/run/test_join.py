from __future__ import annotations

from pathlib import Path

from gradscope.records import Normalizer, Replay, Snapshot
from gradscope.run.find import ReplayFileOpened, RunFiles
from gradscope.run.join import moments


def checkpoint(name: str, step: int | None) -> Snapshot:
    return Snapshot(source=Path(name), format="sb3", step=step)


def recorded(name: str, step: int | None) -> Snapshot:
    return Snapshot(source=Path(name), format="gradscope", step=step)


def replay(name: str, step: int | None) -> ReplayFileOpened:
    return ReplayFileOpened(replay=Replay(source=Path(name), format="sb3", step=step), num_rows=1, kept=True)


def files(**found: list[object]) -> RunFiles:
    run = RunFiles(run=".", folder=Path())
    for kind, records in found.items():
        setattr(run, kind, records)
    return run


def test_files_of_one_step_become_one_moment_in_numeric_order() -> None:
    joined = moments(
        files(
            checkpoints=[checkpoint("m_10000_steps.zip", 10000), checkpoint("m_2000_steps.zip", 2000)],
            recorded=[recorded("m_gradscope_2000_steps.safetensors", 2000)],
            replays=[replay("m_replay_buffer_10000_steps.pkl", 10000)],
            normalizers=[Normalizer(source=Path("vecnormalize.pkl"))],
        )
    )
    assert [each.step for each in joined] == [2000, 10000]
    assert [each.previous_step for each in joined] == [None, 2000]
    assert [each.recorded is not None for each in joined] == [True, False]
    assert [each.replay is not None for each in joined] == [False, True]
    assert all(each.normalizer is not None for each in joined)


def test_unknown_steps_come_last_and_are_never_joined() -> None:
    joined = moments(
        files(
            checkpoints=[checkpoint("best.zip", None), checkpoint("m_5_steps.zip", 5)],
            recorded=[recorded("odd.safetensors", None)],
        )
    )
    assert [each.main.source.name for each in joined] == ["m_5_steps.zip", "best.zip", "odd.safetensors"]
    assert all(each.recorded is None or each.checkpoint is None for each in joined)


def test_two_checkpoints_of_one_step_are_both_listed_and_the_tie_is_told() -> None:
    joined = moments(
        files(
            checkpoints=[checkpoint("best_model.zip", 5), checkpoint("m_5_steps.zip", 5)],
            recorded=[recorded("m_gradscope_5_steps.safetensors", 5)],
        )
    )
    assert [each.main.source.name for each in joined] == ["best_model.zip", "m_5_steps.zip"]
    assert [each.recorded is not None for each in joined] == [False, True]
    # The one that is called best says which of them counts.
    assert "claimed by m_5_steps.zip too, which counts" in joined[0].notes[0]
    assert joined[1].notes == ()


def test_a_recorder_file_alone_is_a_snapshot() -> None:
    (only,) = moments(files(recorded=[recorded("m_gradscope_5_steps.safetensors", 5)]))
    assert only.checkpoint is None
    assert only.main.format == "gradscope"


def test_a_replay_without_a_step_belongs_to_the_only_snapshot() -> None:
    (only,) = moments(files(checkpoints=[checkpoint("model.zip", 5)], replays=[replay("buffer.pkl", None)]))
    assert only.replay is not None
    two = moments(
        files(
            checkpoints=[checkpoint("a.zip", 5), checkpoint("b.zip", 6)], replays=[replay("buffer.pkl", None)]
        )
    )
    assert [each.replay for each in two] == [None, None]
