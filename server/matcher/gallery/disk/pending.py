"""What a gallery will be once changes that are written are committed: read before that, so that the switch is short.

Of a few changes only what they touch is read: that takes as long in a gallery of a million as in one of a hundred.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, func, select

from veilmatch.crypto.keys.parties import Party
from veilmatch.server.matcher.agreement.certificates import Certificate
from veilmatch.server.matcher.gallery.disk import evidence
from veilmatch.server.matcher.gallery.disk.rows import (
    Place,
    model_of,
    results_after,
    retired_slots,
    subjects_at,
    visible,
)
from veilmatch.server.matcher.gallery.disk.schema import packs, templates


@dataclass(frozen=True)
class Pending:
    """templates: (pack, slot, subject) of the whole gallery, ascending, with its retired (pack, slot); None if it is
    only touched at a few places: then subjects has those of them that hold a template, and whether the gallery is
    closed the changes say. Others: see Gallery."""

    pack_count: int
    templates: list[tuple[int, int, str]] | None
    subjects: dict[Place, str]
    retired: list[tuple[int, int]]
    model: str | None
    is_closed: bool
    votes: dict[Party, Certificate]


def pending(connection: Connection, gallery: Row[Any], touched: Collection[Place] | None = None) -> Pending:
    """Read it in the transaction that has written it.

    gallery: its row, as it was written. touched: the places that the changes touch, None to read everything.
    """
    t = templates.c
    query = select(t.pack, t.slot, t.subject).where(visible(templates, gallery)).order_by(t.pack, t.slot)
    everything = touched is None
    return Pending(
        connection.scalar(select(func.count()).select_from(packs).where(visible(packs, gallery))) or 0,
        [(row.pack, row.slot, row.subject) for row in connection.execute(query)] if everything else None,
        {} if touched is None else subjects_at(connection, gallery, touched),
        retired_slots(connection, gallery) if everything else [],
        model_of(connection, gallery),
        everything and bool(results_after(connection, gallery, "closed", 0)),
        evidence.last_votes(connection, gallery),
    )
