"""The child process that calls native libraries: its limits come before every import that matters.

Run as a script with ``-I -S``: Python looks neither at the working directory nor at PYTHON* variables.
The places to import from come with the request, and gradscope itself is loaded from where this file lies.
"""

from __future__ import annotations

import sys
from typing import Final

ENVIRONMENT: Final = {
    "HDF5_PLUGIN_PATH": "",
    "HDF5_PLUGIN_PRELOAD": "::",
    "HDF5_USE_FILE_LOCKING": "FALSE",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "MALLOC_ARENA_MAX": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
"""No filter plugins are loaded (``::`` means none), and threads do not use up the address space."""


def limit(memory: int, seconds: int, output: int) -> None:
    """Bytes of address space, processor time and bytes of the longest file written, from now on."""
    try:
        import resource  # noqa: PLC0415  Windows has none; the wall clock holds there
    except ImportError:
        return
    for name, value in (
        ("RLIMIT_CORE", 0),
        ("RLIMIT_AS", memory),
        ("RLIMIT_CPU", seconds),
        ("RLIMIT_FSIZE", output),
        ("RLIMIT_NOFILE", 64),
    ):
        kind = getattr(resource, name, None)
        if kind is None:
            continue
        hard = resource.getrlimit(kind)[1]
        bounded = value if hard == resource.RLIM_INFINITY else min(value, hard)
        try:
            resource.setrlimit(kind, (bounded, bounded))
        except (OSError, ValueError):  # macOS has limits that cannot be set
            continue


def load_own_package() -> None:
    """Import gradscope from its files, without its folder becoming a place to import from."""
    import importlib.util  # noqa: PLC0415  after the limits
    import os  # noqa: PLC0415

    folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120  pathlib is slow
    spec = importlib.util.spec_from_file_location(
        "gradscope",
        os.path.join(folder, "__init__.py"),  # noqa: PTH118
        submodule_search_locations=[folder],
    )
    assert spec is not None
    assert spec.loader is not None
    sys.modules["gradscope"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)


def main() -> None:
    """Answer the request on standard input; rows and answer go to standard output."""
    limit(*(int(each) for each in sys.argv[1:4]))
    import json  # noqa: PLC0415  after the limits
    import os  # noqa: PLC0415

    request = json.loads(sys.stdin.buffer.read())
    sys.path[:] = request["python_path"]
    # pyarrow imports pandas where it can, which takes longer than everything else together.
    sys.modules["pandas"] = None  # type: ignore[assignment]
    load_own_package()
    from gradscope.read.native_task import answer  # noqa: PLC0415

    answer(request)
    # No tidying up: threads of Arrow that still read abort a Python that is ending.
    os._exit(0)


if __name__ == "__main__":
    main()
