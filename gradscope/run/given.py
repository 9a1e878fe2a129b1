"""What recomputing may use beside a moment's own files: settings, the file of --replay, who is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from gradscope.errors import UnreadableFile, UsageError
from gradscope.read import folder_reader, open_file, reader_of, sniff
from gradscope.records import Replay, Rollout
from gradscope.run.transitions import OBSERVATIONS, entries

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gradscope.run.inputs import Array
    from gradscope.settings import Settings

    Announce = Callable[[str], None]

ROWS: Final = "Rows under other names: --replay-keys observations=NAME,actions=NAME,..."
BATCH_FILES: Final = (sniff.TORCH, sniff.TORCH_LEGACY, sniff.SAFETENSORS, sniff.RECORDER, sniff.NUMPY)
"""Readers whose files, named for ``--model``, hold rows under names of the user's own."""


@dataclass(frozen=True, kw_only=True)
class Given:
    """The file that ``--replay`` named: one of these, in the place of what lies beside each checkpoint."""

    replay: Replay | None = None
    rollout: Rollout | None = None
    rows: Mapping[str, Array] | None = None
    """Of a batch file, by key: what ``--model``'s loss takes."""

    @property
    def observations(self) -> Mapping[str, Array] | None:
        """As collected, by key, [rows, *shape]; empty where a batch file names none, None without a file."""
        if self.replay is not None:
            return {key: each.reshape(-1, *each.shape[2:]) for key, each in self.replay.observations.items()}
        if self.rows is None:
            return None
        return {key: each for key, each in entries(self.rows, OBSERVATIONS).items() if each.ndim > 1}


@dataclass(frozen=True, kw_only=True)
class Means:
    """Everything that recomputing depends on but the moment itself."""

    settings: Settings
    given: Given = field(default_factory=Given)
    broken: Mapping[int | None, str] = field(default_factory=dict)
    """By step: a file that could not be read, which may be the buffer that is missed."""
    announce: Announce | None = None
    """Told once of each piece of the user's code, before it is imported."""
    _told: set[str] = field(default_factory=set)

    def announced(self, names: tuple[str, ...]) -> None:
        """Say what of the user's will be imported or run."""
        text = f"--trust: imports {', '.join(names)}" if names else "--trust: unpickles the policy's classes"
        if self.settings.code is not None:
            text += f" from {self.settings.code}"
        if self.announce is not None and text not in self._told:
            self._told.add(text)
            self.announce(text)


def given(settings: Settings) -> Given:
    """The file that was named, opened; nothing where none was.

    Raises:
        UsageError: it is missing, cannot be read, or holds something else.
    """
    path = settings.replay
    if path is None:
        return Given()
    try:
        if settings.model is not None:
            return _for_model(settings)
        record = open_file(path, settings.replay_keys)
    except UnreadableFile as error:
        raise UsageError(f"--replay {error}") from error
    match record:
        case Replay():
            return Given(replay=record)
        case Rollout():
            return Given(rollout=record)
    raise UsageError(f"--replay {path}: holds neither a replay buffer nor a rollout. {ROWS}")


def _for_model(settings: Settings) -> Given:
    """A replay buffer, or a batch file: rows for the loss of ``--model``."""
    from gradscope.read.batch_file import read_batch  # noqa: PLC0415  only where it is needed

    assert settings.replay is not None
    reader = folder_reader(settings.replay) or reader_of(settings.replay, settings.replay_keys)
    if reader is None or reader.format in BATCH_FILES:
        return Given(rows=read_batch(settings.replay, settings.replay_keys))
    record = reader.read(settings.replay)
    if not isinstance(record, Replay):
        raise UsageError(f"--replay {settings.replay}: holds a {type(record).__name__}, no rows to train on.")
    return Given(replay=record)
