"""What C libraries write to standard error by themselves, as lines of the log: gRPC above all, when it is asked to.

gRPC is quiet unless GRPC_VERBOSITY says otherwise (common/native_logs.py). Then standard error of this process, and of
workers that it starts, is a pipe, and a thread makes a line of the log of each line in it. Lines of the log themselves
pass. What is written in the very moment of a crash may be lost: that is why nothing is redirected otherwise.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from io import TextIOWrapper

import structlog

from veilmatch.common.native_logs import is_grpc_quiet

#: Longest line that is kept, and most lines in a second: strangers can have gRPC write one for each connection.
_CHARACTERS, _A_SECOND = 500, 20
#: How a line of gRPC begins, and levels by its letter.
_BEGINS = re.compile(r"[IWEF]\d{4} ")
_LEVELS = {"I": "info", "W": "warning", "E": "error", "F": "error"}

_log = structlog.get_logger(__name__)


def take_native_lines() -> None:
    """Have native lines written as lines of the log, if there will be any. Call it before logging is set up."""
    if is_grpc_quiet() or sys.stderr is None:
        return
    sys.stderr.flush()
    own = os.dup(2)
    reading, writing = os.pipe()
    os.dup2(writing, 2)
    os.close(writing)
    # What Python writes goes where it went; the file stays open as long as the process.
    sys.stderr = TextIOWrapper(os.fdopen(own, "wb", buffering=0), encoding="utf-8", write_through=True)
    threading.Thread(target=_read, args=(reading, own), name="native lines", daemon=True).start()


def _read(reading: int, own: int) -> None:
    second, said, left_out = 0.0, 0, 0
    with os.fdopen(reading, "rb") as lines:
        for line in lines:
            if line.startswith(b"{"):  # a line of the log, of a worker
                os.write(own, line)
                continue
            now = time.monotonic()
            if now - second >= 1.0:
                second, said = now, 0
            said += 1
            if said > _A_SECOND:
                left_out += 1
                continue
            text = line.decode("utf-8", "replace").strip()
            more = {"left_out": left_out} if left_out else {}
            left_out = 0
            say = getattr(_log, _LEVELS[text[0]] if _BEGINS.match(text) else "info")
            say("native line", text="".join(c if c.isprintable() else "?" for c in text[:_CHARACTERS]), **more)
