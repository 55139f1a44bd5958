"""The outermost frame of the command line: whatever happens inside, the exit status means what is documented.

Imports the standard library alone, so that it stands before anything that can be missing. Python itself ends with 1
after an exception and with 120 if it cannot flush at the end, and 1 means "no match" here.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import NoReturn

from veilmatch.crypto.errors import MissingExtraError, OutputError, VeilmatchError

INTERRUPTED = 128 + signal.SIGINT
TERMINATED = 128 + signal.SIGTERM
#: Set for a process that has to end with the one that started it, however that ends. Its standard input is a pipe into
#: which the other one never writes.
LIFELINE_VARIABLE = "VEILMATCH_LIFELINE"


def run(command: Callable[[], object]) -> NoReturn:
    """Run a command and end this process with its exit status: that of its SystemExit, 0 without one.

    Ctrl-C is 130 and SIGTERM 143, at any moment; both let the command clean up. A module that is not installed is 3,
    output that cannot be written 11, any other exception 10. Where SIGINT has the system's own handler, it gets
    Python's (`veilmatch.client.commands.main` says why it had none).
    """
    signal.signal(signal.SIGTERM, _terminate)
    try:
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        _occupy_descriptors()
        if os.environ.pop(LIFELINE_VARIABLE, None):
            threading.Thread(target=_end_with_parent, name="lifeline", daemon=True).start()
        status = _status(command)
    except KeyboardInterrupt:
        status = INTERRUPTED
    except SystemExit:
        status = TERMINATED
    # From here on the outcome stands: a signal ends the process at once.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    sys.exit(_flushed(status))


def interrupted(error: BaseException) -> bool:
    """Return whether an exception stands for a Ctrl-C: it is one, or came of one.

    Libraries, and Python 3.11 where a class is made, raise another exception from what they catch.
    """
    one: BaseException | None = error
    seen = set()
    while one is not None and id(one) not in seen:
        if isinstance(one, KeyboardInterrupt):
            return True
        seen.add(id(one))
        one = one.__cause__ or one.__context__
    return False


def _status(command: Callable[[], object]) -> int:
    try:
        command()
    except SystemExit as end:
        return _of_exit(end.code)
    except BaseException as error:  # also what is no Exception must not end with Python's status
        if interrupted(error):
            return INTERRUPTED
        if isinstance(error, ImportError):
            return _failed(
                MissingExtraError("a library that Veilmatch needs is not installed", got=f"no module {error.name}")
            )
        return _failed(VeilmatchError("this should not have happened", got=type(error).__name__))
    return 0


def _of_exit(code: object) -> int:
    if code is None:
        return 0
    if isinstance(code, int):
        return code
    return _failed(VeilmatchError(str(code)))  # Python would print it, and end with 1


def _failed(error: VeilmatchError) -> int:
    """Say what went wrong with the standard library alone; return the exit status."""
    with suppress(Exception):
        if "--json" in sys.argv and sys.stdout is not None:
            from veilmatch.common.hints import hint  # of the tree of errors alone

            document = error.fields() | {"exit_status": error.exit_status, "hint": hint(error)}
            sys.stdout.write(json.dumps({"error": document}) + "\n")
            sys.stdout.flush()
    with suppress(Exception):
        os.write(2, f"veilmatch: {error}\n".encode(errors="backslashreplace"))
    return error.exit_status


def _flushed(status: int) -> int:
    """Return the exit status once everything is written; what is left over then goes nowhere at shutdown."""
    for stream, number in ((sys.stdout, 1), (sys.stderr, 2)):
        try:
            if stream is not None and not stream.closed:
                stream.flush()
        except (OSError, ValueError):
            if number == 1 and status in (0, 1):
                status = OutputError.exit_status
            with suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), number)
    return status


def _occupy_descriptors() -> None:
    """Put /dev/null where a standard stream is closed: otherwise the next file that is opened becomes it."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDONLY if number == 0 else os.O_WRONLY)
            if null != number:
                os.dup2(null, number)
                os.close(null)


def _end_with_parent() -> None:
    """Wait for the end of standard input, and end this process as SIGTERM does."""
    with suppress(OSError):
        while os.read(0, 1 << 12):
            pass
    os.kill(os.getpid(), signal.SIGTERM)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(TERMINATED)
