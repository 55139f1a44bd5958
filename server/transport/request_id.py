"""The id of the request that is being served: in every log line about it, and in every error of it.

The first 16 hex digits of the request's digest (crypto/requests.py): the device and every server compute the same, so
that one request can be followed through the logs of all organisations, and into the audit log, which has it whole.
"""

from __future__ import annotations

from contextvars import ContextVar

import structlog

#: Hex digits.
ID_DIGITS = 16

_current: ContextVar[str | None] = ContextVar("veilmatch_request", default=None)


def about_request(digest: bytes, device: str | None = None) -> None:
    """Say which request the rest of this call is about. digest: of the request. device: that made it, if known."""
    request = digest.hex()[:ID_DIGITS]
    _current.set(request)
    structlog.contextvars.bind_contextvars(request=request)
    if device is not None:
        structlog.contextvars.bind_contextvars(device=device)


def current_request() -> str | None:
    """Return the id of the request that this call is about, if it is about one."""
    return _current.get()
