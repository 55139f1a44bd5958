"""Contents that are not what the log says: which they are, and putting the right ones in their place.

A gallery is passed as its row of `galleries`, read in the same transaction. The log has been checked: it decides.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, Table, insert, select, update

from veilmatch.server.matcher.gallery.body import Body, pack_leaf, template_leaf
from veilmatch.server.matcher.gallery.disk.rows import Place, of, visible
from veilmatch.server.matcher.gallery.disk.schema import contents, log, packs, templates


@dataclass
class Differing:
    """Packs, by number, and templates, by place, that are not what was written, with the leaf that they should have."""

    packs: dict[int, bytes] = field(default_factory=dict)
    templates: dict[Place, bytes] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.packs) + len(self.templates)


def differing(connection: Connection, gallery: Row[Any]) -> Differing:
    """Compare every pack and template of a gallery with the log; a change of a subject's name shows as well."""
    found = Differing()
    for row, leaf in _rows(connection, gallery, packs):
        if not pack_leaf(row.body or b"") == leaf == row.checksum:
            found.packs[row.pack] = leaf
    for row, leaf in _rows(connection, gallery, templates):
        if not _is_right(row, leaf):
            found.templates[row.pack, row.slot] = leaf
    return found


def put_packs(connection: Connection, gallery: Row[Any], given: Mapping[int, bytes]) -> None:
    """Replace the contents of packs."""
    for number, body in given.items():
        _put(connection, packs, visible(packs, gallery) & (packs.c.pack == number), body)


def put_templates(connection: Connection, gallery: Row[Any], given: Mapping[Place, tuple[str, bytes, bytes]]) -> None:
    """Replace subject, record and terms of templates."""
    for (pack, slot), (subject, body, terms) in given.items():
        which = visible(templates, gallery) & (templates.c.pack == pack) & (templates.c.slot == slot)
        connection.execute(update(templates).where(which).values(subject=subject, terms=terms))
        _put(connection, templates, which, body)


def _is_right(row: Row[Any], leaf: bytes) -> bool:
    # What SQLite gives back need not be of the type that was stored.
    if not isinstance(row.subject, str) or not isinstance(row.body, bytes) or not isinstance(row.terms, bytes):
        return False
    is_named = template_leaf(row.subject, row.body, row.terms) == leaf
    return is_named and hashlib.sha256(row.body).digest() == row.checksum


def _put(connection: Connection, table: Table, which: Any, body: bytes) -> None:
    number = connection.execute(select(table.c.content_id).where(which)).scalar_one()
    values = {"checksum": hashlib.sha256(body).digest(), "body": body}
    if not connection.execute(update(contents).where(contents.c.id == number).values(**values)).rowcount:
        connection.execute(insert(contents).values(id=number, **values))


def _rows(connection: Connection, gallery: Row[Any], table: Table) -> Iterator[tuple[Row[Any], bytes]]:
    """Yield every committed row with its content, and the leaf that the change says which brought it.

    Those that no change has brought are left out: no content would mend them.
    """
    query = select(table, contents.c.body, contents.c.checksum)
    query = query.select_from(table.join(contents, contents.c.id == table.c.content_id, isouter=True))
    query = query.where(visible(table, gallery)).order_by(table.c.added_in)
    number, leaves = -1, dict[tuple[int, ...], bytes]()
    for row in connection.execute(query, execution_options={"yield_per": 1}):
        if row.added_in != number:
            number = row.added_in
            said = connection.scalar(select(log.c.body).where(of(log, gallery, sequence=number)))
            leaves = {} if said is None else _leaves(Body.decode(said), of_packs=table is packs)
        leaf = leaves.get((row.pack,) if table is packs else (row.pack, row.slot))
        if leaf is not None:
            yield row, leaf


def _leaves(body: Body, *, of_packs: bool) -> dict[tuple[int, ...], bytes]:
    if of_packs:
        return {(number,): leaf for number, leaf in body.packs}
    return {(at.pack, at.slot): at.leaf for at in body.added}
