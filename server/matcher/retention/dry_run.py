"""What is due at one matcher, beside its daemon: `veilmatch gallery retention`."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from veilmatch.server.config import MatcherSettings
from veilmatch.server.matcher.gallery.disk.database import open_beside
from veilmatch.server.matcher.gallery.disk.reading import template_details
from veilmatch.server.matcher.gallery.disk.rows import find_gallery
from veilmatch.server.matcher.gallery.disk.schema import REVISIONS
from veilmatch.server.matcher.retention.rules import Due, due


@dataclass(frozen=True)
class DueHere:
    """What is due in one gallery. subjects: whose templates, each once, sorted; for no log."""

    gallery: str
    has_rules: bool
    templates: int
    due: Due
    subjects: tuple[str, ...] = field(repr=False)

    def document(self, *, names: bool) -> dict[str, Any]:
        """Return what `--json` shows."""
        shown: dict[str, Any] = {"gallery": self.gallery, "keeps_everything": not self.has_rules}
        shown |= {"templates": self.templates, "due": self.due.counts(), "undated": self.due.undated}
        return shown | ({"subjects": list(self.subjects)} if names else {})


def due_here(settings: MatcherSettings, now_s: float | None = None) -> list[DueHere]:
    """Return what is due in every gallery of a matcher, whose daemon may run.

    Raises StorageError, IntegrityError or UnknownGalleryError if the database is not there, is not as this version has
    it, or lacks a gallery.
    """
    now_s, found = time.time() if now_s is None else now_s, []
    database = open_beside(settings.galleries_in)
    try:
        with database.reading() as connection:
            REVISIONS.require_head(connection, database.name)
            for name in settings.galleries:
                rules = settings.retention.get(name)
                details = list(template_details(connection, find_gallery(connection, name)))
                one = due(details, rules, now_s)
                subjects = sorted({at.subject for at in details if (at.pack, at.slot) in one.places})
                found.append(DueHere(name, rules is not None, len(details), one, tuple(subjects)))
    finally:
        database.close()
    return found
