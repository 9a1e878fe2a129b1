"""Folders that hold one step of a run each: run/step_1000/model.pt, run/checkpoint-1000/..."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from gradscope.read.step_name import FOLDER, step_of_place

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from gradscope.records import Normalizer, Replay, Snapshot
    from gradscope.run.find import Found, RunFiles

KINDS: Final = ("checkpoints", "recorded", "replays", "normalizers", "rollouts")
SEVERAL: Final = "neither the content nor the name tells a step, and its folder holds others"


def with_step_folders(runs: dict[Path, RunFiles], found: Found) -> Iterable[RunFiles]:
    """Runs, folders of single steps put into the run of the folder above.

    A folder holds a single step where its name says one (step_1000, checkpoint-1000, epoch_3, 1000) and its
    files tell no two steps of their own; a folder that was given as PATH stays a run.
    """
    for folder in _deepest_first(runs):
        files, step = runs[folder], step_of_place(folder)
        if step is None or any(each.step_from == FOLDER and each.step != step for each in _steps(files)):
            continue
        own = {each.step for each in _steps(files) if each.step is not None and each.step_from != FOLDER}
        if own - {step}:
            # The folder counts something else than its files do, or it is a run.
            _forget_folder(files)
        if len(own) > 1 or files.timelines:
            continue
        if folder not in found.folders and folder != found.base:
            _move(files, _run_of(folder.parent, runs, found, files))
            del runs[folder]
    return runs.values()


def _deepest_first(runs: dict[Path, RunFiles]) -> Iterator[Path]:
    """Also folders that become runs on the way: checkpoint-10/global_step10/."""
    deepest = max((len(folder.parts) for folder in runs), default=0)
    for depth in range(deepest, 0, -1):
        yield from sorted(folder for folder in runs if len(folder.parts) == depth)


def _run_of(folder: Path, runs: dict[Path, RunFiles], found: Found, like: RunFiles) -> RunFiles:
    if folder not in runs:
        name = folder.relative_to(found.base).as_posix()
        runs[folder] = type(like)(run=name, folder=folder)
    return runs[folder]


def _steps(files: RunFiles) -> Iterator[Snapshot | Normalizer | Replay]:
    yield from files.checkpoints
    yield from files.recorded
    yield from files.normalizers
    yield from (each.replay for each in files.replays)


def _forget_folder(files: RunFiles) -> None:
    """Files whose step only the folder told have none where its name is not to be trusted."""
    reasons = {"step": SEVERAL}
    files.checkpoints = [
        replace(each, step=None, step_from=None, reasons={**each.reasons, **reasons})
        if each.step_from == FOLDER
        else each
        for each in files.checkpoints
    ]
    files.normalizers = [
        replace(each, step=None, step_from=None) if each.step_from == FOLDER else each
        for each in files.normalizers
    ]
    for each in files.replays:
        if each.replay.step_from == FOLDER:
            each.replay = replace(each.replay, step=None, step_from=None)


def _move(files: RunFiles, run: RunFiles) -> None:
    for kind in KINDS:
        getattr(run, kind).extend(getattr(files, kind))
