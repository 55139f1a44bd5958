"""One call of gRPC, from the door to its end: what it was, how it ended, and where its time went.

    with call("Match"):
        ...about("verify"); refused("overloaded")     # wherever in the call it is known
        watch = Stages(); ...; watch.lap("meet")

Calls have contexts of their own, so what is said here is about the call that is being served. Outside of one, in tests
and tools, it is about nothing, and stages are timed all the same.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from veilmatch.crypto.requests import OPERATIONS
from veilmatch.server.ground.request_id import current_request
from veilmatch.server.monitoring import meters

#: Methods that serve one request of a device: at matchers, and at key holders.
OF_REQUESTS = frozenset(("Match", "Mutate", "BulkEnrol", "Subjects", "Rotate", "Serve"))
#: Asked every few seconds by everybody.
_UNCOUNTED = frozenset(("Check", "Watch", "List"))
_OK, _ABANDONED, _INTERNAL = "ok", "abandoned", "internal"


@dataclass(slots=True)
class Call:
    """One call. began, stages: by `time.time_ns`; a stage is its name, beginning and end."""

    method: str
    began: int
    operation: str = meters.UNKNOWN
    code: str = _OK
    #: The id of the request that it was about, once it has ended.
    request: str | None = None
    ended: int = 0
    stages: list[tuple[str, int, int]] = field(default_factory=list)


_current: ContextVar[Call | None] = ContextVar("veilmatch_call", default=None)
#: What is told of each call that has ended, for traces; nothing unless they are on.
listeners: list[Callable[[Call], None]] = []


@contextmanager
def call(method: str) -> Iterator[None]:
    """Count and time a call of this method in the body."""
    if method in _UNCOUNTED:
        yield
        return
    this = Call(method, time.time_ns())
    token = _current.set(this)
    started = time.perf_counter()
    meters.IN_PROGRESS.labels(method).inc()
    try:
        yield
    except (asyncio.CancelledError, GeneratorExit):
        this.code = _ABANDONED if this.code == _OK else this.code
        raise
    except Exception:
        this.code = _INTERNAL if this.code == _OK else this.code
        raise
    finally:
        _current.reset(token)
        meters.IN_PROGRESS.labels(method).dec()
        _count(this, time.perf_counter() - started)


def about(operation: str) -> None:
    """Say what the call asks for; what is no operation, as anybody may send it, says nothing."""
    this = _current.get()
    if this is not None and operation in OPERATIONS:
        this.operation = operation


def refused(code: str) -> None:
    """Say with which error the call ends."""
    this = _current.get()
    if this is not None:
        this.code = code


def session_refused(method: str, code: str) -> None:
    """Count a session of a link that was refused before anybody took part in it: the call is the link's."""
    meters.CALLS.labels(method, code).inc()
    if method in OF_REQUESTS:
        meters.REQUESTS.labels(meters.UNKNOWN, code).inc()


class Stages:
    """A stopwatch for the stages of one request, one after the other."""

    def __init__(self) -> None:
        self._since = time.time_ns()

    def lap(self, stage: str, at_ns: int | None = None) -> None:
        """End this stage; the next one begins. at_ns: when that was, by `time.time_ns`; None: now."""
        now = time.time_ns() if at_ns is None else at_ns
        _passed(stage, self._since, now)
        self._since = now


def stages(**seconds: float) -> None:
    """Note stages that were timed elsewhere, the last of which ends now."""
    now = time.time_ns()
    begins = now - sum(round(1e9 * lasted) for lasted in seconds.values())
    for stage, lasted in seconds.items():
        ends = begins + round(1e9 * lasted)
        if lasted:
            _passed(stage, begins, ends)
        begins = ends


def _passed(stage: str, began: int, ended: int) -> None:
    meters.STAGE_SECONDS.labels(stage).observe(max(0, ended - began) / 1e9)
    this = _current.get()
    if this is not None and listeners:
        this.stages.append((stage, began, ended))


def _count(this: Call, seconds: float) -> None:
    meters.CALLS.labels(this.method, this.code).inc()
    if this.method in OF_REQUESTS:
        meters.REQUESTS.labels(this.operation, this.code).inc()
        if this.code == _OK:
            meters.REQUEST_SECONDS.labels(this.operation).observe(seconds)
    if listeners:
        this.request, this.ended = current_request(), time.time_ns()
        for listener in listeners:
            listener(this)
