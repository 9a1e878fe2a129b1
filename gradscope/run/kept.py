"""Snapshots measured before: what they depend on, as a key, and how they are kept and come back."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from gradscope.errors import UnreadableFile
from gradscope.read.file_bytes import MORE_MEMORY
from gradscope.read.held_map import CHANGED, WAIT, changed_since
from gradscope.read.memory import is_out_of_memory, needs_more
from gradscope.records import SnapshotGradient
from gradscope.run.gradient import snapshot_gradient
from gradscope.run.listing import file_names
from gradscope.show.json_document import plain
from gradscope.show.rebuilt import rebuilt
from gradscope.store.file_states import are_settled, file_states
from gradscope.store.remembered import lasting
from gradscope.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradscope.run.given import Means
    from gradscope.run.inputs import RunSlices
    from gradscope.run.join import Moment
    from gradscope.run.listing import Opened, OpenedRun
    from gradscope.store.file_states import FileState

COMPUTING: Final = ("torch", "numpy", "scipy", "ml_dtypes")
"""Packages whose version can change a bit of a result."""
THREADS: Final = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES")


class Documents(Protocol):
    """Where they are kept."""

    def get(self, key: str) -> bytes | None:
        """The document of a key."""

    def put(self, key: str, document: bytes) -> None:
        """Keep a document."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One snapshot, by all that it depends on."""

    key: str
    is_settled: bool
    """No file of it changed just now: its time of change tells of the next change."""


@dataclass(kw_only=True)
class Kept:
    """Measured snapshots of one scan, asked for and kept one by one."""

    documents: Documents
    opened: Opened
    means: Means
    _general: str = ""
    """What every key of the scan has in common."""
    _slices: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Take down what all snapshots depend on."""
        replay = self.opened.settings.replay
        given = None if replay is None else self._states(replay.absolute())
        general = [surroundings(), lasting(self.opened.settings), given]
        self._general = json.dumps(general, sort_keys=True, default=str)

    def asked(self, run: OpenedRun, moment: Moment, names: Mapping[str, str | None]) -> Asked:
        """One snapshot's key, from what its files are now."""
        files = [self._states(each) for each in sources(moment)]
        own = [
            files,
            dict(names),
            moment.run,
            moment.step,
            moment.previous_step,
            moment.main.step_from,
            moment.main.notes,
            moment.notes,
            self.means.broken.get(moment.step),
            self._slices_of(run),
        ]
        text = json.dumps([self._general, own], sort_keys=True, default=str)
        key = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        return Asked(key=key, is_settled=all(are_settled(each) for each in files))

    def get(self, asked: Asked) -> SnapshotGradient | None:
        """The snapshot measured before, where all that it depends on is as it was."""
        document = self.documents.get(asked.key)
        if document is None:
            return None
        try:
            found: SnapshotGradient = rebuilt(SnapshotGradient, json.loads(document))
        except (ValueError, TypeError, KeyError):
            return None
        return found

    def put(self, asked: Asked, snapshot: SnapshotGradient) -> None:
        """Keep a whole snapshot."""
        document = json.dumps(plain(snapshot), allow_nan=False)
        self.documents.put(asked.key, document.encode("ascii"))

    def _states(self, path: Path) -> list[FileState | None]:
        parts = self.opened.found.artifacts.get(path)
        if parts is None:
            parts = tuple(sorted(path.rglob("*"))) if path.is_dir() else (path,)
        return file_states(parts)

    def _slices_of(self, run: OpenedRun) -> str:
        name = run.files.run
        if name not in self._slices:
            self._slices[name] = _digest(run.slices)
        return self._slices[name]


def measured_snapshot(
    opened: Opened, run: OpenedRun, moment: Moment, means: Means, kept: Kept | None
) -> SnapshotGradient | None:
    """A snapshot, measured now or before; None where its file broke or changed since it was opened."""
    names = file_names(opened.found, moment)
    asked = kept.asked(run, moment, names) if kept else None
    before = kept.get(asked) if kept and asked else None
    if before is not None:
        return before
    try:
        measured = snapshot_gradient(moment, means, run.slices, names)
        _check_unchanged(opened, moment)
    except UnreadableFile as error:
        opened.found.add_unreadable(error)
        return None
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        opened.found.add_unreadable(UnreadableFile(moment.main.source, needs_more(), MORE_MEMORY))
        return None
    if kept and asked and asked.is_settled and asked == kept.asked(run, moment, names):
        kept.put(asked, measured)
    return measured


def sources(moment: Moment) -> list[Path]:
    """Files, and folders that are one artifact, that a moment's measures are taken from."""
    records = (moment.checkpoint, moment.recorded, moment.normalizer, moment.rollout)
    found = [each.source for each in records if each is not None]
    return [*found, moment.replay.replay.source] if moment.replay is not None else found


def _check_unchanged(opened: Opened, moment: Moment) -> None:
    """Refuse what was measured on a mapped file that was written at the same time: a mixture of two."""
    named = opened.settings.replay
    for source in [*sources(moment), *([named] if named is not None else [])]:
        if changed_since(opened.num_maps, source):
            raise UnreadableFile(source, CHANGED, WAIT)


@cache
def surroundings() -> tuple[object, ...]:
    """Versions, this package's own files, and how many threads compute."""
    return (
        __version__,
        _package_state(),
        [_version(name) for name in COMPUTING],
        [os.environ.get(name) for name in THREADS],
        os.cpu_count(),
    )


def _package_state() -> str:
    """Sizes and times of the package's modules: a version under development changes without its number."""
    folder = Path(__file__).parents[1]
    files = sorted(folder.rglob("*.py"))
    return hashlib.sha256(repr(file_states(files)).encode("utf-8", "surrogatepass")).hexdigest()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _digest(slices: RunSlices) -> str:
    content = hashlib.sha256()
    for name, value in vars(slices).items():
        if name == "resting":
            for key, array in value.items():
                content.update(repr((key, array.dtype.str, array.shape)).encode("utf-8", "surrogatepass"))
                content.update(array.tobytes())
        else:
            content.update(repr((name, _plain(value))).encode("utf-8", "surrogatepass"))
    return content.hexdigest()


def _plain(value: Any) -> Any:
    return sorted(value.items()) if isinstance(value, dict) else value
