"""Prints what opening torch's files costs beside torch.load: time, and memory above a bare process.

``python tests/bench/torch_files_against_torch.py``: 50 zips of 3 MB with every weight read; one legacy
file of 500 MB of which one small layer is read. Each in a process of its own, medians of 3. Asserts nothing.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

NUM_ROUNDS = 3
MIB = 1 << 20
START = """
import sys, time
from pathlib import Path
folder, started = Path(sys.argv[1]), time.perf_counter()
"""
END = """
status = Path("/proc/self/status").read_text()  # ru_maxrss would count the parent's
peak = 1024 * int(status.partition("VmHWM:")[2].split()[0])
print(time.perf_counter() - started, peak)
"""
BODIES = {
    ("zips", "gradscope"): """
from gradscope import open_snapshot
for path in sorted(folder.glob("*.pt")):
    for layer in open_snapshot(path).layers.values():
        layer.weight
""",
    ("zips", "torch.load"): """
import torch
for path in sorted(folder.glob("*.pt")):
    torch.load(path, weights_only=True)
""",
    ("legacy", "gradscope"): """
from gradscope import open_snapshot
open_snapshot(folder / "legacy.bin").layers["last.weight"].weight
""",
    ("legacy", "torch.load"): """
import torch
torch.load(folder / "legacy.bin", weights_only=True)["last.weight"]
""",
    ("nothing", "python"): "",
}


def made(folder: Path) -> None:
    """The files."""
    import torch  # noqa: PLC0415  the processes that are measured import their own

    for place in range(50):
        state = {f"layer{index}.weight": torch.randn(256, 256) for index in range(12)}
        torch.save(state, folder / f"model_{place}.pt")
    large = {f"layer{index}.weight": torch.zeros(25 * MIB // 4) for index in range(20)}
    content = {**large, "last.weight": torch.ones(8)}
    torch.save(content, folder / "legacy.bin", _use_new_zipfile_serialization=False)


def measured(folder: Path, body: str) -> tuple[float, float]:
    """Seconds and bytes of a process of its own."""
    code = START + body + END
    found = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True
    )
    seconds, peak = found.stdout.split()
    return float(seconds), float(peak)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made(folder)
        found = {
            key: [
                statistics.median(each)
                for each in zip(*(measured(folder, body) for _ in range(NUM_ROUNDS)), strict=True)
            ]
            for key, body in BODIES.items()
        }
    bare = found["nothing", "python"][1]
    for kind in ("zips", "legacy"):
        ours, theirs = found[kind, "gradscope"], found[kind, "torch.load"]
        for label, each in (("gradscope", ours), ("torch.load", theirs)):
            sys.stdout.write(f"{kind}: {label} {each[0]:.2f} s, {(each[1] - bare) / MIB:.0f} MiB\n")
        memory = (theirs[1] - bare) / (ours[1] - bare)
        sys.stdout.write(
            f"{kind}: torch.load took {theirs[0] / ours[0]:.1f} x the time, {memory:.1f} x the memory\n"
        )


if __name__ == "__main__":
    main()
