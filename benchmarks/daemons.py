"""What the operating system says of the daemons of an installation: CPU time, memory, and whether they rest."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path

import psutil

from veilmatch.server.supervisor import Supervisor

#: What `clock_getcpuclockid` of Linux puts behind the complement of a process id: all time that it was scheduled.
_SCHEDULED = 2


def cpu_seconds(parties: Supervisor) -> dict[str, float]:
    """Return the CPU time of each daemon so far, its worker processes included."""
    return {party: sum(_cpu_s(process) for process in _processes(parties.pid(party))) for party in parties.names}


def memory(pid: int) -> int:
    """Return the resident bytes of a daemon and its worker processes."""
    return sum(process.memory_info().rss for process in _processes(pid))


def peak_memory(pid: int) -> int:
    """Return the most resident bytes that a daemon and its worker processes have had, each since it started.

    Or since `forget_peaks`.
    """
    found = 0
    for process in _processes(pid):
        status = Path(f"/proc/{process.pid}/status")
        line = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
        found += 1024 * int(line[1]) if line else process.memory_info().rss
    return found


def forget_peaks(parties: Supervisor) -> None:
    """Let `peak_memory` tell the most from here on, where the system can do that.

    At its start a daemon takes 128 MiB to derive a key from its passphrase, and gives them back: that is the most it
    has in its whole life, unless its gallery is large.
    """
    for party in parties.names:
        for process in _processes(parties.pid(party)):
            marks = Path(f"/proc/{process.pid}/clear_refs")
            if marks.exists():
                marks.write_text("5")


def cpu_at_rest(parties: Supervisor, seconds: float = 3.0) -> dict[str, float]:
    """Return what each daemon takes in a second without being asked anything: CPU seconds."""
    before, started = cpu_seconds(parties), time.monotonic()
    time.sleep(seconds)
    after, passed = cpu_seconds(parties), time.monotonic() - started
    return {party: (after[party] - before[party]) / passed for party in after}


def wait_until_idle(parties: Supervisor, timeout_s: float = 180.0) -> None:
    """Return when nobody fills a stock any more: less than 2 % of a core for a second, for each daemon.

    What a daemon does at rest: it looks whether its stock is full, and hears whether it is behind.

    Raises TimeoutError if they do not rest in time.
    """
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        before = cpu_seconds(parties)
        time.sleep(1.0)
        if sum(cpu_seconds(parties).values()) - sum(before.values()) <= 0.02 * len(before):
            return
    raise TimeoutError(f"the daemons did not rest within {timeout_s:g} s")


def _cpu_s(process: psutil.Process) -> float:
    """Return the CPU time of one process; on Linux to the nanosecond, elsewhere in ticks."""
    if sys.platform == "linux":
        return time.clock_gettime((~process.pid << 3) | _SCHEDULED)
    times = process.cpu_times()
    return times.user + times.system


def _processes(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]
