"""Rows of a change that is accepted and not committed: written, read again, taken back.

Only one is there at a time, with the number after the gallery's sequence. Questions about what is committed do not see
it (`rows.visible`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, Table, and_, bindparam, delete, insert, select, update

from veilmatch.crypto.errors import IntegrityError
from veilmatch.server.matcher.gallery.body import Body
from veilmatch.server.matcher.gallery.changes import Content, by_leaf, mutation_of
from veilmatch.server.matcher.gallery.disk.rows import delete_rows, insert_rows, of, write_certificate, write_log
from veilmatch.server.matcher.gallery.disk.schema import contents, log, packs, retired, templates
from veilmatch.server.matcher.gallery.mutation import Mutation


def write_accepted(connection: Connection, gallery: Row[Any], mutation: Mutation) -> None:
    """Write all that a mutation brings; it must fit (`rows.check_fits`), and no other may be there."""
    key = {"gallery_id": gallery.id}
    number = gallery.sequence + 1
    write_log(connection, gallery, number, mutation.body, None)
    changed = sorted(mutation.packs.items())
    _mark(connection, packs, number, [key | {"pack": pack} for pack, _ in changed])
    _mark(connection, templates, number, [key | {"pack": p, "slot": s} for p, s in mutation.removed])
    new_packs = [key | {"pack": pack, "added_in": number} for pack, _ in changed]
    insert_rows(connection, packs, new_packs, [content for _, content in changed])
    new_templates = [
        key
        | {"pack": t.pack, "slot": t.slot, "subject": t.subject, "by_device": t.by_device, "terms": t.terms}
        | {"added_in": number}
        for t in mutation.added
    ]
    insert_rows(connection, templates, new_templates, [t.record for t in mutation.added])
    if mutation.retired:
        given_up = [key | {"pack": pack, "slot": slot, "added_in": number} for pack, slot in mutation.retired]
        connection.execute(insert(retired), given_up)


def commit_accepted(connection: Connection, gallery: Row[Any], certificate: bytes) -> int:
    """Delete what the accepted change takes away and give it its certificate; return how many templates are gone.

    The row of `galleries` is left to the caller.
    """
    number = gallery.sequence + 1
    erased = delete_rows(connection, templates, of(templates, gallery, removed_in=number))
    delete_rows(connection, packs, of(packs, gallery, removed_in=number))
    write_certificate(connection, gallery, number, certificate)
    return erased


def take_back(connection: Connection, gallery: Row[Any]) -> int:
    """Remove what is accepted, if anything is; return how many contents went with it."""
    number = gallery.sequence + 1
    gone = 0
    for table in (templates, packs):
        gone += delete_rows(connection, table, of(table, gallery, added_in=number))
        connection.execute(update(table).where(of(table, gallery, removed_in=number)).values(removed_in=None))
    connection.execute(delete(retired).where(of(retired, gallery, added_in=number)))
    connection.execute(delete(log).where(of(log, gallery, sequence=number)))
    return gone


def read_accepted(connection: Connection, gallery: Row[Any]) -> Mutation:
    """Return what is accepted, with all that it brings. Raises IntegrityError if that is damaged, or nothing is."""
    number = gallery.sequence + 1
    body = connection.scalar(select(log.c.body).where(of(log, gallery, sequence=number)))
    if body is None:
        raise IntegrityError("no change is accepted")
    found: list[Content] = []
    for table in (packs, templates):
        query = select(contents.c.body).join(table, contents.c.id == table.c.content_id)
        query = query.where(of(table, gallery, added_in=number))
        if table is templates:
            query = query.add_columns(templates.c.subject, templates.c.terms)
            found += [Content(row.subject, row.body, row.terms) for row in connection.execute(query)]
        else:
            found += [Content("", row.body) for row in connection.execute(query)]
    return mutation_of(Body.decode(body), by_leaf(found))


def _mark(connection: Connection, table: Table, number: int, places: Sequence[dict[str, int]]) -> None:
    """Let the accepted change remove the rows at these places."""
    if places:
        at = and_(*(table.c[name] == bindparam(f"at_{name}") for name in places[0]))
        values = [{f"at_{name}": value for name, value in place.items()} for place in places]
        connection.execute(update(table).where(at).values(removed_in=number), values)
