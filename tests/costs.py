"""What each test costs: CPU time of its process and of all that it started, and how long it took.

    python -m pytest -p tests.costs --costs costs.jsonl tests/keyholder   # adds a line for each phase of each test
    python -m tests.costs costs.jsonl                                     # a table of folders, files and tests

On a machine that others use too, the CPU time is what can be compared; where a test takes much longer than that and
the machine is quiet, it waits. Linux only: it reads /proc.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

_TICK = os.sysconf("SC_CLK_TCK")
#: Lines of each table.
_MOST = 40


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--costs", metavar="FILE", required=True, help="add what each test costs to this file")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(_Costs(Path(config.getoption("--costs"))))


class _Costs:
    """Notes every phase. Processes of tests add to one file, a line at a time."""

    def __init__(self, file: Path) -> None:
        self._file = file.absolute()

    @contextmanager
    def _noted(self, item: pytest.Item, phase: str) -> Iterator[None]:
        cpu_s, began_s = _cpu_s(), time.monotonic()
        try:
            yield
        finally:
            cost = {"test": item.nodeid, "phase": phase, "cpu": _cpu_s() - cpu_s, "took": time.monotonic() - began_s}
            with self._file.open("a") as costs:
                costs.write(json.dumps(cost) + "\n")

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, Any, Any]:
        with self._noted(item, "setup"):
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        with self._noted(item, "call"):
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, Any, Any]:
        with self._noted(item, "teardown"):
            return (yield)


def _cpu_s() -> float:
    """Return the CPU time of this process and of all below it, those included that have ended."""
    times = os.times()
    total, left = times.user + times.system + times.children_user + times.children_system, list(_children(os.getpid()))
    while left:
        pid = left.pop()
        with suppress(OSError):
            # Behind the name, which may contain anything. Fields 14 to 17 are utime, stime, cutime and cstime.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += sum(map(int, fields[11:15])) / _TICK
            left += _children(pid)
    return total


def _children(pid: int) -> Iterator[int]:
    with suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            yield from map(int, (thread / "children").read_text().split())


def main(file: str) -> None:
    """Print what is dearest."""
    costs = [json.loads(line) for line in Path(file).read_text().splitlines()]
    parts = {
        "folders": lambda test: "/".join(test.split("/")[:2]),
        "files": lambda test: test.partition("::")[0],
        "tests": lambda test: test,
    }
    for what, part_of in parts.items():
        sums: defaultdict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0])
        for cost in costs:
            one = sums[part_of(cost["test"])]
            one[0] += cost["cpu"]
            one[1] += cost["took"]
            one[2] += cost["phase"] == "call"
        print(f"{'CPU s':>9} {'took s':>9} {'tests':>6}  {what}")
        for name, (cpu_s, took_s, count) in sorted(sums.items(), key=lambda entry: -entry[1][0])[:_MOST]:
            print(f"{cpu_s:9.1f} {took_s:9.1f} {count:6}  {name}")


if __name__ == "__main__":
    main(sys.argv[1])
