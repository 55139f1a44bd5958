"""Enters requests for ever, many at once, and prints every number that is on disk, until it is killed.

python -m tests.transport.ledger_loop <data folder> <first number>; see test_ledger_kill.
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

from veilmatch.server.admission.budgets import Budget
from veilmatch.server.admission.ledger import Entry, Ledger

THREADS = 16
NAMES = {"device": "door-1", "gallery": "main"}
LIMITS = [Budget(scope, "requests", "month", 10**9) for scope in NAMES]


def nonce_of(number: int) -> bytes:
    return number.to_bytes(32, "big")


def entry(number: int) -> Entry:
    return Entry(nonce_of(number), 2**42, NAMES, {"requests": 1})


def enter_for_ever(folder: Path, first: int) -> None:
    ledger = Ledger(folder, LIMITS, "keyholder-a")
    os.write(1, b"-1\n")  # open

    def one(thread: int) -> None:
        for n in count(first + thread, THREADS):
            ledger.enter(entry(n)).result()
            # In one write: what is seen was entered, whatever happens next.
            os.write(1, f"{n}\n".encode())

    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(one, range(THREADS)))


if __name__ == "__main__":
    enter_for_ever(Path(sys.argv[1]), int(sys.argv[2]))
