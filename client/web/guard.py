"""Who is let in: this machine, a page of this server, and whoever has the address that was printed.

The token stands behind `#` in the address. A browser sends that part to nobody, so that it is in no log and no
referrer; the page keeps it in its own storage, which pages of other ports do not share as they would a cookie, and
sends it in a header that no page of elsewhere can send without asking. What is served without the token, the page
itself, says nothing about this device.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Names of this machine that lead here. Another one, whatever it resolves to, is a page of elsewhere that asks.
HOSTS = ("127.0.0.1", "localhost")
#: Everything below needs the token.
API = "/api/"

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}


def guards(token: str, port: int) -> list[Middleware]:
    """Return what stands before every page and every call. token: at least 128 bits, ASCII."""
    return [
        Middleware(_WithHeaders),
        Middleware(TrustedHostMiddleware, allowed_hosts=list(HOSTS), www_redirect=False),
        Middleware(_OwnPages, origins=[f"http://{host}:{port}" for host in HOSTS]),
        Middleware(_Token, token=token),
    ]


class _WithHeaders:
    """Every answer, a refusal as well, says what a browser may do with it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await self._app(scope, receive, with_headers)


class _OwnPages:
    """A browser says which page asks, when another than this server's may be: that one is refused."""

    def __init__(self, app: ASGIApp, origins: Iterable[str]) -> None:
        self._app, self._origins = app, frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            origin, site = headers.get("origin"), headers.get("sec-fetch-site")
            foreign = origin is not None and origin not in self._origins
            asked_elsewhere = scope["path"].startswith(API) and site not in (None, "same-origin")
            if foreign or asked_elsewhere:
                await _refused(403, "this page is not one of this device")(scope, receive, send)
                return
        await self._app(scope, receive, send)


class _Token:
    """Calls have the token, compared in constant time."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app, self._wanted = app, f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(API):
            given = Headers(scope=scope).get("authorization", "").encode("latin-1", "replace")
            if not hmac.compare_digest(given, self._wanted):
                await _refused(401, "the address of this page is not the one that `veilmatch web` printed")(
                    scope, receive, send
                )
                return
        await self._app(scope, receive, send)


def _refused(status: int, message: str) -> JSONResponse:
    hint = "Open the address that `veilmatch web` prints, all of it."
    return JSONResponse({"error": {"code": "not_let_in", "message": message, "hint": hint}}, status_code=status)
