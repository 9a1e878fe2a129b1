"""The command line as a user runs it: a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


def gradscope(*arguments: str, directory: Path, width: int = 80) -> Done:
    """Run ``gradscope``; a traceback is never an answer."""
    command = [sys.executable, "-m", "gradscope", *arguments]
    environment = os.environ | {"COLUMNS": str(width), "PYTHONUTF8": "1", "OMP_NUM_THREADS": "1"}
    process = subprocess.run(
        command, cwd=directory, capture_output=True, text=True, encoding="utf-8", env=environment, check=False
    )
    assert "Traceback" not in process.stderr, process.stderr
    return Done(process.returncode, process.stdout, process.stderr)
