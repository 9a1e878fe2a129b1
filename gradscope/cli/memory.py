"""``--memory LIMIT``: the limit is set before anything is read."""

from __future__ import annotations

import re
from typing import Final

from gradscope.errors import UsageError

UNITS: Final = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
OWN_BYTES: Final = 150 << 20
"""Beside what the process holds at its start: numpy, its threads, and the records of a scan without torch."""

MOST_BYTES: Final = 1 << 62
"""The system's numbers end there."""


def limit_memory(text: str | None, *, is_quiet: bool) -> None:
    """Limit the process to what was asked for, else to nine tenths of what the machine has.

    Raises:
        UsageError: no size, or less than gradscope itself needs.
    """
    from gradscope.read.memory import SHARE, machine_bytes, set_limit, used_bytes

    if text is None:
        machine = machine_bytes()
        if machine is not None:
            limit = int(machine * SHARE)
            set_limit(limit, f"the {limit / 1e9:.1f} GB that this machine allows")
        return
    asked = num_bytes(text)
    needed = (used_bytes() or 0) + OWN_BYTES
    if asked < needed:
        raise UsageError(f"--memory {text}: gradscope itself needs {needed / 1e6:.0f} MB. Give more.")
    if not set_limit(asked, f"--memory {text}") and not is_quiet:
        from gradscope.cli.terminal import complain

        complain(f"--memory {text}: this system has no such limit; the scan goes on without")


def num_bytes(text: str) -> int:
    """2GB is 2 x 10^9 bytes, 2GiB and 2G are 2 x 2^30.

    Raises:
        UsageError: no size.
    """
    found = re.fullmatch(r"\s*([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*([kmgt]?)(i?b)?\s*", text.lower())
    if found is None or not float(found[1]):
        raise UsageError(f"--memory {text}: is no size. Write it like 2GB or 512MiB.")
    unit = UNITS[found[2]]
    if found[3] == "b":
        unit = 1000 ** list(UNITS).index(found[2])
    return min(int(float(found[1]) * unit), MOST_BYTES)
