"""Databases of earlier versions are not changed where they lie: their changes have no certificates.

Up to version 4 two matchers held a gallery, and no organisation signed. `veilmatch move` copies such a gallery into a
database of this version, whose history begins with one change of kind "moved", certified by two organisations.
"""

from __future__ import annotations

from sqlalchemy import Connection

from veilmatch.crypto.errors import IntegrityError
from veilmatch.server.matcher.gallery.disk.schema import SCHEMA_VERSION

#: The last version whose changes have no certificates.
UNCERTIFIED_VERSION = 4


def require_certified(connection: Connection) -> None:
    """Raise IntegrityError if the database is of a version without certificates."""
    version = connection.exec_driver_sql("PRAGMA user_version").scalar()
    if isinstance(version, int) and version <= UNCERTIFIED_VERSION:
        raise IntegrityError(
            "the gallery database is of a version whose changes have no certificates",
            got=version,
            expected=f"version {SCHEMA_VERSION}, which `veilmatch move` makes of it",
        )
