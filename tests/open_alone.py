"""Opens one path in a process of its own and says what it took: seconds, bytes, and what came of it."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

MEMORY_BYTES: Final = 3 << 30
SECONDS: Final = 20
"""Far beyond what any test allows: a bomb that works ends here, not the machine."""


def opened_alone(path: Path) -> dict[str, Any]:
    """``outcome`` (record's type, or the reason), ``seconds`` and ``peak`` (bytes beyond the libraries')."""
    command = [sys.executable, __file__, str(path)]
    done = subprocess.run(command, capture_output=True, check=False, timeout=10 * SECONDS, text=True)
    if not done.stdout:
        return {"outcome": f"died ({done.returncode}): {done.stderr[-300:]}", "seconds": SECONDS, "peak": 0}
    return dict(json.loads(done.stdout))


def used(record: Any) -> None:
    """Everything that a record can give, one after the other."""
    for name in ("layers", "state", "observations", "next_observations"):
        mapping = getattr(record, name, None) or {}
        for value in getattr(mapping, "values", tuple)():
            assert value is not None


def peak() -> int:
    """Most bytes resident so far; not ru_maxrss, which begins with the parent's."""
    lines = Path("/proc/self/status").read_text("ascii", "replace").splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))


def main(path: Path) -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    import numpy as np  # noqa: F401, PLC0415  not counted

    import gradscope.read  # noqa: PLC0415
    from gradscope.errors import UnreadableFile  # noqa: PLC0415

    before = peak()
    started = time.perf_counter()
    try:
        record = gradscope.read.open_file(path)
        used(record)
        outcome = type(record).__name__
    except UnreadableFile as error:
        outcome = str(error)
    seconds = time.perf_counter() - started
    found = {"outcome": outcome, "seconds": seconds, "peak": peak() - before}
    print(json.dumps(found))  # noqa: T201  its answer


if __name__ == "__main__":
    main(Path(sys.argv[1]))
