"""What benchmarks/scaling.py makes of CPU time and memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import daemons
import pytest
import scaling

PARTIES = [f"{kind}-{party}" for kind in ("matcher", "keyholder") for party in "abc"]


def test_what_daemons_take_anyway_is_that_of_the_four_for_as_long_as_the_search() -> None:
    cell: dict[str, Any] = {"cpu_at_rest": dict.fromkeys(PARTIES, 0.01), "total_s": 0.5, "identities": 1_000}
    cell["cpu_at_rest"] |= {"matcher-c": 1.0, "keyholder-c": 1.0}
    assert scaling.at_rest_of(cell) == pytest.approx(4 * 0.01 * 0.5 / 1_000)


#: Has 64 MiB, gives them back, and says so.
FREES = "b = bytearray(b'x') * (64 << 20); del b; print(flush=True); input()"


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux tells and forgets peaks")
def test_a_peak_is_forgotten() -> None:
    half = 32 << 20
    with subprocess.Popen([sys.executable, "-c", FREES], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"\n"
        parties = cast(Any, SimpleNamespace(names=["matcher-a"], pid=lambda party: process.pid))
        assert daemons.peak_memory(process.pid) >= daemons.memory(process.pid) + half
        daemons.forget_peaks(parties)
        assert daemons.peak_memory(process.pid) < daemons.memory(process.pid) + half
        process.communicate(b"\n")
