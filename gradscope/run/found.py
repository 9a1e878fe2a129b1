"""What lies under a PATH, opened, run by run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gradscope.read import open_file
from gradscope.records import LeftOut, Normalizer, Replay, Rollout, Snapshot, Timeline

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from gradscope.errors import UnreadableFile


@dataclass(kw_only=True)
class ReplayFileOpened:
    """A replay buffer whose arrays may have been let go."""

    replay: Replay
    num_rows: int
    kept: bool
    keys: Mapping[str, str] = field(default_factory=dict)

    def opened(self) -> Replay:
        """The buffer with its arrays, read again where they were let go."""
        if self.kept:
            return self.replay
        again = open_file(self.replay.source, self.keys)
        assert isinstance(again, Replay)
        return again


@dataclass(kw_only=True)
class RunFiles:
    """All files of one run: one folder."""

    run: str
    folder: Path
    checkpoints: list[Snapshot] = field(default_factory=list)
    recorded: list[Snapshot] = field(default_factory=list)
    replays: list[ReplayFileOpened] = field(default_factory=list)
    normalizers: list[Normalizer] = field(default_factory=list)
    timelines: list[Timeline] = field(default_factory=list)
    rollouts: list[Rollout] = field(default_factory=list)


@dataclass(kw_only=True)
class Found:
    """Everything under a PATH, opened."""

    path: str
    base: Path
    artifacts: dict[Path, tuple[Path, ...]] = field(default_factory=dict)
    """What is opened, each with the files it consists of: a file itself, or a folder that is one."""
    runs: list[RunFiles] = field(default_factory=list)
    skipped: list[LeftOut] = field(default_factory=list)
    unreadable: list[LeftOut] = field(default_factory=list)
    named: set[Path] = field(default_factory=set)
    """Files, and folders that are one artifact, that were a PATH of their own, absolute."""
    folders: list[Path] = field(default_factory=list)
    """Other folders that were a PATH, absolute."""
    keys: Mapping[str, str] = field(default_factory=dict)
    """What the user calls the entries of a replay: usual name to the files' own."""
    unused_configs: list[Path] = field(default_factory=list)
    """Configuration files of sub-folders: one configuration holds for a whole PATH."""
    _listed: set[LeftOut] = field(default_factory=set)
    """What is in ``unreadable``, to be asked for often."""

    @property
    def files(self) -> list[Path]:
        """All files that are looked at."""
        return [part for parts in self.artifacts.values() for part in parts]

    def holds(self, folder: Path) -> bool:
        """Whether the folder was a PATH or lies in one."""
        return any(folder.is_relative_to(each) for each in self.folders)

    def relative(self, path: Path) -> str:
        """Name of a file as reports show it: relative to PATH, or PATH's own."""
        return path.name if path == self.base else path.relative_to(self.base).as_posix()

    def add_unreadable(self, error: UnreadableFile) -> None:
        """List a file that broke, or changed, when more of it was read."""
        left = LeftOut(source=self.relative(error.path), reason=error.reason)
        if left not in self._listed:
            self._listed.add(left)
            self.unreadable.append(left)
