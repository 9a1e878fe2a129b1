"""Prints ratios measured in one run; asserts no times.

``python tests/bench/scan_against_torch.py [FOLDER]``: a whole ``gradscope scan`` against ``import torch``
alone, and against the script a user would write: torch.load every SB3 zip's policy, read the gradients
with safetensors, count.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

SAMPLE = Path(__file__).parents[2] / "sample_checkpoints" / "collapse"
BY_HAND = """
import io, pathlib, sys, zipfile, torch
from safetensors.torch import load_file
for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as outer:
            torch.load(io.BytesIO(outer.read("policy.pth")), weights_only=True)
    elif path.suffix == ".safetensors":
        gradients = [g for name, g in load_file(path).items() if name.startswith("gradient.")]
        zeros = sum(int((gradient.abs() <= 1e-8).sum()) for gradient in gradients)
"""


def seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, capture_output=True, check=True)
    return time.perf_counter() - start


def main(folder: Path) -> None:
    scan = [sys.executable, "-m", "gradscope", "scan", str(folder), "--quiet"]
    others = {
        "import torch": [sys.executable, "-c", "import torch"],
        "script by hand": [sys.executable, "-c", BY_HAND, str(folder)],
    }
    for name, other in others.items():
        pairs = [(seconds(scan), seconds(other)) for _ in range(7)]
        ratio = statistics.median(ours / theirs for ours, theirs in pairs)
        ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
        print(f"scan {ours:.2f} s, {name} {theirs:.2f} s, ratio {ratio:.2f}")  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else SAMPLE)
