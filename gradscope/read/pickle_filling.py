"""Items and entries that a pickle's opcodes put into lists, dicts and stubs; nothing else takes any."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from gradscope.read.file_bytes import Malformed
from gradscope.read.pickle_stubs import Entries, Stub

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def extend(target: object, items: Sequence[object]) -> None:
    """Append to a list, a deque or a stub.

    Raises:
        Malformed: the target has no items.
    """
    if isinstance(target, (list, deque)):
        target.extend(items)
    elif isinstance(target, Stub):
        target.items.extend(items)
    else:
        raise Malformed(f"appends to a {type(target).__name__}")


def fill(target: object, items: Sequence[object], checked: Callable[[object], object]) -> None:
    """Set entries of a dict or a stub; ``items``: keys and values in turn; ``checked`` refuses a key.

    Raises:
        Malformed: the target has no entries, or a key cannot be one.
    """
    entries = target.entries if isinstance(target, Stub) else target
    if not isinstance(entries, dict) or len(items) % 2:
        raise Malformed(f"sets entries of a {type(target).__name__}")
    keys = items[::2]
    for key, value in zip(keys, items[1::2], strict=True):
        entries[checked(key)] = value
    if isinstance(entries, Entries) and entries.is_text and not all(isinstance(key, str) for key in keys):
        entries.is_text = False
