"""Statements over the rows of gallery.db; `store.Store` puts them together in transactions.

A gallery is passed as its row of `galleries`, read in the same transaction.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
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
from veilmatch.server.matcher.gallery.mutation import GalleryState, LogEntry, Mutation, require_same_model
from veilmatch.server.matcher.gallery.schema import contents, galleries, log, packs, retired, templates


def check_fits(connection: Connection, gallery: Row[Any], mutation: Mutation) -> None:
    """Raise IntegrityError unless removed slots are occupied, added ones free and not given up, packs without gaps.

    Raises ModelMismatchError if it adds embeddings of another model than those that are there.
    """
    if mutation.added:
        require_same_model(model_of(connection, gallery), mutation.model)
    rows = connection.execute(
        select(templates.c.pack, templates.c.slot).where(
            visible(templates, gallery), templates.c.pack.in_(sorted(mutation.packs))
        )
    )
    occupied = {(row.pack, row.slot) for row in rows}
    removed = set(mutation.removed)
    if not removed <= occupied:
        raise IntegrityError("a slot is not occupied", got=min(removed - occupied))
    twice = {(t.pack, t.slot) for t in mutation.added} & (occupied - removed)
    if twice:
        raise IntegrityError("a slot is occupied already", got=min(twice))
    given_up = {(t.pack, t.slot) for t in mutation.added} & set(retired_slots(connection, gallery))
    if given_up:
        raise IntegrityError("a slot was given up", got=min(given_up))
    count = connection.scalar(select(func.count()).select_from(packs).where(visible(packs, gallery))) or 0
    new = sorted(pack for pack in mutation.packs if pack >= count)
    if new != list(range(count, count + len(new))):
        raise IntegrityError("new packs leave a gap", got=new[-1], expected=count)


def find_gallery(connection: Connection, name: str) -> Row[Any]:
    """Return the row of `galleries`. Raises UnknownGalleryError if there is none."""
    gallery = connection.execute(select(galleries).where(galleries.c.name == name)).one_or_none()
    if gallery is None:
        raise UnknownGalleryError("no such gallery", got=name[:60])
    return gallery


def state_of(gallery: Row[Any]) -> GalleryState:
    """Return what the row of `galleries` says."""
    return GalleryState(gallery.sequence, gallery.chain, gallery.pending_chain)


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
    query = select(log.c.sequence, log.c.result).where(of(log, gallery), log.c.kind == kind)
    within = log.c.sequence.between(sequence + 1, gallery.sequence)
    return [(row.sequence, row.result) for row in connection.execute(query.where(within).order_by(log.c.sequence))]


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
    """Return the committed mutation of `gallery` with this token, or None."""
    row = connection.execute(
        select(log.c.sequence, log.c.kind, log.c.request_digest, log.c.result, log.c.device, log.c.valid_share).where(
            of(log, gallery), log.c.token == token, log.c.sequence <= gallery.sequence
        )
    ).one_or_none()
    return None if row is None else LogEntry(*row)


def write_pending(
    connection: Connection, gallery: Row[Any], mutation: Mutation, digest: bytes, valid_share: bytes
) -> None:
    """Write everything of the mutation but the gallery's pending_chain; it must fit (`check_fits`)."""
    key = {"gallery_id": gallery.id}
    pending = gallery.sequence + 1
    connection.execute(
        insert(log).values(
            sequence=pending,
            kind=mutation.kind,
            token=mutation.token,
            request_digest=mutation.request_digest,
            digest=digest,
            result=mutation.result,
            model=mutation.model,
            device=mutation.device,
            valid_share=valid_share,
            **key,
        )
    )
    changed = sorted(mutation.packs.items())
    _mark(connection, packs, pending, [key | {"pack": pack} for pack, _ in changed])
    _mark(connection, templates, pending, [key | {"pack": p, "slot": s} for p, s in mutation.removed])
    new_packs = [key | {"pack": pack, "added_in": pending} for pack, _ in changed]
    _insert_rows(connection, packs, new_packs, [body for _, body in changed])
    new_templates = [
        key | {"pack": t.pack, "slot": t.slot, "subject": t.subject, "by_device": t.by_device, "added_in": pending}
        for t in mutation.added
    ]
    _insert_rows(connection, templates, new_templates, [t.record for t in mutation.added])
    if mutation.retired:
        given_up = [key | {"pack": pack, "slot": slot, "added_in": pending} for pack, slot in mutation.retired]
        connection.execute(insert(retired), given_up)


def _mark(connection: Connection, table: Table, pending: int, places: Sequence[dict[str, int]]) -> None:
    """Let the pending mutation remove the rows at these places."""
    if places:
        at = and_(*(table.c[name] == bindparam(f"at_{name}") for name in places[0]))
        values = [{f"at_{name}": value for name, value in place.items()} for place in places]
        connection.execute(update(table).where(at).values(removed_in=pending), values)


def _insert_rows(connection: Connection, table: Table, rows: Sequence[dict[str, Any]], bodies: Sequence[bytes]) -> None:
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
