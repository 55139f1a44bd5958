"""Databases of earlier versions are brought to the tables of this one, once, when they are opened.

Version 3 kept what a device had encrypted as the record of its enrolment. Such records stay as they are and are marked
`by_device`: wherever they are converted they are gated, and an erased one's slot is given up. A rotation replaces them.
"""

from __future__ import annotations

import structlog
from sqlalchemy import Connection

from veilmatch.server.matcher.gallery.schema import SCHEMA_VERSION

_FROM_3 = (
    "ALTER TABLE log ADD COLUMN device TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE log ADD COLUMN valid_share BLOB NOT NULL DEFAULT x''",
    "ALTER TABLE templates ADD COLUMN by_device BOOLEAN NOT NULL DEFAULT 1",
    # What a rotation added was made by the matchers then, too.
    "UPDATE templates SET by_device = 0 WHERE EXISTS (SELECT 1 FROM log WHERE log.gallery_id = templates.gallery_id"
    " AND log.sequence = templates.added_in AND log.kind = 'rotate')",
)


_log = structlog.get_logger(__name__)


def upgrade(connection: Connection) -> None:
    """Bring the tables of a gallery database to this version, in the transaction of `connection`; others stay."""
    if connection.exec_driver_sql("PRAGMA user_version").scalar() == 3:
        for statement in _FROM_3:
            connection.exec_driver_sql(statement)
        connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA_VERSION}")
        _log.warning("gallery upgraded", version=SCHEMA_VERSION)
