"""Processes of the command line that need not import it: forked from one process that has.

Six daemons import the same libraries, a second of a core each, at every start of an installation. Here one process of
each process of tests imports them, and does nothing else: no thread, no channel, no secret. What it forks is a process
like any other: its own session, environment, standard streams and end. `python -m veilmatch` itself is started by the
tests in tests/install, tests/e2e/test_up.py and tests/moving, and by the demonstration.
"""

from __future__ import annotations

import array
import atexit
import functools
import gc
import importlib
import json
import os
import pkgutil
import selectors
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, NoReturn

ROOT = Path(__file__).parents[1]
#: Module whose `install` a process calls before anything else (see tests/hooks.py).
INSIDE_VARIABLE = "TESTS_INSIDE"
_MOST_BYTES = 1 << 17


class Forked:
    """A process that the nursery forked, as `subprocess.Popen` has it."""

    def __init__(self, pid: int, told: socket.socket, stdin: IO[bytes] | None) -> None:
        self.pid = pid
        self.stdin = stdin
        self.returncode: int | None = None
        self._told = told
        self._telling = threading.Lock()

    def poll(self) -> int | None:
        """Return the exit status, minus the signal's number if one ended it; None while it runs."""
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit status; raises subprocess.TimeoutExpired."""
        with self._telling:
            if self.returncode is None:
                self._told.settimeout(timeout)
                try:
                    word = self._told.recv(16)
                except (TimeoutError, BlockingIOError):
                    raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0) from None
                self._told.close()
                if not word:
                    raise RuntimeError("the nursery has ended")
                self.returncode = int(word)
            return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)


class Nursery:
    """The client's side: a process that imports, and forks when it is asked to.

    modules: that it imports besides. environment: more for that process.
    """

    def __init__(self, *modules: str, **environment: str) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.nursery", str(theirs.fileno()), *modules],
                cwd=ROOT, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()],
                env=os.environ | {"OPENBLAS_NUM_THREADS": "1"} | environment,
            )  # fmt: skip
        self._line = ours
        self._asking = threading.Lock()

    def fork(
        self, arguments: Sequence[str], environment: Mapping[str, str], stdout: IO[bytes], stderr: IO[bytes],
        *, stdin: int | None = subprocess.PIPE, program: str | None = None, folder: Path | None = None,
    ) -> Forked:  # fmt: skip
        """Start `veilmatch ARGUMENTS` in a session of its own. stdin: PIPE or DEVNULL.

        program: run instead, as `python -c PROGRAM ARGUMENTS` would, up to the end of the interpreter, which is
        Python's own. folder: in which it begins; that of this process without it.
        """
        reading, writing = os.pipe() if stdin == subprocess.PIPE else (os.open(os.devnull, os.O_RDONLY), None)
        told, telling = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        order = json.dumps({
            "arguments": list(arguments), "environment": dict(environment), "folder": str(folder or Path.cwd()),
            "program": program,
        })  # fmt: skip
        given = array.array("i", [reading, stdout.fileno(), stderr.fileno(), telling.fileno()])
        with self._asking:
            self._line.sendmsg([order.encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, given)])
            pid = int(self._line.recv(16))
        os.close(reading)
        telling.close()
        return Forked(pid, told, None if writing is None else os.fdopen(writing, "wb", buffering=0))

    def end(self) -> None:
        """End the nursery; what it forked goes on."""
        self._line.close()
        self._process.wait()


@functools.cache
def nursery() -> Nursery:
    """Return the nursery of this process."""
    made = Nursery()
    atexit.register(made.end)
    return made


# -- in the nursery ---------------------------------------------------------------------------


def _import_everything() -> None:
    import veilmatch.relying
    import veilmatch.server
    from veilmatch.client.commands.base.application import build_app

    build_app()
    for package in (veilmatch.server, veilmatch.relying):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)


def _serve(line: socket.socket) -> str | None:
    """Fork what is asked for, and tell how it ended, until the end of the line.

    Returns None then; and in a process that was forked for a program, that program.
    """
    children: dict[int, tuple[int, socket.socket]] = {}  # by pidfd
    with selectors.DefaultSelector() as selector:
        selector.register(line, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is not line:
                    number = key.fd
                    selector.unregister(number)
                    pid, telling = children.pop(number)
                    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                    os.close(number)
                    with telling, suppress(OSError):
                        telling.send(str(status).encode())
                    continue
                order, descriptors, _, _ = socket.recv_fds(line, _MOST_BYTES, 4)
                if not order:
                    return None
                *streams, telling_number = descriptors
                pid = os.fork()
                if pid == 0:
                    selector.close()
                    for number, (_, other) in children.items():
                        os.close(number)
                        other.close()
                    os.close(telling_number)
                    line.close()
                    given = json.loads(order)
                    if given["program"] is None:
                        _become(given, streams)
                    _take_over(given, streams)
                    sys.argv[:] = ["-c", *given["arguments"]]
                    return str(given["program"])
                for number in streams:
                    os.close(number)
                watched = os.pidfd_open(pid)
                children[watched] = pid, socket.socket(fileno=telling_number)
                selector.register(watched, selectors.EVENT_READ)
                line.send(str(pid).encode())


def _take_over(order: dict[str, Any], streams: Sequence[int]) -> None:
    """Have the session, the standard streams, the environment and the folder that were asked for."""
    os.setsid()
    for standard, number in enumerate(streams):
        os.dup2(number, standard)
        os.close(number)
    os.environ.clear()
    os.environ.update(order["environment"])
    os.chdir(order["folder"])


def _become(order: dict[str, Any], streams: Sequence[int]) -> NoReturn:
    """Be the command that was asked for."""
    status = 70
    try:
        _take_over(order, streams)
        sys.argv[:] = ["veilmatch", *order["arguments"]]
        sys.orig_argv[:] = [sys.executable, "-m", *sys.argv]
        if inside := os.environ.get(INSIDE_VARIABLE):
            importlib.import_module(inside).install()
        from veilmatch.client.commands import main

        main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
    finally:
        _finish(status)


def _finish(status: int) -> NoReturn:
    """End as an interpreter does, without going back into the nursery's own frames."""
    with suppress(BaseException):
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(BaseException):
            stream.flush()
    os._exit(status)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _import_everything()
    for name in sys.argv[2:]:
        importlib.import_module(name)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    gc.collect()
    gc.freeze()
    program = _serve(socket.socket(fileno=int(sys.argv[1])))
    if program is not None:
        exec(program, {"__name__": "__main__"})
