"""`veilmatch web`: a page for a person at this device, served to this machine alone."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Annotated

import typer

from veilmatch.client import extras
from veilmatch.client.commands.base.options import DEFAULT_CONFIG, Config
from veilmatch.common.output import say, show


def register(app: typer.Typer) -> None:
    """Add the command to app."""
    app.command("web")(web)


def web(
    config: Config = DEFAULT_CONFIG,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes any that is free.")] = 0,
    open_it: Annotated[bool, typer.Option("--open", help="Open the page in the browser of this user.")] = False,
) -> None:
    """Enrol, verify and search with a camera or a file in a browser, and see what each party sees.

    The page is served at 127.0.0.1 to whoever has the address that is printed, which is another one at each start. A
    photo stays in memory. Ctrl-C ends it.
    """
    extras.require("web", "device")
    from veilmatch.client.capture.pipeline import CapturePipeline
    from veilmatch.client.config import DeviceSettings
    from veilmatch.client.web.app import build_app
    from veilmatch.client.web.look import Look
    from veilmatch.client.web.serving import HOST, listen, new_token, serve
    from veilmatch.client.web.way_in import way_in

    settings = DeviceSettings.load(config)
    capture = CapturePipeline.default(settings.capture)
    with listen(port) as listener, ExitStack() as stack:
        taken, token = listener.getsockname()[1], new_token()
        address = f"http://{HOST}:{taken}/#{token}"

        def ready() -> None:
            show(address, done="the page is served")
            say("Open this address on this machine. Ctrl-C ends the page.")
            if open_it:
                stack.enter_context(way_in()).open(address)

        serve(build_app(settings, capture, Look(capture), token, taken), listener, ready)
