"""Makes docs/errors.md of the tree of errors itself, or checks that it is up to date.

python docs/making/errors_page.py          writes it
python docs/making/errors_page.py --check  exits 1 if it differs
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from veilmatch.common.hints import hint
from veilmatch.crypto import errors as e

PAGE = Path(__file__).resolve().parents[1] / "errors.md"
#: What to do depends on what an error says: these say something usual.
_USUAL = {
    e.MissingExtraError: e.MissingExtraError("", expected="pip install 'veilmatch[device]'"),
    e.BudgetExceededError: e.BudgetExceededError("", retry_after_s=40.0),
    e.RefreshIntervalError: e.RefreshIntervalError("", retry_after_s=40.0),
    e.OverloadedError: e.OverloadedError("", retry_after_s=2.0),
    e.UnavailableError: e.UnavailableError("", party="matcher-b"),
}
_HEAD = """# Errors

Every error is a `VeilmatchError`. Catch the ones that you can do something about, and the ones above them for the rest:
`InvalidInputError` for whatever came from outside, `UnavailableError` for what may work later.
[troubleshooting.md](troubleshooting.md) begins with what you see instead.

| field | |
|---|---|
| `message` | a sentence; it never holds a photo, a vector, a score or a key |
| `got`, `expected` | what came, and what was expected |
| `party` | whom it is about: `matcher-b` |
| `retry_after_s` | seconds after which to ask again, if that helps |
| `request_id` | the request, as in the logs of all parties |
| `said_by` | who said so, if it came from a server |
| `hint`, `hint(error)` | what to do |
| `code`, `exit_status` | of the class: its name on the wire and in `--json`; the exit status of a command |

This page is made of the code (`python docs/making/errors_page.py`).
"""


def page() -> str:
    """Return the text of the page."""
    kinds = list(_walk(e.VeilmatchError, 0))
    tree = "\n".join(f"{'    ' * depth}- [`{kind.__name__}`](#{kind.__name__.lower()})" for kind, depth in kinds)
    return "\n".join([_HEAD, "## All of them", "", tree, "", *(_entry(kind) for kind, _ in kinds)]).rstrip() + "\n"


def _walk(kind: type[e.VeilmatchError], depth: int) -> Iterator[tuple[type[e.VeilmatchError], int]]:
    yield kind, depth
    for narrower in kind.__subclasses__():
        yield from _walk(narrower, depth + 1)


def _entry(kind: type[e.VeilmatchError]) -> str:
    (above,) = kind.__bases__
    is_a = f", under [`{above.__name__}`](#{above.__name__.lower()})" if above is not Exception else ""
    said = " ".join((kind.__doc__ or "").split("\n\n")[0].split())
    todo = hint(_USUAL.get(kind) or kind(""))
    parts = [f"### {kind.__name__}", f"`{kind.code}`, exit status {kind.exit_status}{is_a}", said]
    return "\n\n".join([*parts, f"**What to do.** {todo}"]) + "\n"


def main(check: bool) -> int:
    """Write or compare; return the exit status."""
    text = page()
    if PAGE.exists() and PAGE.read_text() == text:
        return 0
    if check:
        sys.stderr.write(f"out of date: {PAGE.name}\n")
        return 1
    PAGE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
