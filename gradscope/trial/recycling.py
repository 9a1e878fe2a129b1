"""Units that are 0 on every row of a batch begin anew while a trainee trains on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import torch

from gradscope.errors import UsageError
from gradscope.recompute.activations import watched
from gradscope.recompute.batches import draws
from gradscope.recompute.unit_tally import Units

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gradscope.recompute.trainee import Trainee

EVERY: Final = 100
"""Updates between two recyclings. ReDo takes 1,000 in trainings of millions; trials have a few hundred."""
RECTIFIED: Final = "ReLU"


@dataclass(kw_only=True, eq=False)
class Recycling:
    """Looks for dead ReLU units every EVERY updates and recycles them as ReDo does."""

    trainee: Trainee
    found: Any
    """Of fresh networks, whose rows dead units get."""
    seed: int
    num_recycled: int = 0
    _fresh: Mapping[str, torch.Tensor] = field(default_factory=dict)

    def before(self, number: int, end: int, one: Any) -> None:
        """Recycle where it is time."""
        del end
        if number % EVERY:
            return
        units = Units()
        next(watched(self._gradients(one), units))
        self._fresh = self.found.fresh_parameters(self.seed + number)
        for name, tally in units.tallies.items():
            dead = [] if tally.activation != RECTIFIED else (tally.magnitude == 0).nonzero()[0].tolist()
            if dead and name in self.trainee.layers:
                self.num_recycled += self._recycled(name, dead, units.outgoing[name].takers)

    def _gradients(self, one: Any) -> Iterator[object]:
        """One pass, for the activations alone."""
        yield self.trainee.looked_at(one, draws(self.seed))

    def _recycled(self, name: str, dead: list[int], takers: list[str]) -> int:
        from gradscope.remedy import recycle_dead_units  # noqa: PLC0415  torch, only where it is tried

        layer = self._shell(name)
        if layer is None:
            return 0
        own = self.trainee.owner(name)
        following = [shell for each in takers if (shell := self._shell(each)) is not None]
        known = following if all(each in own.names for each in takers) else []

        def initialise(fresh: Any) -> None:
            with torch.no_grad():
                fresh.weight.copy_(self._fresh[name])
                if fresh.bias is not None:
                    fresh.bias.copy_(self._fresh[_bias(name)])

        try:
            return recycle_dead_units(layer, known, own.optimizer, dead=dead, initialise=initialise)
        except UsageError:
            # What takes the units takes others too: their outgoing weights stay, the incoming are new.
            return recycle_dead_units(layer, [], own.optimizer, dead=dead, initialise=initialise)

    def _shell(self, name: str) -> torch.nn.Module | None:
        """A module around parameters that belong to none, or to one of the user's."""
        weight, bias = self.trainee.parameters.get(name), self.trainee.parameters.get(_bias(name))
        if not isinstance(weight, torch.nn.Parameter):
            return None
        kinds: dict[int, Any] = {2: torch.nn.Linear, 3: torch.nn.Conv1d, 4: torch.nn.Conv2d}
        if weight.dim() not in kinds:
            return None
        size = () if weight.dim() == 2 else (tuple(weight.shape[2:]),)  # noqa: PLR2004 - a matrix
        shell = kinds[weight.dim()](
            weight.shape[1], weight.shape[0], *size, bias=bias is not None, device="meta"
        )
        shell.weight = weight
        if isinstance(bias, torch.nn.Parameter):
            shell.bias = bias
        return shell if isinstance(shell, torch.nn.Module) else None


def _bias(name: str) -> str:
    return f"{name.rpartition('.')[0]}.bias"
