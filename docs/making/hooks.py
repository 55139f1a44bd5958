"""What mkdocs does beside what it does by itself: links to files of the repository lead to where they are published.

Pages name files of the code by paths, which a forge follows. The site has the pages alone.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
_LINK = re.compile(r"\]\(((?:\.\./)+[^)#\s]+)(#[^)\s]*)?\)")


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """Return the text of a page with its links out of docs/ changed. Raises FileNotFoundError for one to nothing."""
    here = posixpath.dirname(page.file.src_uri)

    def outside(link: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join("docs", here, link[1]))
        if path.startswith("docs/"):
            return link[0]
        target = ROOT / path
        if not target.exists():
            raise FileNotFoundError(f"{page.file.src_uri}: {link[1]}")
        kind = "tree" if target.is_dir() else "blob"
        return f"]({config.repo_url.rstrip('/')}/{kind}/main/{path}{link[2] or ''})"

    return _LINK.sub(outside, markdown)
