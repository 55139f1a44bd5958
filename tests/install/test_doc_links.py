"""Links between the pages of the documentation lead somewhere, down to the heading."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted({*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("deploy/**/*.md")})
LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """Those that a forge makes of the headings of a page."""
    seen: Counter[str] = Counter()
    found = set()
    for part in page.read_text().split("```")[::2]:
        for heading in re.findall(r"^#+ (.*)$", part, re.MULTILINE):
            words = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading.strip().lower())
            name = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
            found.add(f"{name}-{seen[name]}" if seen[name] else name)
            seen[name] += 1
    return found


def test_links_between_pages_lead_somewhere() -> None:
    known = {page: anchors(page) for page in PAGES}
    assert len(known) > 20
    dead = []
    for page in PAGES:
        for target in LINK.findall(page.read_text()):
            path, _, anchor = target.partition("#")
            there = (page.parent / path).resolve() if path else page
            if re.match(r"[a-z]+:", target):
                continue
            if not there.exists() or (anchor and there in known and anchor not in known[there]):
                dead.append(f"{page.relative_to(ROOT)}: {target}")
    assert not dead
