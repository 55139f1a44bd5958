"""Hellos at the called end: both say theirs before anything is read, and go on if these go together."""

from __future__ import annotations

from contextlib import suppress
from contextvars import ContextVar

import grpc

from veilmatch.common.speaking import hello_in, our_hello, our_metadata
from veilmatch.crypto.claims import KEY_HOLDERS, MATCHERS
from veilmatch.crypto.versions import UNSAID, Hello, require_common
from veilmatch.server.monitoring import meters
from veilmatch.server.transport.channels import Context

_SERVERS = frozenset((*KEY_HOLDERS, *MATCHERS))
#: What the caller speaks of the call that is being served.
spoken: ContextVar[Hello] = ContextVar("veilmatch_spoken", default=UNSAID)
#: What this end has said of the call, as metadata. An error ends with it again: gRPC may give the caller the end of a
#: call before its beginning, and then takes the beginning for empty.
said: ContextVar[tuple[tuple[str, str], ...]] = ContextVar("veilmatch_said", default=())


async def say_hello(context: Context) -> None:
    """Say what is spoken here, at once: a link has no answer to wait for, and whoever is refused is told it, too."""
    said.set(our_metadata())
    with suppress(grpc.aio.InternalError):  # the caller has left, which all that follows will find
        await context.send_initial_metadata(our_metadata())


def hear_hello(server: str, caller: str, context: Context) -> None:
    """Look at what the caller speaks. server: the name of this end. caller: of the other one.

    Raises VersionError if there is no version that both speak, ProtocolError if what the caller says is no hello.
    """
    version = "none"
    try:
        theirs = hello_in(context.invocation_metadata())
        spoken.set(theirs)
        version = str(require_common(server, our_hello(), caller[:60], theirs))
    finally:
        if caller not in _SERVERS:
            meters.device_called(version)
