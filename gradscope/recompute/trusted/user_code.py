"""The user's consent to run code, and what it is about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


class Blobs(Protocol):
    """What a checkpoint's policy is made from; ``gradscope.read.sb3_blobs`` gives it."""

    @property
    def pickles(self) -> Mapping[str, bytes]:
        """observation_space, action_space, policy_class, policy_kwargs, as cloudpickle wrote them."""

    @property
    def plain(self) -> Mapping[str, object]:
        """Those of them that are plain JSON."""

    @property
    def imports(self) -> tuple[str, ...]:
        """Of the user's: what unpickling them imports or runs."""

    @property
    def python(self) -> tuple[int, int] | None:
        """Version that wrote them, where it is known."""

    @property
    def carries_code(self) -> bool:
        """Whether they hold functions or classes themselves, as bytecode."""


@dataclass(frozen=True, kw_only=True, eq=False)
class UserCode:
    """Given only where the user said so (--trust)."""

    blobs: Blobs
    folder: Path | None = None
    """Stands in front of sys.path while their code runs (--code)."""
    announce: Callable[[tuple[str, ...]], None] | None = None
    """Called with ``blobs.imports`` before anything is imported; not at all where nothing has to be."""
