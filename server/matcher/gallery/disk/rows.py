"""Statements over the rows of gallery.db; `store.Store` puts them together in transactions.

What is accepted and not committed: `accepted_rows`; many committed changes at once: `batch`.

A gallery is passed as its row of `galleries`, read in the same transaction.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Table,
    Update,
    and_,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)

from veilmatch.crypto.errors import IntegrityError, UnknownGalleryError
from veilmatch.crypto.gallery_change import token_digest
from veilmatch.server.matcher.agreement.ballots import Ballot
from veilmatch.server.matcher.gallery.body import Body
from veilmatch.server.matcher.gallery.disk.schema import (
    certificates,
    contents,
    galleries,
    log,
    packs,
    retired,
    templates,
)
from veilmatch.server.matcher.gallery.mutation import Accepted, GalleryState, LogEntry, require_same_model

Place = tuple[int, int]
#: SQLite takes so many values in one condition, and more.
_NAMED_PACKS = 1000


def check_fits(connection: Connection, gallery: Row[Any], body: Body) -> None:
    """Raise IntegrityError unless removed slots are occupied, added ones free and not given up, packs without gaps.

    Raises ModelMismatchError if it adds embeddings of another model than those that are there.
    """
    if body.added:
        require_same_model(model_of(connection, gallery), body.model)
    numbers = [number for number, _ in body.packs]
    count = connection.scalar(select(func.count()).select_from(packs).where(visible(packs, gallery))) or 0
    require_fit(body, occupied_in(connection, gallery, numbers), set(retired_slots(connection, gallery)), count)


def require_fit(body: Body, occupied: AbstractSet[Place], retired: AbstractSet[Place], count: int) -> None:
    """Raise IntegrityError unless a change fits a gallery of `count` packs with these slots occupied and given up."""
    removed = set(body.removed)
    if not removed <= occupied:
        raise IntegrityError("a slot is not occupied", got=min(removed - occupied))
    added = {(t.pack, t.slot) for t in body.added}
    if twice := (added & occupied) - removed:
        raise IntegrityError("a slot is occupied already", got=min(twice))
    if given_up := added & retired:
        raise IntegrityError("a slot was given up", got=min(given_up))
    new = [number for number, _ in body.packs if number >= count]
    if new != list(range(count, count + len(new))):
        raise IntegrityError("new packs leave a gap", got=new[-1], expected=count)


def occupied_in(connection: Connection, gallery: Row[Any], numbers: Sequence[int]) -> set[Place]:
    """Return (pack, slot) of every committed template in these packs."""
    query = select(templates.c.pack, templates.c.slot).where(visible(templates, gallery))
    if len(numbers) <= _NAMED_PACKS:
        query = query.where(templates.c.pack.in_(numbers))
    return {(row.pack, row.slot) for row in connection.execute(query)}


def subjects_at(connection: Connection, gallery: Row[Any], places: Collection[Place]) -> dict[Place, str]:
    """Return the subject of each of these places that holds a committed template."""
    query = select(templates.c.pack, templates.c.slot, templates.c.subject).where(visible(templates, gallery))
    numbers = sorted({pack for pack, _ in places})
    if len(numbers) <= _NAMED_PACKS:
        query = query.where(templates.c.pack.in_(numbers))
    rows = connection.execute(query, execution_options={"yield_per": 1000})
    return {(row.pack, row.slot): row.subject for row in rows if (row.pack, row.slot) in places}


def find_gallery(connection: Connection, name: str) -> Row[Any]:
    """Return the row of `galleries`. Raises UnknownGalleryError if there is none."""
    gallery = connection.execute(select(galleries).where(galleries.c.name == name)).one_or_none()
    if gallery is None:
        raise UnknownGalleryError("no such gallery", got=name[:60])
    return gallery


def state_of(gallery: Row[Any]) -> GalleryState:
    """Return what the row of `galleries` says."""
    chain = gallery.accepted_chain
    accepted = Accepted(Ballot.decode(gallery.accepted), chain) if chain is not None else None
    return GalleryState(gallery.sequence, gallery.chain, Ballot.decode(gallery.promised), accepted)


def write_state(connection: Connection, gallery: Row[Any], state: GalleryState, origin: bytes | None) -> None:
    """Let the row of `galleries` say this. origin: where what is accepted comes from."""
    accepted = state.accepted
    connection.execute(
        update_gallery(gallery).values(
            sequence=state.sequence,
            chain=state.chain,
            promised=state.promised.encode(),
            accepted=accepted.ballot.encode() if accepted is not None else b"",
            accepted_chain=accepted.chain if accepted is not None else None,
            origin=origin,
        )
    )


def model_of(connection: Connection, gallery: Row[Any]) -> str | None:
    """Return the embedding model of the templates of `gallery`, None if it has none."""
    added_by = and_(log.c.gallery_id == templates.c.gallery_id, log.c.sequence == templates.c.added_in)
    query = select(log.c.model).select_from(templates.join(log, added_by)).where(visible(templates, gallery))
    return connection.scalar(query.limit(1))


def retired_slots(connection: Connection, gallery: Row[Any]) -> list[tuple[int, int]]:
    """Return (pack, slot) of every slot of `gallery` that was given up."""
    query = select(retired.c.pack, retired.c.slot).where(visible(retired, gallery))
    return [(row.pack, row.slot) for row in connection.execute(query)]


def results_after(connection: Connection, gallery: Row[Any], kind: str, sequence: int) -> list[tuple[int, str]]:
    """Return (sequence, result) of the committed mutations of this kind after number `sequence`, in order."""
    query = select(log.c.sequence, log.c.body).where(of(log, gallery), log.c.kind == kind)
    rows = connection.execute(
        query.where(log.c.sequence.between(sequence + 1, gallery.sequence)).order_by(log.c.sequence)
    )
    return [(row.sequence, Body.decode(row.body).result) for row in rows]


def update_gallery(gallery: Row[Any]) -> Update:
    """Return the statement that changes this row of `galleries`; it needs `values`."""
    return update(galleries).where(galleries.c.id == gallery.id)


def of(table: Table, gallery: Row[Any], **values: int) -> ColumnElement[bool]:
    """Return the condition for rows of `table` that belong to `gallery` and have these values."""
    return and_(table.c.gallery_id == gallery.id, *(table.c[name] == value for name, value in values.items()))


def visible(table: Table, gallery: Row[Any]) -> ColumnElement[bool]:
    """Return the condition for the committed rows of `packs`, `templates` or `retired` of `gallery`."""
    return and_(table.c.gallery_id == gallery.id, table.c.added_in <= gallery.sequence)


def find_entry(connection: Connection, gallery: Row[Any], token: bytes) -> LogEntry | None:
    """Return the committed mutation of `gallery` with this token, or None; dated ones have its digest."""
    row = connection.execute(
        select(log.c.sequence, log.c.body).where(
            of(log, gallery), log.c.token.in_([token, token_digest(token)]), log.c.sequence <= gallery.sequence
        )
    ).one_or_none()
    if row is None:
        return None
    body = Body.decode(row.body)
    return LogEntry(row.sequence, body.kind, body.request_digest, body.result, body.device)


def write_log(connection: Connection, gallery: Row[Any], sequence: int, body: Body, certificate: bytes | None) -> None:
    """Write an entry of the log. certificate: None while it is accepted only."""
    row = {"gallery_id": gallery.id, "sequence": sequence, "kind": body.kind, "token": body.token, "model": body.model}
    connection.execute(insert(log).values(**row, body=body.encode()))
    if certificate is not None:
        write_certificate(connection, gallery, sequence, certificate)


def write_certificate(connection: Connection, gallery: Row[Any], sequence: int, certificate: bytes) -> None:
    """Write the certificate of an entry of the log."""
    row = {"gallery_id": gallery.id, "sequence": sequence, "certificate": certificate}
    connection.execute(insert(certificates).values(**row))


def insert_rows(connection: Connection, table: Table, rows: Sequence[dict[str, Any]], bodies: Sequence[bytes]) -> None:
    """Write rows of `packs` or `templates` with their contents."""
    if not rows:
        return
    first = (connection.scalar(select(func.max(contents.c.id))) or 0) + 1
    ids = range(first, first + len(rows))
    values = [
        {"id": id_, "checksum": hashlib.sha256(body).digest(), "body": body}
        for id_, body in zip(ids, bodies, strict=True)
    ]
    connection.execute(insert(contents), values)
    connection.execute(insert(table), [row | {"content_id": id_} for id_, row in zip(ids, rows, strict=True)])


def delete_rows(connection: Connection, table: Table, which: ColumnElement[bool]) -> int:
    """Delete rows and their contents; return how many."""
    ids = list(connection.scalars(select(table.c.content_id).where(which)))
    if ids:
        connection.execute(delete(table).where(which))
        connection.execute(delete(contents).where(contents.c.id == bindparam("content")), [{"content": i} for i in ids])
    return len(ids)
