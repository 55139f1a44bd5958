"""Many committed changes written at once, by an organisation that had no part in them.

Only what is there after the last of them is written: of what comes and goes within the batch, the log alone tells.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Row, and_, func, insert, select

from veilmatch.crypto.errors import IntegrityError
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.server.matcher.gallery.body import Added, Body
from veilmatch.server.matcher.gallery.changes import Content, Contents, found
from veilmatch.server.matcher.gallery.disk.checks import is_intact, pack_bytes, record_bytes
from veilmatch.server.matcher.gallery.disk.rows import (
    Place,
    delete_rows,
    insert_rows,
    occupied_in,
    of,
    require_fit,
    retired_slots,
    visible,
)
from veilmatch.server.matcher.gallery.disk.schema import contents, packs, retired, templates

#: Bytes of contents that are held in memory at once while they are written.
_BYTES_AT_ONCE = 1 << 21


@dataclass
class Batch:
    """What is there after a number of changes, of what they touch; `take` them in order, then `write` it."""

    occupied: set[Place]
    given_up: set[Place]
    count: int
    packs: dict[int, tuple[bytes, int]] = field(default_factory=dict)
    added: dict[Place, tuple[Added, int]] = field(default_factory=dict)
    removed: set[Place] = field(default_factory=set)
    retired: dict[Place, int] = field(default_factory=dict)

    @staticmethod
    def after(connection: Connection, gallery: Row[Any], bodies: Iterable[Body]) -> Batch:
        """Return an empty batch after what is committed, for changes with these bodies."""
        touched = sorted({number for body in bodies for number, _ in body.packs})
        count = connection.scalar(select(func.count()).select_from(packs).where(visible(packs, gallery))) or 0
        occupied = occupied_in(connection, gallery, touched)
        return Batch(occupied, set(retired_slots(connection, gallery)), count)

    def take(self, sequence: int, body: Body, parameters: ParameterSet) -> None:
        """Take in change number `sequence`. Raises IntegrityError if it does not fit what is there before it."""
        body.check(parameters)
        require_fit(body, self.occupied, self.given_up, self.count)
        for place in body.removed:
            if self.added.pop(place, None) is None:
                self.removed.add(place)
        self.packs |= {number: (leaf, sequence) for number, leaf in body.packs}
        self.count = max([self.count, *(number + 1 for number, _ in body.packs)])
        self.added |= {(at.pack, at.slot): (at, sequence) for at in body.added}
        self.retired |= dict.fromkeys(body.retired, sequence)
        self.occupied -= set(body.removed)
        self.occupied |= {(at.pack, at.slot) for at in body.added}
        self.given_up |= set(body.retired)

    def write(self, connection: Connection, gallery: Row[Any], given: Contents, parameters: ParameterSet) -> int:
        """Write it; return how many templates that were there are gone. Their entries of the log are there.

        Raises IntegrityError if a content is not what the changes name, or of the wrong size.
        """
        key = {"gallery_id": gallery.id}
        for number in self.packs:
            delete_rows(connection, packs, and_(visible(packs, gallery), of(packs, gallery, pack=number)))
        erased = 0
        for pack, slot in sorted(self.removed):
            at = of(templates, gallery, pack=pack, slot=slot)
            erased += delete_rows(connection, templates, and_(visible(templates, gallery), at))
        pack_rows = ((key | {"pack": n, "added_in": s}, leaf) for n, (leaf, s) in sorted(self.packs.items()))
        for some in _some(pack_rows, pack_bytes(parameters)):
            bodies = [_sized(found(given, leaf), pack_bytes(parameters), of_pack=True).data for _, leaf in some]
            insert_rows(connection, packs, [row for row, _ in some], bodies)
        template_rows = (
            (key | {"pack": at.pack, "slot": at.slot, "by_device": at.by_device, "added_in": s}, at.leaf)
            for _, (at, s) in sorted(self.added.items())
        )
        for some in _some(template_rows, record_bytes(parameters)):
            contents = [_sized(found(given, leaf), record_bytes(parameters), of_pack=False) for _, leaf in some]
            rows = [
                row | {"subject": content.subject, "terms": content.terms}
                for (row, _), content in zip(some, contents, strict=True)
            ]
            insert_rows(connection, templates, rows, [content.data for content in contents])
        if self.retired:
            rows = [key | {"pack": p, "slot": s, "added_in": number} for (p, s), number in self.retired.items()]
            connection.execute(insert(retired), rows)
        return erased


def contents_since(
    connection: Connection, gallery: Row[Any], sequence: int, parameters: ParameterSet
) -> Iterator[Content]:
    """Yield all that changes after number `sequence` brought and that is still there: packs, then templates.

    Raises IntegrityError if one is damaged: nobody is given what is.
    """
    for table, size in ((packs, pack_bytes(parameters)), (templates, record_bytes(parameters))):
        query = select(contents.c.body, contents.c.checksum).join(table, contents.c.id == table.c.content_id)
        query = query.where(visible(table, gallery), table.c.added_in > sequence)
        query = query.order_by(table.c.pack) if table is packs else query.order_by(table.c.pack, table.c.slot)
        if table is templates:
            query = query.add_columns(templates.c.subject, templates.c.terms)
        for row in connection.execute(query, execution_options={"yield_per": 1}):
            if not is_intact(row.body, row.checksum, size):
                raise IntegrityError("a content of the gallery is damaged, and is given to nobody")
            yield Content(row.subject, row.body, row.terms) if table is templates else Content("", row.body)


def size_since(connection: Connection, gallery: Row[Any], sequence: int) -> int:
    """Return the size, in bytes, of what `contents_since` yields."""
    size = 0
    for table in (packs, templates):
        query = select(func.sum(func.length(contents.c.body))).join(table, contents.c.id == table.c.content_id)
        size += connection.scalar(query.where(visible(table, gallery), table.c.added_in > sequence)) or 0
    return size


def _sized(content: Content, size: int, *, of_pack: bool) -> Content:
    if len(content.data) != size or of_pack != (not content.subject):
        raise IntegrityError("a content of the wrong size or kind", got=len(content.data), expected=size)
    return content


def _some(rows: Iterator[tuple[dict[str, Any], bytes]], size: int) -> Iterator[list[tuple[dict[str, Any], bytes]]]:
    """Yield the rows, some at a time. size: of the content of each, in bytes."""
    while some := list(islice(rows, max(1, _BYTES_AT_ONCE // size))):
        yield some
