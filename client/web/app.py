"""The page and its calls as one ASGI application."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from veilmatch.client.async_client import AsyncClient
from veilmatch.client.capture.image import MAX_IMAGE_BYTES
from veilmatch.client.config import DeviceSettings
from veilmatch.client.demo.witness import Witness
from veilmatch.client.operations.device import Capture
from veilmatch.client.web.actions import Actions
from veilmatch.client.web.guard import guards

_PAGE = Path(__file__).parent / "page"
_TEMPLATES = Environment(loader=FileSystemLoader(_PAGE), autoescape=True, undefined=StrictUndefined)


def build_app(
    settings: DeviceSettings, capture: Capture, look: Callable[[bytes], dict[str, Any]], token: str, port: int
) -> Starlette:
    """Return the application for one device, which serves at this port of 127.0.0.1.

    look: see Actions. token: see guard.py. Connections are made with the first call and closed at the end.
    `state.ending` of the answer, an asyncio.Event, is for whoever serves it: to be set before nobody listens any more.
    """
    ending = asyncio.Event()
    routes: list[Route | Mount] = []

    @asynccontextmanager
    async def opened(app: Starlette) -> AsyncIterator[None]:
        witness = Witness(settings)
        async with AsyncClient(settings, matchers=witness.matchers, capture=capture) as client:
            app.router.routes.extend(Actions(settings, client, witness, look, ending).routes())
            yield

    async def page(_request: Request) -> Response:
        return HTMLResponse(_TEMPLATES.get_template("index.html").render(tasks=_TASKS, most=MAX_IMAGE_BYTES))

    routes = [Route("/", page), Mount("/page", StaticFiles(directory=_PAGE))]
    made = Starlette(routes=routes, middleware=guards(token, port), lifespan=opened)
    made.state.ending = ending
    return made


#: What a person may want, each a tab: its name here, in words, what its button says, and whether a name belongs to it.
_TASKS = (
    ("verify", "Is it this person?", "Verify", True),
    ("candidates", "Who is it?", "Search", False),
    ("known", "Is it anybody?", "Ask", False),
    ("enrol", "Enrol a person", "Enrol", True),
)
