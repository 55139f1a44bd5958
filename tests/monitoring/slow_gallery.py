"""Inside matcher a: its gallery takes long to load, until a file is there. For tests/hooks.py."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from tests.hooks import party

#: The file.
LOADED_VARIABLE = "TEST_GALLERY_LOADED"


def install() -> None:
    """Make the matcher of this process slow."""
    if party() != "matcher-a":
        return
    from veilmatch.server.matcher.gallery.gallery import Gallery

    load, loaded = Gallery.load, Path(os.environ[LOADED_VARIABLE])

    async def slowly(self: Gallery) -> None:
        while not loaded.exists():
            await asyncio.sleep(0.05)
        await load(self)

    Gallery.load = slowly  # type: ignore[method-assign]
