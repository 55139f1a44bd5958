"""Processes that work for ever, report line by line, and are killed in the middle of it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run_and_kill(module: str, *arguments: object, after_s: float) -> list[int]:
    """Let a module run, kill it some time after its first line, and return the numbers that it printed."""
    process = subprocess.Popen(
        # Unbuffered: what was read ahead of the first line would be lost to `communicate`.
        [sys.executable, "-m", module, *map(str, arguments)],
        0,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
    )
    assert process.stdout is not None and process.stderr is not None
    first = process.stdout.readline()
    time.sleep(after_s)
    assert process.poll() is None, process.stderr.read()
    process.kill()
    out, err = process.communicate(timeout=10)
    assert process.returncode == -signal.SIGKILL, err
    return [int(line) for line in (first + out).split(b"\n") if line]
