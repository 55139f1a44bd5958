"""How the browser of this user is led to the page: by a file that nobody else reads.

What a program is started with, every user of a machine can see while it runs. So a browser is not started with the
address, whose token it would show, but with a file of this user alone that leads there.
"""

from __future__ import annotations

import html
import tempfile
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_NAME = "veilmatch.html"
_FILE = """<!doctype html>
<meta charset="utf-8">
<meta name="referrer" content="no-referrer">
<meta http-equiv="refresh" content="0;url={address}">
<title>Veilmatch</title>
<p><a href="{address}">Veilmatch</a></p>
"""


class WayIn:
    """A folder of this user alone, for as long as the page is served. Use `way_in`."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / _NAME

    def open(self, address: str) -> bool:
        """Open an address in this user's browser; return whether there is one. The browser is told a file's name."""
        self._file.touch(mode=0o600)
        self._file.write_text(_FILE.format(address=html.escape(address)), encoding="utf-8")
        return webbrowser.open(self._file.as_uri())


@contextmanager
def way_in() -> Iterator[WayIn]:
    """Give a way in; its file is deleted at the end, when its address leads nowhere any more."""
    with _folder() as name:
        yield WayIn(Path(name))


def _folder() -> tempfile.TemporaryDirectory[str]:
    """Return a folder of mode 0700: in the home, where a browser in a box of its own (snap) can read it as well."""
    try:
        return tempfile.TemporaryDirectory(prefix="veilmatch-", dir=Path.home())
    except (OSError, RuntimeError):
        return tempfile.TemporaryDirectory(prefix="veilmatch-")
