"""Names of one parameter with and without what wraps its network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

WRAPPERS: Final = frozenset({"module", "_orig_mod"})
"""Data parallel and torch.compile put these into names."""


def bare(name: str) -> str:
    """A name without the wrappers' parts."""
    return ".".join(part for part in name.split(".") if part not in WRAPPERS) or name


def names_as(own: Iterable[str], names: Iterable[str]) -> Mapping[str, str]:
    """Each own name with the one of ``names`` that differs from it by wrappers alone, else with itself.

    Nothing is renamed where a name fits already, or where two names differ by wrappers alone.
    """
    known = list(names)
    by_bare = {bare(name): name for name in known}
    bares = {name: bare(name) for name in own}
    is_unclear = len(by_bare) < len(known) or len(set(bares.values())) < len(bares)
    if is_unclear or not bares.keys().isdisjoint(known):
        return {name: name for name in bares}
    return {name: by_bare.get(each, name) for name, each in bares.items()}
