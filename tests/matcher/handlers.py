"""Factories that worker processes import; see test_workers."""

from __future__ import annotations

import json
import os
import pickle
import signal
import time
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

from veilmatch.crypto.errors import (
    ConfigurationError,
    GalleryMismatchError,
    UnavailableError,
    VeilmatchError,
)
from veilmatch.server.workers.pool import Handler

ERRORS: dict[bytes, VeilmatchError] = {
    b"mismatch": GalleryMismatchError("not the same", got="sequence 3", expected="sequence 4"),
    b"unavailable": UnavailableError("no one", party="C", needed=2, available=1, alternatives=("AB", "AC")),
    b"plain": VeilmatchError("something"),
}


def make_handler(prefix: str = "") -> Handler:
    """Requests are JSON lists: a command and its argument."""
    count = 0

    def handle(request: bytes) -> bytes:
        nonlocal count
        count += 1
        command, argument = json.loads(request)
        match command:
            case "count":
                return f"{prefix}{argument}:{count}".encode()
            case "sleep":
                time.sleep(argument)
                return b"slept"
            case "meet":
                here, go_on = map(Path, argument)
                here.touch()
                while not go_on.exists():
                    time.sleep(0.01)
                return b"met"
            case "pid":
                return str(os.getpid()).encode()
            case "raise":
                raise ERRORS[argument.encode()]
            case "fail":
                raise RuntimeError(f"the secret is {argument}")
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "threads":
                return json.dumps({k: v for k, v in os.environ.items() if k.endswith("_NUM_THREADS")}).encode()
        raise AssertionError(command)

    return handle


def request(command: str, argument: Any = None) -> bytes:
    return json.dumps([command, argument]).encode()


def make_echo() -> Handler:
    return lambda request: request[::-1]


def forbid_pickle() -> None:
    """Let every way into or out of pickle that multiprocessing has fail from now on in this process."""

    def refuse(*_args: object, **_kwargs: object) -> Any:
        raise AssertionError("something was pickled")

    ForkingPickler.dumps = refuse  # type: ignore[method-assign]
    ForkingPickler.loads = refuse
    pickle.dumps = pickle.loads = pickle.dump = pickle.load = refuse


def make_echo_without_pickle() -> Handler:
    forbid_pickle()
    return make_echo()


def make_nothing(kind: str) -> Handler:
    """A factory that fails."""
    match kind:
        case "typed":
            raise ConfigurationError("no such backend", got="abacus", expected="gmpy2")
        case "untyped":
            raise RuntimeError("the secret is 42")
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)
    raise AssertionError
