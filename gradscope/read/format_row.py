"""One line of the table of formats."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

CHECKPOINTS: Final = "Checkpoints"
REPLAYS: Final = "Replays, and what belongs to them"
RECORDED: Final = "What gradscope's recorder writes"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table: one kind of file or folder."""

    kind: str
    """CHECKPOINTS, REPLAYS or RECORDED."""
    format: str
    """As the opened record says it."""
    reader: str
    """A key of formats.READERS."""
    files: str
    tells: str
    step: str
    """Where its step comes from."""
    gradients: str
