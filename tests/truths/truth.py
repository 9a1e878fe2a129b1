"""A run whose fault is known, and what must be said of it; the table that compares both."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from truths.worlds import LAST, MARKET, POSITION

from gradscope.judge.hypotheses import HYPOTHESES
from gradscope.records import Verdict
from gradscope.run import open_run, scan_opened, with_shift
from gradscope.run.explain import explanation
from gradscope.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

SEEDS: Final = (21, 22, 23)
"""They set no limit."""
CODES: Final = tuple(sorted(each.__name__.replace("_", "-") for each in HYPOTHESES))
SLICES: Final = Settings(slices={"market": (MARKET,), "position": (POSITION,)}, slices_from="option")


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What is planted."""

    name: str
    made: Callable[[Path, int], object]
    """Leaves a run in a folder, from a seed."""
    twin: str | None = None
    """Healthy truth that differs in nothing but the fault; None: it is one."""
    supported: frozenset[str] = frozenset()
    """Hypotheses that must be supported; all others must not."""
    also: frozenset[str] = frozenset()
    """Hypotheses that may be, as a symptom."""
    untestable: frozenset[str] = frozenset()
    """Hypotheses that nothing in these files can settle, and must not seem to."""
    words: Mapping[str, str] = field(default_factory=dict)
    """By hypothesis: what its reason has to say."""
    settings: Settings | Callable[[Path], Settings] = SLICES
    """Or what makes them from the run's folder."""
    step: int | None = LAST


@dataclass(frozen=True, kw_only=True)
class Told:
    """What gradscope says of one run."""

    truth: Truth
    seed: int
    verdicts: Mapping[str, Verdict]
    reasons: Mapping[str, str]

    def of(self, verdict: Verdict) -> frozenset[str]:
        """Hypotheses with this verdict."""
        return frozenset(code for code, each in self.verdicts.items() if each is verdict)

    @property
    def missed(self) -> frozenset[str]:
        """True and not supported."""
        return self.truth.supported - self.of(Verdict.SUPPORTED)

    @property
    def false(self) -> frozenset[str]:
        """Supported and not true."""
        return self.of(Verdict.SUPPORTED) - self.truth.supported - self.truth.also

    @property
    def settled(self) -> frozenset[str]:
        """Supported or rejected on no grounds."""
        return self.truth.untestable - self.of(Verdict.NOT_TESTABLE)

    @property
    def unsaid(self) -> frozenset[str]:
        """Hypotheses whose reason lacks the words."""
        return frozenset(code for code, words in self.truth.words.items() if words not in self.reasons[code])

    def __str__(self) -> str:
        """One line of the table."""
        found, missed, false = map(_listed, (self.of(Verdict.SUPPORTED), self.missed, self.false))
        return f"{self.truth.name:42} {self.seed}  found: {found}; missed: {missed}; false: {false}"


def told(truth: Truth, seed: int, folder: Path) -> Told:
    """Train, read what was saved, explain."""
    truth.made(folder, seed)
    settings = truth.settings(folder) if callable(truth.settings) else truth.settings
    opened = open_run(folder, settings=settings)
    found = explanation(with_shift(scan_opened(opened), opened), opened, step=truth.step).findings
    return Told(
        truth=truth,
        seed=seed,
        verdicts={each.code: each.verdict for each in found},
        reasons={each.code: each.reason for each in found},
    )


def table(runs: Iterable[Told]) -> str:
    """Each run, then each hypothesis: in how many runs it is true, found, missed, and falsely found."""
    runs = list(runs)
    head = f"{'hypothesis':20} true found missed   not true  rejected  not testable  false alarms"
    return "\n".join([*map(str, runs), "", head, *(_counted(code, runs) for code in CODES)])


def _counted(code: str, runs: list[Told]) -> str:
    true = [each for each in runs if code in each.truth.supported]
    other = [each for each in runs if code not in each.truth.supported | each.truth.also]
    missed = sum(code in each.missed for each in true)
    kinds = (Verdict.REJECTED, Verdict.NOT_TESTABLE, Verdict.SUPPORTED)
    rejected, open_, false = (sum(code in each.of(kind) for each in other) for kind in kinds)
    found = f"{code:20} {len(true):4} {len(true) - missed:5} {missed:6}"
    return f"{found}   {len(other):8} {rejected:9} {open_:13} {false:13}"


def _listed(codes: Iterable[str]) -> str:
    return ", ".join(sorted(codes)) or "-"
