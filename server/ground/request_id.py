"""The request that is being served: its id is in every log line about it, and in every error of it.

The first 16 hex digits of the request's digest (crypto/requests.py): the device and every server compute the same, so
that one request can be followed through the logs of all organisations, and into the audit log, which has it whole.

gRPC runs every call in a context of its own, and tasks and threads that a call starts inherit it: what is said here
holds for them as well, and for no other call. Work that outlives its call is started by `about_nothing`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, MutableMapping
from contextvars import Context, ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

#: Hex digits.
ID_DIGITS = 16

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class About:
    """A request. request: its id. device: that it says it is of, if that is known here."""

    request: str
    device: str | None = None


_current: ContextVar[About | None] = ContextVar("veilmatch_request", default=None)


def about_request(digest: bytes, device: str | None = None) -> None:
    """Say which request the rest of this call is about. digest: of the request. device: that made it, if known."""
    about(About(digest[: ID_DIGITS // 2].hex(), device))


def about(request: About | None) -> None:
    """Say the same of a request that is known from elsewhere; None says nothing."""
    if request is not None:
        _current.set(request)


def now_about() -> About | None:
    """Return what this call is about, if it is about a request."""
    return _current.get()


def current_request() -> str | None:
    """Return the id of the request that this call is about, if it is about one."""
    found = _current.get()
    return None if found is None else found.request


def about_nothing(work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
    """Start work that serves more than the request which happens to be served now, or outlives it."""
    return asyncio.get_running_loop().create_task(work, context=Context())


def add_request(_logger: Any, _method: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Give a log entry `request` and `device`, if it is about a request. A processor of structlog."""
    found = _current.get()
    if found is not None:
        entry.setdefault("request", found.request)
        if found.device is not None:
            entry.setdefault("device", found.device)
    return entry
