"""Disks that fail, without a disk: SQLite is told that its file may not grow, and says what it says of a full disk."""

from __future__ import annotations

from sqlalchemy import Engine, event


def full(engine: Engine) -> None:
    """From now on the database may not grow by a single page, on any connection."""

    def limit(connection: object, _record: object = None) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]  # type: ignore[attr-defined]
        connection.execute(f"PRAGMA max_page_count = {pages}")  # type: ignore[attr-defined]

    event.listen(engine, "connect", limit)
    engine.dispose()


def has_room(engine: Engine) -> None:
    """There is room on the disk again."""

    def lift(connection: object, _record: object = None) -> None:
        connection.execute("PRAGMA max_page_count = 1000000")  # type: ignore[attr-defined]

    event.listen(engine, "connect", lift)
    engine.dispose()
