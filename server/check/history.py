"""The history of a gallery, from its first change: log, certificates, and that what is there is what the log says.

`checks.check_chain` looks at the chain alone, at every start. This looks at who has signed each change, and compares
every pack and template with the leaf by which the change names it that brought it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, and_, select

from veilmatch.crypto.encryption.paillier import PublicKey
from veilmatch.crypto.errors import InvalidInputError, KeyMismatchError, VeilmatchError
from veilmatch.crypto.gallery_change import next_chain
from veilmatch.server.check.databases import reading_galleries
from veilmatch.server.config import GalleriesIn
from veilmatch.server.matcher.agreement.certificates import Certificate, Scope, Signers
from veilmatch.server.matcher.gallery.body import Body, digest_of, pack_leaf, template_leaf
from veilmatch.server.matcher.gallery.disk import evidence, schema
from veilmatch.server.matcher.gallery.disk.database import is_there, place_of
from veilmatch.server.matcher.gallery.disk.rows import of, visible
from veilmatch.server.matcher.gallery.disk.schema import certificates, contents, log, packs, templates
from veilmatch.server.matcher.gallery.mutation import initial_chain

_Place = tuple[int, ...]


@dataclass
class History:
    """What was found of one gallery. sequence, chain: of the last change up to which everything is right.

    broken: what is wrong first, None if nothing is; broken_at: the number of that change. accused: organisations of
    which a proof is kept that they lied.
    """

    gallery: str
    key_id: bytes
    sequence: int
    chain: bytes
    packs: int = 0
    templates: int = 0
    broken: str | None = None
    broken_at: int | None = None
    accused: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        """Return it for `--json`."""
        fields = {"gallery": self.gallery, "key_id": self.key_id.hex(), "sequence": self.sequence}
        fields |= {"chain": self.chain.hex(), "packs": self.packs, "templates": self.templates}
        broken = None if self.broken is None else {"change": self.broken_at, "why": self.broken}
        return fields | {"broken": broken, "accused": list(self.accused)}


class _BrokenError(Exception):
    """A change, or what it brought, is not right."""

    def __init__(self, sequence: int, why: str) -> None:
        super().__init__(why)
        self.sequence = sequence
        self.why = why


def verify_history(where: GalleriesIn, key: PublicKey, signers: Signers) -> list[History]:
    """Walk every gallery of a database, in one state of it, while its matcher may run; nothing is written.

    Raises InvalidInputError if it is not there, KeyMismatchError if it is of another key, IntegrityError if it is
    damaged or of another revision, StorageError if it cannot be read.
    """
    if not is_there(where):
        raise InvalidInputError("no gallery database here", got=place_of(where))
    with reading_galleries(where) as connection:
        stored = connection.scalar(select(schema.identity.c.key_id))
        if stored != key.key_id:
            raise KeyMismatchError("the gallery database is of another key", expected=key.key_id.hex())
        rows = connection.execute(select(schema.galleries).order_by(schema.galleries.c.name)).all()
        return [_walk(connection, gallery, key, signers) for gallery in rows]


def _walk(connection: Connection, gallery: Row[Any], key: PublicKey, signers: Signers) -> History:
    found = History(gallery.name, key.key_id, 0, initial_chain(gallery.name, key.key_id, key.parameters))
    found.accused = tuple(sorted({proof.party for proof in evidence.proofs(connection, gallery)}))
    #: By table: which change brought what is there now.
    brought: tuple[dict[_Place, int], dict[_Place, int]] = ({}, {})
    try:
        for row in _log(connection, gallery):
            _check_change(found, row, gallery, key, signers, brought)
        if (found.sequence, found.chain) != (gallery.sequence, gallery.chain):
            raise _BrokenError(found.sequence + 1, "the log ends before the state that the gallery claims")
        found.packs = _compare(connection, gallery, brought[0], of_packs=True)
        found.templates = _compare(connection, gallery, brought[1], of_packs=False)
    except _BrokenError as error:
        found.broken, found.broken_at = error.why, error.sequence
    return found


def _log(connection: Connection, gallery: Row[Any]) -> Iterator[Row[Any]]:
    both = and_(certificates.c.gallery_id == log.c.gallery_id, certificates.c.sequence == log.c.sequence)
    query = select(log, certificates.c.certificate).select_from(log.join(certificates, both, isouter=True))
    query = query.where(of(log, gallery)).order_by(log.c.sequence)
    yield from connection.execute(query, execution_options={"yield_per": 1})


def _check_change(
    found: History,
    row: Row[Any],
    gallery: Row[Any],
    key: PublicKey,
    signers: Signers,
    brought: tuple[dict[_Place, int], dict[_Place, int]],
) -> None:
    number = found.sequence + 1
    if row.sequence == gallery.sequence + 1 and row.certificate is None and gallery.accepted_chain is not None:
        return  # accepted, and not committed yet
    if row.sequence != number:
        raise _BrokenError(number, "the change is missing in the log")
    try:
        chain = next_chain(found.chain, number, digest_of(row.body))
        certificate = Certificate.decode(row.certificate or b"")
        if (certificate.vote.sequence, certificate.vote.chain) != (number, chain):
            raise _BrokenError(number, "the chain does not lead to what its certificate says")
        certificate.check(Scope(gallery.name, key.key_id), signers)
        body = Body.decode(row.body)
        body.check(key.parameters)
    except VeilmatchError as error:
        raise _BrokenError(number, str(error)) from None
    if (row.kind, row.token, row.model) != (body.kind, body.token, body.model):
        raise _BrokenError(number, "an entry of the log is not what its body says")
    numbers, places = brought
    for place in body.removed:
        if places.pop(place, None) is None:
            raise _BrokenError(number, f"it removes a template that is not there: pack {place[0]}, slot {place[1]}")
    numbers |= {(pack,): number for pack, _ in body.packs}
    places |= {(at.pack, at.slot): number for at in body.added}
    found.sequence, found.chain = number, chain


def _compare(connection: Connection, gallery: Row[Any], brought: dict[_Place, int], *, of_packs: bool) -> int:
    """Compare what is there with what the log says, by the change that brought it; return how many there are."""
    table, what = (packs, "pack") if of_packs else (templates, "template")
    names = ("pack",) if of_packs else ("pack", "slot")
    columns = [table.c.added_in, contents.c.body, *(table.c[name] for name in names)]
    query = select(*columns, *(() if of_packs else (templates.c.subject, templates.c.terms)))
    query = query.select_from(table.join(contents, contents.c.id == table.c.content_id, isouter=True))
    query = query.where(visible(table, gallery)).order_by(table.c.added_in, *(table.c[name] for name in names))
    leaves: dict[_Place, bytes] = {}
    current = count = 0
    for row in connection.execute(query, execution_options={"yield_per": 1}):
        place = tuple(getattr(row, name) for name in names)
        where = f"{what} " + "/".join(map(str, place))
        if brought.pop(place, None) != row.added_in:
            raise _BrokenError(row.added_in, f"{where} is there, and no change says so")
        if row.added_in != current:
            current, leaves = row.added_in, _leaves(connection, gallery, row.added_in, of_packs=of_packs)
        content = row.body or b""
        if leaves.get(place) != (pack_leaf(content) if of_packs else template_leaf(row.subject, content, row.terms)):
            raise _BrokenError(row.added_in, f"{where} is not what the change brought")
        count += 1
    for place, number in _first(brought.items()):
        raise _BrokenError(number, f"{what} {'/'.join(map(str, place))} is not there")
    return count


def _leaves(connection: Connection, gallery: Row[Any], sequence: int, *, of_packs: bool) -> dict[_Place, bytes]:
    body = Body.decode(connection.execute(select(log.c.body).where(of(log, gallery, sequence=sequence))).scalar_one())
    if of_packs:
        return {(number,): leaf for number, leaf in body.packs}
    return {(at.pack, at.slot): at.leaf for at in body.added}


def _first(missing: Iterable[tuple[_Place, int]]) -> list[tuple[_Place, int]]:
    return sorted(missing, key=lambda item: item[1])[:1]
