"""What a gallery will be once changes that are written are committed: read before that, so that the switch is short."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, func, select

from veilmatch.crypto.keys.parties import Party
from veilmatch.server.matcher.agreement.certificates import Certificate
from veilmatch.server.matcher.gallery.disk import evidence
from veilmatch.server.matcher.gallery.disk.rows import model_of, results_after, retired_slots, visible
from veilmatch.server.matcher.gallery.disk.schema import packs, templates


@dataclass(frozen=True)
class Pending:
    """Of the whole gallery. templates: (pack, slot, subject), ascending. retired: (pack, slot). Others: see Gallery."""

    pack_count: int
    templates: list[tuple[int, int, str]]
    retired: list[tuple[int, int]]
    model: str | None
    is_closed: bool
    votes: dict[Party, Certificate]


def pending(connection: Connection, gallery: Row[Any]) -> Pending:
    """Read it in the transaction that has written it. gallery: its row, as it was written."""
    t = templates.c
    query = select(t.pack, t.slot, t.subject).where(visible(templates, gallery)).order_by(t.pack, t.slot)
    return Pending(
        connection.scalar(select(func.count()).select_from(packs).where(visible(packs, gallery))) or 0,
        [(row.pack, row.slot, row.subject) for row in connection.execute(query)],
        retired_slots(connection, gallery),
        model_of(connection, gallery),
        bool(results_after(connection, gallery, "closed", 0)),
        evidence.last_votes(connection, gallery),
    )
