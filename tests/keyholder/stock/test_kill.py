"""A holder that is killed in the middle of its work hands nothing out twice when it is back."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import pytest

from tests.keyholder.dealers import NAME, Holder

ROOT = Path(__file__).parents[3]
ROUNDS = 5


def run_and_kill(folder: Path, role: str, after: int) -> list[tuple[str, int, int]]:
    """Let a process reserve so many ranges at least, kill it, and return those that it was handed."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.keyholder.reserve_loop", str(folder), role],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
    )
    assert process.stdout is not None
    first = b"".join(process.stdout.readline() for _ in range(after))
    assert process.poll() is None, process.stderr.read() if process.stderr else ""
    process.kill()
    out, err = process.communicate(timeout=10)
    assert process.returncode == -signal.SIGKILL, err
    lines = [line.split() for line in (first + out).decode().split("\n") if line.count(" ") == 2]
    return [(kind, int(start), int(stop)) for kind, start, stop in lines]


@pytest.mark.parametrize("role", ["plus", "minus"])
async def test_no_index_is_handed_out_twice_over_all_kills(role: str, tmp_path: Path) -> None:
    rng, handed = random.Random(role), defaultdict(list)
    for _ in range(ROUNDS):
        after = rng.randint(1, 120)
        ranges = run_and_kill(tmp_path / "data", role, after)
        assert len(ranges) >= after
        for kind, start, stop in ranges:
            handed[kind].append((start, stop))
    holder = Holder(tmp_path / "data", is_plus=role == "plus")
    for kind, spans in handed.items():
        assert all(stop <= start for (_, stop), (start, _) in pairwise(sorted(spans))), kind
        assert holder.store.mark(NAME, kind) >= max(stop for _, stop in spans)  # type: ignore[arg-type]
    assert handed.keys() >= {"triples", "bits"}
