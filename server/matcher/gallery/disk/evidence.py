"""What other organisations have signed, kept: so that whoever denies it, or signs two things at once, is found out.

A gallery is passed as its row of `galleries`, read in the same transaction.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select

from veilmatch.crypto.keys.parties import PARTIES, Party
from veilmatch.server.matcher.agreement.certificates import Certificate, Statement
from veilmatch.server.matcher.agreement.lies import Proof
from veilmatch.server.matcher.gallery.disk.rows import of, update_gallery
from veilmatch.server.matcher.gallery.disk.schema import certificates
from veilmatch.server.matcher.gallery.disk.schema import heard as heard_table
from veilmatch.server.matcher.gallery.disk.schema import proofs as proofs_table

#: Certificates that are looked through for the last one of an organisation; all pairs take turns.
_RECENT = 1000
#: Proofs of one kind that are kept of an organisation: the first is enough, and it can sign lies without end.
PROOFS_EACH = 4


def keep(connection: Connection, gallery: Row[Any], statements: Iterable[Statement]) -> None:
    """Keep these statements in place of earlier ones. They were compared with what is kept (`agreement.lies`)."""
    for statement in statements:
        connection.execute(
            delete(heard_table).where(heard_table.c.gallery_id == gallery.id, heard_table.c.party == statement.party)
        )
        row = {"gallery_id": gallery.id, "party": statement.party, "statement": statement.encode()}
        connection.execute(insert(heard_table).values(**row))


def heard(connection: Connection, gallery: Row[Any]) -> dict[Party, Statement]:
    """Return the statement of each other organisation that is kept."""
    query = select(heard_table.c.statement).where(heard_table.c.gallery_id == gallery.id)
    statements = [Statement.decode(data) for data in connection.scalars(query)]
    return {statement.party: statement for statement in statements}


def last_votes(connection: Connection, gallery: Row[Any]) -> dict[Party, Certificate]:
    """Return the last certificate that each organisation has signed, of the recent ones."""
    query = select(certificates.c.certificate).where(of(certificates, gallery))
    found: dict[Party, Certificate] = {}
    for data in connection.scalars(query.order_by(certificates.c.sequence.desc()).limit(_RECENT)):
        certificate = Certificate.decode(data)
        for party in PARTIES:
            if party in certificate.vote.ballot.pair:
                found.setdefault(party, certificate)
        if len(found) == len(PARTIES):
            break
    return found


def keep_proof(connection: Connection, gallery: Row[Any], proof: Proof) -> None:
    """Keep a proof, the same one once, unless PROOFS_EACH of its kind are kept of that organisation."""
    alike = [one for one in proofs(connection, gallery) if (one.party, one.what) == (proof.party, proof.what)]
    if proof not in alike and len(alike) < PROOFS_EACH:
        values = {"party": proof.party, "what": proof.what, "first": proof.first, "second": proof.second}
        connection.execute(insert(proofs_table).values(gallery_id=gallery.id, **values))


def proofs(connection: Connection, gallery: Row[Any]) -> list[Proof]:
    """Return all proofs, in order."""
    p = proofs_table.c
    query = select(p.party, p.what, p.first, p.second).where(p.gallery_id == gallery.id).order_by(p.id)
    return [Proof(*row) for row in connection.execute(query)]


def unmet(gallery: Row[Any]) -> set[Party]:
    """Return the organisations that a restored one has to meet."""
    return {party for party in PARTIES if party in gallery.unmet}


def set_unmet(connection: Connection, gallery: Row[Any], others: set[Party]) -> None:
    """Write which organisations have to be met."""
    connection.execute(update_gallery(gallery).values(unmet="".join(sorted(others))))
