"""Opens a ledger beside earlier databases, says so, and waits to be killed, unless that comes sooner.

python -m tests.transport.carry_loop <data folder>; see test_earlier_ledger.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

# What is to be interrupted is carrying over, not an import that opening a database begins with.
import alembic.migration
import alembic.operations
import alembic.script  # noqa: F401

from veilmatch.server.admission.ledger import Ledger

if __name__ == "__main__":
    os.write(1, b"-1\n")
    Ledger(Path(sys.argv[1]), [], "keyholder-a")
    os.write(1, b"1\n")
    signal.pause()
