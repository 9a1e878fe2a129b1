"""Which folder is the run that a checkpoint belongs to, where checkpoints are folders themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradscope.records import Timeline

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Homes:
    """Folders of runs, where checkpoints are folders themselves."""

    artifacts: frozenset[Path]
    """Folders that are opened as one."""
    holders: frozenset[Path]
    """Folders that hold such, at any depth."""
    base: Path

    def of(self, path: Path, record: object) -> Path:
        """The folder of the run that a file or a folder belongs to: the one it lies in.

        A folder with a run's own record is that run (d3rlpy's logs), and so is one that holds folders of
        checkpoints and a model beside them (what a Trainer was told to write to).
        """
        is_run = isinstance(record, Timeline) or path in self.holders or path == self.base
        return path if path in self.artifacts and is_run else path.parent


def homes_of(artifacts: Mapping[Path, tuple[Path, ...]], base: Path) -> Homes:
    """Where artifacts, each with the files it consists of, belong under ``base``."""
    folders = frozenset(path for path, parts in artifacts.items() if parts != (path,))
    holders = frozenset(parent for path in folders for parent in path.parents)
    return Homes(artifacts=folders, holders=holders, base=base)
