"""The file that ``--replay`` named: it takes the place of what lies beside each checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradscope.errors import UnreadableFile, UsageError
from gradscope.read import open_file
from gradscope.records import Replay, Rollout

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradscope.run.inputs import Array
    from gradscope.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Given:
    """One of these."""

    replay: Replay | None = None
    rollout: Rollout | None = None
    rows: Mapping[str, Array] | None = None
    """Of a batch file, by key: what ``--model``'s loss takes."""


def given(settings: Settings) -> Given | None:
    """What was named, opened; None where nothing was.

    Raises:
        UsageError: it is missing, cannot be read, or holds something else.
    """
    path = settings.replay
    if path is None:
        return None
    try:
        record = open_file(path)
    except UnreadableFile as error:
        raise UsageError(f"--replay {error}") from error
    match record:
        case Replay():
            return Given(replay=record)
        case Rollout():
            return Given(rollout=record)
    raise UsageError(f"--replay {path}: holds neither a replay buffer nor a rollout.")
