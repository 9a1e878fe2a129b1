"""Parameters' numbers in an optimizer's groups, bounded: lists of a pickle can be shared without end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gradscope.read.pickle_bounds import MAX_KEY

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

NOT_SETTINGS: Final = ("params", "param_names")
MAX_GROUPS: Final = 10_000
MAX_NUMBERS: Final = 1_000_000
"""Parameters of an optimizer, over all groups: a file may list one group a million times."""


def distinct(values: Iterable[object]) -> list[object]:
    """Each object once: a file can name one without end, no library gives two parameters one state."""
    return list({id(each): each for each in values}.values())


def parameter_numbers(groups: Sequence[Mapping[str, object]]) -> list[object]:
    """Names or numbers of all parameters; none where they are no such thing, or one comes twice."""
    found: dict[str, object] = {}
    for group in groups:
        for number in _list(group.get("params")):
            key = (
                str(number)
                if isinstance(number, str) or (type(number) is int and abs(number) < MAX_KEY)
                else ""
            )
            if not key or key in found:
                return []
            found[key] = number
    return list(found.values())


def are_bounded(groups: Sequence[object]) -> bool:
    """Whether an optimizer's groups are as few as any real optimizer's; lists of them may be shared."""
    entries = [each for each in groups[: MAX_GROUPS + 1] if isinstance(each, dict)]
    sizes = [max(len(_list(each.get(key))) for key in NOT_SETTINGS) for each in entries]
    return len(groups) <= MAX_GROUPS and sum(sizes) <= MAX_NUMBERS


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
