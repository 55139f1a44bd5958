"""The listener for metrics and probes: HTTP on an address of its own, in threads of its own.

Whoever asks must not hurt those who are served, whatever he does: there are a few threads (THREADS), a connection has a
few seconds in all (WHOLE_S), one that finds no thread free is closed, and no more than PER_S of them are accepted in a
second: the rest waits in the kernel. Metrics are made once a second at most. So a flood costs a few per cent of one
core, and keeps others from scraping, but nobody from being served.
"""

from __future__ import annotations

import hmac
import socket
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, NamedTuple

from veilmatch.common.secret_file import read_private
from veilmatch.crypto.errors import ConfigurationError
from veilmatch.server.monitoring.handshake import Handshake
from veilmatch.server.monitoring.settings import MetricsSettings

#: Connections that are served at once; how long one may take, and may be silent; how many are accepted in a second.
THREADS, WHOLE_S, SILENT_S, PER_S = 4, 10.0, 5.0, 20
#: How old metrics may be.
FRESH_S = 1.0
#: A token is not guessed.
MIN_TOKEN_CHARACTERS = 16
_TEXT = "text/plain; charset=utf-8"


class Page(NamedTuple):
    """An answer."""

    status: int
    body: bytes
    kind: str = _TEXT


class Listener:
    """Serves pages by their paths. Those in `open_pages` need no token.

    Raises ConfigurationError if the address cannot be listened at, or a file is not what it should be.
    """

    def __init__(
        self,
        settings: MetricsSettings,
        pages: Mapping[str, Callable[[], Page]],
        open_pages: Mapping[str, Callable[[], Page]],
    ) -> None:
        self._server = _Server(settings, pages, open_pages)
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        host, port = self._server.server_address[:2]
        return str(host), int(port)

    def __enter__(self) -> Listener:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def kept(make: Callable[[], Page], for_s: float = FRESH_S) -> Callable[[], Page]:
    """Return a page that is made at most once in so many seconds, by one thread at a time."""
    making, last = threading.Lock(), list[tuple[float, Page]]()

    def page() -> Page:
        with making:
            if not last or time.monotonic() - last[0][0] >= for_s:
                made = make()
                last[:] = [(time.monotonic(), made)]
            return last[0][1]

    return page


class _Server(HTTPServer):
    """A few threads, and nothing that lasts; see the module."""

    request_queue_size = 16
    allow_reuse_address = True

    def __init__(
        self,
        settings: MetricsSettings,
        pages: Mapping[str, Callable[[], Page]],
        open_pages: Mapping[str, Callable[[], Page]],
    ) -> None:
        self.pages, self.open_pages = pages, open_pages
        self.token = _token(settings)
        self._tls = None if settings.tls is None else Handshake(settings.tls, settings.clients)
        self._free = threading.BoundedSemaphore(THREADS)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="metrics")
        #: Connections that are served, and when they have to be over.
        self._until: dict[socket.socket, float] = {}
        self._accepted: list[float] = []
        self.address_family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        try:
            super().__init__((settings.host, settings.port), _Handler)
        except OSError as error:
            raise ConfigurationError(
                "cannot listen for metrics",
                got=f"{settings.listen}: {error.strerror}",
                expected="a free address of this machine in [metrics]",
            ) from None

    def server_bind(self) -> None:
        """Bind, and ask no name service what this machine is called, as the base class does."""
        super(HTTPServer, self).server_bind()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        """Hand a connection to a thread, if one is free."""
        self._pace()
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        self._until[request] = time.monotonic() + WHOLE_S
        self._threads.submit(self._serve, request, client_address)

    def service_actions(self) -> None:
        """End connections that take too long; called twice a second."""
        now = time.monotonic()
        for connection, until in list(self._until.items()):
            if now > until:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def server_close(self) -> None:
        """Close the address, and end what goes on."""
        super().server_close()
        for connection in list(self._until):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._threads.shutdown()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: whoever is at the other end could fill the log."""

    def _pace(self) -> None:
        now = time.monotonic()
        self._accepted = [at for at in self._accepted if now - at < 1.0]
        if len(self._accepted) >= PER_S:
            time.sleep(1.0 / PER_S)
        self._accepted.append(now)

    def _serve(self, connection: socket.socket, address: Any) -> None:
        at: socket.socket = connection
        try:
            connection.settimeout(SILENT_S)
            if self._tls is not None:
                at = over = self._tls.wrap(connection)
                self._until[at] = self._until.pop(connection)
                over.do_handshake()
                if not self._tls.serves(over):
                    return
            self.finish_request(at, address)
        except (OSError, ValueError):
            pass
        finally:
            self._until.pop(at, None)
            self._until.pop(connection, None)
            self.shutdown_request(at)
            self._free.release()


class _Handler(BaseHTTPRequestHandler):
    """One request, and the connection is over."""

    timeout = SILENT_S
    server: _Server
    server_version, sys_version = "veilmatch", ""

    def do_GET(self) -> None:  # a name of the base class
        """Answer with a page."""
        path = self.path.partition("?")[0]
        if (page := self.server.open_pages.get(path)) is not None:
            self._answer(page())
        elif (page := self.server.pages.get(path)) is None:
            self._answer(Page(404, b"/metrics, /livez, /readyz\n"))
        elif not self._has_token():
            self._answer(Page(401, b"a bearer token is needed\n"))
        else:
            self._answer(page())

    def log_message(self, format: str, *args: object) -> None:  # of the base class
        """Say nothing: whoever is at the other end could fill the log."""

    def _has_token(self) -> bool:
        shown = self.headers.get("Authorization", "").encode()
        return self.server.token is None or hmac.compare_digest(shown, b"Bearer " + self.server.token)

    def _answer(self, page: Page) -> None:
        self.send_response(page.status)
        self.send_header("Content-Type", page.kind)
        self.send_header("Content-Length", str(len(page.body)))
        if page.status == 401:
            self.send_header("WWW-Authenticate", "Bearer")
        self.end_headers()
        self.wfile.write(page.body)


def _token(settings: MetricsSettings) -> bytes | None:
    if settings.token_file is None:
        return None
    try:
        token = read_private(settings.token_file, "the token for metrics").strip()
    except OSError as error:
        raise ConfigurationError(
            "the token for metrics cannot be read", got=f"{settings.token_file}: {error.strerror}", expected="a file"
        ) from None
    if len(token) < MIN_TOKEN_CHARACTERS or len(token.split()) != 1 or not token.isascii():
        raise ConfigurationError(
            "no token for metrics",
            got=f"{settings.token_file}: {len(token)} bytes",
            expected=f"one word of at least {MIN_TOKEN_CHARACTERS} characters: `openssl rand -hex 32` makes one",
        )
    return token
