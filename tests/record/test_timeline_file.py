"""Lines survive kills, full disks and restarts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from typing import TYPE_CHECKING

import pytest
from record.worlds import timeline

from gradscope.record.timeline_file import TimelineFile

if TYPE_CHECKING:
    from pathlib import Path


def run_script(script: str, path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", textwrap.dedent(script), str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=True)


def test_lines_are_appended_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    for number in range(3):
        file = TimelineFile(path)
        file.append({"number": number, "norm": None})
        file.close()
    assert path.read_bytes() == b"".join(b'{"number":%d,"norm":null}\n' % number for number in range(3))


def test_a_torn_last_line_does_not_swallow_the_next(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(b'{"step":1}\n{"st')
    TimelineFile(path).append({"step": 2})
    assert path.read_bytes() == b'{"step":1}\n{"st\n{"step":2}\n'


def test_numbers_that_json_does_not_know_are_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        TimelineFile(tmp_path / "t.jsonl").append({"norm": float("nan")})


def test_a_disk_that_takes_no_more_ends_the_timeline_but_not_the_training(tmp_path: Path) -> None:
    script = """
        import resource, sys
        from pathlib import Path
        from gradscope.record.timeline_file import TimelineFile
        resource.setrlimit(resource.RLIMIT_FSIZE, (15, 15))
        file = TimelineFile(Path(sys.argv[1]))
        for step in range(4):
            file.append({"step": step})
    """
    path = tmp_path / "t.jsonl"
    ran = run_script(script, path)
    assert ran.stderr.count("no more timeline: the last line was cut short. Free some space.") == 1
    assert path.read_text() == '{"step":0}\n{"st'
    ran = run_script(script, path)
    assert ran.stderr.count("no more timeline: File too large. Free some space.") == 1


def test_kill_minus_nine_leaves_every_complete_line_and_whole_snapshots(tmp_path: Path) -> None:
    script = """
        import sys, torch
        torch.set_num_threads(1)
        from stable_baselines3 import SAC
        from gradscope.record import GradscopeCallback
        model = SAC("MlpPolicy", "Pendulum-v1", learning_starts=20, batch_size=32, device="cpu")
        model.learn(100_000, callback=GradscopeCallback(25, sys.argv[1], timeline_every=1))
    """
    path = tmp_path / "rl_model_gradscope_timeline.jsonl"
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)]
    with subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}) as training:
        give_up = time.monotonic() + 120
        while not path.is_file() or path.read_bytes().count(b"\n") < 200:
            assert training.poll() is None
            assert time.monotonic() < give_up
            time.sleep(0.05)
        training.send_signal(signal.SIGKILL)
    lines = path.read_bytes().split(b"\n")
    complete = [json.loads(line) for line in lines[:-1]]
    assert len(complete) >= 200
    assert complete[0]["schema"] == "gradscope/timeline/1"
    assert all(line["num_zero"] for line in complete[1:])
    for snapshot_file in tmp_path.glob("rl_model_gradscope_*.safetensors"):
        length = int.from_bytes(snapshot_file.read_bytes()[:8], "little")
        assert json.loads(snapshot_file.read_bytes()[8 : 8 + length])
    with path.open("ab") as torn:
        torn.write(b'{"step": 12')
    TimelineFile(path).append({"schema": "gradscope/timeline/1"})
    good = tmp_path / "good.jsonl"
    good.write_bytes(b"\n".join(line for line in path.read_bytes().split(b"\n") if line.endswith(b"}")))
    headers, rows = timeline(good)
    assert (len(headers), len(rows)) == (2, len(complete) - 1)
