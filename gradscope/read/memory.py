"""A limit on the memory of the whole process, so that a hostile folder ends in a table.

RLIMIT_DATA limits private writable memory; mapped files do not count, since the system can drop their pages.
"""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Final

CGROUP_2: Final = Path("/sys/fs/cgroup")
CGROUP_1: Final = Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")
SHARE: Final = 0.9
"""Of what the machine has: the rest is for everybody else, before the system kills somebody."""
_TORCH: Final = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "bad_alloc",
    "allocate memory",
)
"""What torch's RuntimeErrors say."""
_words: list[str] = []


def set_limit(num_bytes: int, words: str) -> bool:
    """Limit the process; ``words`` name the limit in reasons. False where the system has no such limit."""
    try:
        import resource  # noqa: PLC0415  not on every platform

        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        if hard != resource.RLIM_INFINITY:
            num_bytes = min(num_bytes, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (num_bytes, hard))
    except (ImportError, AttributeError, ValueError, OverflowError, OSError):
        return False
    _words[:] = [words]
    return True


def limit_bytes() -> int | None:
    """The limit in force; None where there is none."""
    try:
        import resource  # noqa: PLC0415  not on every platform

        soft, _ = resource.getrlimit(resource.RLIMIT_DATA)
    except (ImportError, AttributeError, OSError):
        return None
    return None if soft == resource.RLIM_INFINITY else soft


def used_bytes() -> int | None:
    """Memory of the process that counts against the limit; None where the system does not tell."""
    try:
        lines = Path("/proc/self/status").read_text("ascii", "replace").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("VmData:")), None)


def check_room(num_bytes: int) -> None:
    """Stop before a library is loaded that would end the whole process where memory runs out.

    Raises:
        MemoryError: the limit leaves less than that.
    """
    limit, used = limit_bytes(), used_bytes()
    if limit is not None and used is not None and limit - used < num_bytes:
        raise MemoryError(f"{num_bytes} bytes are needed, {limit - used} are left")


def machine_bytes() -> int | None:
    """What the machine, or the container around the process, has; None where the system does not tell."""
    found = [_whole(path) for path in (CGROUP_1, *_own_groups())]
    try:
        line = Path("/proc/meminfo").read_text("ascii", "replace").partition("\n")[0]
        found.append(int(line.split()[1]) << 10)
    except (OSError, ValueError, IndexError):
        pass
    return min((each for each in found if each is not None), default=None)


def _own_groups() -> list[Path]:
    """Limits of the process' own group and of all groups around it (cgroup 2)."""
    try:
        lines = Path("/proc/self/cgroup").read_text("utf-8", "replace").splitlines()
    except OSError:
        return []
    own = next((line.removeprefix("0::") for line in lines if line.startswith("0::")), None)
    if own is None:
        return []
    folder = CGROUP_2 / own.lstrip("/")
    groups = [folder, *folder.parents]
    return [each / "memory.max" for each in groups if each.is_relative_to(CGROUP_2)]


def _whole(path: Path) -> int | None:
    try:
        return int(path.read_text("ascii"))
    except (OSError, ValueError):
        return None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out; torch and the system say it in their own ways."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    if isinstance(error, RuntimeError | ImportError):
        return any(words in str(error).lower() for words in _TORCH)
    return isinstance(error, MemoryError)


def needs_more() -> str:
    """The reason in a row of a file that memory did not suffice for."""
    return f"needs more than {_words[0]}" if _words else "needs more memory than there is"
