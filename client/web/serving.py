"""Running the page: a listener on this machine's own address, and the address to open."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Callable

import uvicorn
from starlette.applications import Starlette

from veilmatch.crypto.errors import ConfigurationError

#: 127.0.0.1 and nothing else: nobody on the network gets as far as the token.
HOST = "127.0.0.1"
#: Between the word to pages that this server ends and the end: whoever listens at this port next is not to be asked.
_FAREWELL_S = 0.3


def new_token() -> str:
    """Return a token of 192 bits for one run of the page."""
    return secrets.token_urlsafe(24)


def listen(port: int) -> socket.socket:
    """Return a listening socket. port: 0 for any that is free. Raises ConfigurationError if it is taken."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
    except OSError as error:
        listener.close()
        raise ConfigurationError(
            "the page cannot be served there",
            got=f"{HOST}:{port}: {error.strerror}",
            expected="--port with one that is free, or 0",
        ) from None
    return listener


def serve(app: Starlette, listener: socket.socket, ready: Callable[[], None]) -> None:
    """Serve until Ctrl-C or SIGTERM. ready: called once the page can be opened. Nothing is logged of what is asked."""
    config = uvicorn.Config(
        app,
        log_level="critical",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=5,
        limit_concurrency=32,
        ws="none",
    )
    server = _Announced(config, ready, app.state.ending)
    server.run(sockets=[listener])


class _Announced(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready: Callable[[], None], ending: asyncio.Event) -> None:
        super().__init__(config)
        self._ready, self._ending = ready, ending

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._ending.set()
        await asyncio.sleep(_FAREWELL_S)
        await super().shutdown(sockets)
