"""Fuzz every target in turn: ``python -m fuzz.run_all --minutes 10 [TARGET...]``, tests/ on the path.

Works in build/fuzz: corpus/, findings/ and log.jsonl, one line a target with what was done. Afterwards
``--keep`` puts the smallest set of inputs that covers the same into tests/fuzz/corpus/.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

from fuzz.targets import targets

HERE: Final = Path(__file__).parent
WORK: Final = HERE.parent.parent / "build" / "fuzz"
MAX_FINDINGS: Final = 100
"""Of one target; more are most often the same again."""
MAX_KEPT_BYTES: Final = 40_000
"""Of one target's committed inputs: the smallest first."""


def fuzzed(name: str, minutes: float) -> dict[str, Any]:
    """Fuzz one target that long, going on after every finding; what was done."""
    folders = [WORK / "corpus" / name, HERE / "corpus" / name, WORK / "seeds" / name]
    folders[0].mkdir(parents=True, exist_ok=True)
    found = WORK / "findings" / name
    found.mkdir(parents=True, exist_ok=True)
    executions, coverage, started = 0, "", time.monotonic()
    before = len(list(found.iterdir()))
    while (left := minutes * 60 - (time.monotonic() - started)) > 1:
        output = _libfuzzer(
            name,
            f"-max_total_time={int(left)}",
            f"-artifact_prefix={found}/",
            *(str(each) for each in folders if each.is_dir()),
        )
        (WORK / f"{name}.txt").write_text(output)
        executions += sum(map(int, re.findall(r"stat::number_of_executed_units:\s+(\d+)", output)))
        coverage = (re.findall(r"cov: \d+ ft: \d+ corp: \S+", output) or [coverage])[-1]
        if len(list(found.iterdir())) - before >= MAX_FINDINGS or not executions:
            break
    return {
        "target": name,
        "minutes": round((time.monotonic() - started) / 60, 1),
        "executions": executions,
        "coverage": coverage,
        "findings": len(list(found.iterdir())) - before,
    }


def keep(name: str) -> None:
    """Put the smallest set of inputs that covers the same into the committed corpus."""
    target = HERE / "corpus" / name
    merged = WORK / "merged" / name
    merged.mkdir(parents=True, exist_ok=True)
    given = [WORK / "corpus" / name, target, WORK / "seeds" / name]
    prefix = f"-artifact_prefix={WORK}/merge-"
    _libfuzzer(name, "-merge=1", prefix, str(merged), *(str(each) for each in given if each.is_dir()))
    target.mkdir(parents=True, exist_ok=True)
    for path in target.iterdir():
        path.unlink()
    left = MAX_KEPT_BYTES
    for path in sorted(merged.iterdir(), key=lambda each: each.stat().st_size):
        left -= path.stat().st_size
        if left < 0:
            break
        (target / path.name[:16]).write_bytes(path.read_bytes())


def _libfuzzer(name: str, *options: str) -> str:
    command = [sys.executable, "-m", "fuzz.fuzz_parsers", name, *options]
    again = WORK / f"{name}.sh"
    again.write_text(f'#!/bin/sh\nexec {shlex.join(command[:4])} "$@"\n')
    again.chmod(0o755)
    environment = os.environ | {"FUZZ_COMMAND": str(again)}
    done = subprocess.run(command, capture_output=True, check=False, cwd=HERE.parent, env=environment)
    return (done.stdout + done.stderr).decode("utf-8", "replace")


def main() -> None:
    """As the command line says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("targets", nargs="*")
    given = parser.parse_args()
    unknown = sorted(set(given.targets) - set(targets()))
    if unknown:
        parser.error(f"no target {unknown[0]!r}; there are {', '.join(targets())}")
    WORK.mkdir(parents=True, exist_ok=True)
    results = []
    for name in given.targets or targets():
        if given.keep:
            keep(name)
            continue
        results.append(fuzzed(name, given.minutes))
        with (WORK / "log.jsonl").open("a") as log:
            log.write(json.dumps(results[-1]) + "\n")
        print(json.dumps(results[-1]), flush=True)  # noqa: T201  a script
    if any(each["findings"] for each in results):
        raise SystemExit(f"findings lie in {WORK / 'findings'}")


if __name__ == "__main__":
    main()
