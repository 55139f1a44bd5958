"""Asks for ever and prints every number that was admitted, until it is killed; see test_budgets_kill.

python -m tests.transport.budget_loop <data folder> <first number>
"""

from __future__ import annotations

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

from tests.transport.ledgers import Budgets
from veilmatch.crypto.errors import BudgetExceededError
from veilmatch.server.admission.budgets import Budget

THREADS = 4
LIMIT = 200


def ask_for_ever(folder: Path, first: int) -> None:
    budgets = Budgets(folder, [Budget("device", "requests", "month", LIMIT)], "keyholder-a")
    os.write(1, b"-1\n")  # open

    def one(thread: int) -> None:
        for n in count(first + thread, THREADS):
            try:
                budgets.admit({"device": "door-1"}, {"requests": 1})
            except BudgetExceededError:
                os.write(1, b"-2\n")  # no more
                threading.Event().wait()
            # In one write: what is seen was admitted, whatever happens next.
            os.write(1, f"{n}\n".encode())

    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(one, range(THREADS)))


if __name__ == "__main__":
    ask_for_ever(Path(sys.argv[1]), int(sys.argv[2]))
