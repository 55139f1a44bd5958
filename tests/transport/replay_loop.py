"""Registers one nonce, says so and waits to be killed; see test_replay.

python -m tests.transport.replay_loop <data folder> <nonce in hex> <expiry in ms>
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from veilmatch.server.admission.ledger import Entry, Ledger

if __name__ == "__main__":
    ledger = Ledger(Path(sys.argv[1]), [], "matcher-a")
    ledger.enter(Entry(bytes.fromhex(sys.argv[2]), int(sys.argv[3]))).result()
    os.write(1, b"registered\n")
    signal.pause()
