"""Fuzz one parser: ``python -m fuzz.fuzz_parsers TARGET [libFuzzer's options] CORPUS...``, tests/ as path.

FUZZ_COMMAND names an executable that does the same: libFuzzer starts itself anew to merge.
"""

from __future__ import annotations

import os
import pickle
import sys
from random import Random

import atheris

MAX_LEN = 1 << 16
COUNTED_EVERY = 64
"""Executions of which one has its memory counted."""


def main() -> None:
    """Until libFuzzer is told to stop, or finds something."""
    name, *options = sys.argv[1:]
    with atheris.instrument_imports(include=["gradscope"]):
        from fuzz.native import in_this_process  # noqa: PLC0415
        from fuzz.targets import run, targets  # noqa: PLC0415

        in_this_process()
        from gradscope import read  # noqa: F401, PLC0415  must be imported here to be instrumented

        targets()
    for function in {*pickle._Unpickler.dispatch.values()}:
        atheris.instrument_func(function)
    executions = 0

    def test_one_input(content: bytes) -> None:
        nonlocal executions
        executions += 1
        run(name, content, counts_memory=executions % COUNTED_EVERY == 0)

    def mutate(content: bytes, max_size: int, seed: int) -> bytes:
        random = Random(seed)  # noqa: S311
        plainly = lambda part, _: bytes(atheris.Mutate(part, max(len(part) + 16, 64)))  # noqa: E731
        changed = content
        for _ in range(random.choice((1, 1, 1, 2, 3))):
            if isinstance(changed, bytes):
                changed = _mutated(changed, random, plainly)
        return changed[:max_size]

    from fuzz.mutations import mutated as _mutated  # noqa: PLC0415

    limits = [f"-max_len={MAX_LEN}", "-timeout=10", "-rss_limit_mb=3000", "-print_final_stats=1"]
    given = [os.environ.get("FUZZ_COMMAND", sys.argv[0]), *limits]
    atheris.Setup([*given, *options], test_one_input, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
