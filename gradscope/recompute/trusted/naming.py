"""A checkpoint's names for a model's tensors, whatever wrapped the model when it was saved."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradscope.records.wrapped import bare

if TYPE_CHECKING:
    from collections.abc import Iterable


def named_like(own: Iterable[str], saved: Iterable[str]) -> dict[str, str]:
    """Each of the model's names with the checkpoint's name for the same tensor, as far as there is one.

    Names are the same, or the same without wrappers, or the checkpoint's all begin with one more prefix
    ("model.", "net.").
    """
    there = list(saved)
    plain = {bare(name): name for name in there}
    if len(plain) < len(there):
        plain = {name: name for name in there}
    wanted = {name: bare(name) for name in own}
    for prefix in ("", *_prefixes(plain, set(wanted.values()))):
        found = {name: plain[prefix + each] for name, each in wanted.items() if prefix + each in plain}
        if len(found) == len(wanted) == len(there):
            return found
    return {name: plain[each] for name, each in wanted.items() if each in plain}


def _prefixes(saved: Iterable[str], wanted: set[str]) -> set[str]:
    """The one prefix that the first saved name would need."""
    first = next(iter(saved), "")
    return {first.removesuffix(name) for name in wanted if first.endswith(f".{name}")}
