"""Processes that work for ever, report line by line, and are killed in the middle of it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run_and_kill(
    module: str, *arguments: object, after_s: float, after: Callable[[list[int]], bool] = bool
) -> list[int]:
    """Let a module run, kill it and return the numbers that it printed.

    after: whether it may be killed, `after_s` later, once it has printed these numbers; by default after the first.
    """
    process = subprocess.Popen(
        # Unbuffered: what was read ahead of the first line would be lost to `communicate`.
        [sys.executable, "-m", module, *map(str, arguments)],
        0,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
    )
    assert process.stdout is not None and process.stderr is not None
    printed: list[int] = []
    while not after(printed):
        line = process.stdout.readline()
        assert line, process.stderr.read()
        printed.append(int(line))
    time.sleep(after_s)
    assert process.poll() is None, process.stderr.read()
    process.kill()
    out, err = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, err
    return printed + [int(line) for line in out.split(b"\n") if line]
