"""Registers one nonce, says so and waits to be killed; see test_replay.

python -m tests.transport.replay_loop <data folder> <nonce in hex> <expiry in ms>
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from veilmatch.server.transport.replay import ReplayLog

if __name__ == "__main__":
    log = ReplayLog(Path(sys.argv[1]))
    log.register(bytes.fromhex(sys.argv[2]), int(sys.argv[3]))
    os.write(1, b"registered\n")
    signal.pause()
