"""What surrounds the updates of a trainee whose modules are the user's code."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from gradscope.errors import UsageError
from gradscope.recompute.trusted.buffers import buffers_of
from gradscope.recompute.trusted.chance import borrowed
from gradscope.recompute.trusted.guest import GuestFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gradscope.recompute.batches import Draws
    from gradscope.recompute.trusted.guest import Guest


@dataclass(frozen=True, kw_only=True, eq=False)
class Host:
    """A model and in whose turns it is called."""

    model: torch.nn.Module
    guest: Guest
    set_mode: Callable[[bool], object]
    """True while training."""

    @contextmanager
    def session(self) -> Iterator[None]:
        """A turn of the user's code.

        Raises:
            UsageError: that code failed.
        """
        try:
            with self.guest.turn():
                yield
        except GuestFailed as problem:
            raise UsageError(str(problem)) from problem

    @contextmanager
    def turn(self, drawn: Draws) -> Iterator[torch.Generator]:
        """One update's chance."""
        with borrowed(drawn.noise, drawn.rows) as noise:
            self.set_mode(True)
            yield noise

    def keep(self) -> Callable[[], None]:
        """What a pass changes by the way: chance and buffers."""
        chance, buffers = torch.get_rng_state(), buffers_of(self.model)

        def put_back() -> None:
            torch.set_rng_state(chance)
            buffers.put_back()

        return put_back

    def evaluate(self) -> None:
        """As while collecting."""
        self.set_mode(False)
