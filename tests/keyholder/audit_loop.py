"""Appends to an audit log for ever and prints every number once it is acknowledged; see test_audit_kill.

python -m tests.keyholder.audit_loop <data folder> <first number>
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

from veilmatch.server.ground.logs import configure_logging
from veilmatch.server.keyholder.audit.log import AuditLog

THREADS = 4


def append_for_ever(folder: Path, first: int) -> None:
    log = AuditLog(folder, "a", bytes(16), 1 << 14)

    def one(thread: int) -> None:
        for n in count(first + thread, THREADS):
            log.append({"event": "session", "n": n})
            # In one write: what is seen was acknowledged, whatever happens next.
            os.write(1, f"{n}\n".encode())

    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(one, range(THREADS)))


if __name__ == "__main__":
    configure_logging("keyholder-a")
    append_for_ever(Path(sys.argv[1]), int(sys.argv[2]))
