"""Is what gallery.db holds what was written? The log against the chain, every pack and record against its checksum.

SQLite finds a page that contradicts itself, and does not notice a flipped bit in a value. `store.Store` runs these when
a matcher starts, `veilmatch check` while it serves. A gallery is passed as its row of `galleries`, read in the same
transaction.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, and_, select

from veilmatch.crypto.errors import IntegrityError
from veilmatch.crypto.gallery_change import next_chain
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.server.matcher.agreement.certificates import Certificate
from veilmatch.server.matcher.gallery.body import Body, digest_of
from veilmatch.server.matcher.gallery.disk.rows import of, state_of, visible
from veilmatch.server.matcher.gallery.disk.schema import certificates, contents, log, packs, templates
from veilmatch.server.matcher.gallery.mutation import initial_chain

#: What mends a damaged gallery.db: the others hold the same bytes.
REMEDY = "`veilmatch gallery mend` (docs/operations.md, when a file is damaged)"


@dataclass(frozen=True, slots=True)
class DamagedPack:
    """A pack that is not what was written. row: of `contents`."""

    pack: int
    row: int


@dataclass(frozen=True, slots=True)
class DamagedRecord:
    """The record of a template that is not what was written. row: of `contents`. subject: for no log."""

    pack: int
    slot: int
    subject: str = field(repr=False)
    row: int


def is_intact(body: bytes | None, checksum: bytes | None, size: int) -> bool:
    """Return whether a content is there, of this size and what its checksum says."""
    return body is not None and len(body) == size and hashlib.sha256(body).digest() == checksum


def pack_bytes(parameters: ParameterSet) -> int:
    """Return the size of a pack: D ciphertexts."""
    return parameters.dimension * parameters.ciphertext_bytes


def record_bytes(parameters: ParameterSet) -> int:
    """Return the size of a record: the lane ciphertexts of one template."""
    return parameters.lane_ciphertexts * parameters.ciphertext_bytes


def damaged_packs(connection: Connection, gallery: Row[Any], parameters: ParameterSet) -> Iterator[DamagedPack]:
    """Yield every committed pack whose content is missing, or of the wrong size or checksum; ascending."""
    query = (
        select(packs.c.pack, packs.c.content_id, contents.c.body, contents.c.checksum)
        .join(contents, contents.c.id == packs.c.content_id, isouter=True)
        .where(visible(packs, gallery))
        .order_by(packs.c.pack)
    )
    for row in connection.execute(query, execution_options={"yield_per": 1}):
        if not is_intact(row.body, row.checksum, pack_bytes(parameters)):
            yield DamagedPack(row.pack, row.content_id)


def damaged_records(connection: Connection, gallery: Row[Any], parameters: ParameterSet) -> Iterator[DamagedRecord]:
    """Yield every committed template whose record is missing, or of the wrong size or checksum; ascending."""
    t = templates.c
    query = (
        select(t.pack, t.slot, t.subject, t.content_id, contents.c.body, contents.c.checksum)
        .join(contents, contents.c.id == t.content_id, isouter=True)
        .where(visible(templates, gallery))
        .order_by(t.pack, t.slot)
    )
    for row in connection.execute(query, execution_options={"yield_per": 100}):
        if not is_intact(row.body, row.checksum, record_bytes(parameters)):
            yield DamagedRecord(row.pack, row.slot, row.subject, row.content_id)


def check_chain(connection: Connection, gallery: Row[Any], key_id: bytes, parameters: ParameterSet) -> dict[int, bytes]:
    """Raise IntegrityError if the hash chain, recomputed from the log, is not the one that the gallery claims.

    Every committed change has a certificate of its number and chain value; who signed it is not looked at. Returns the
    checksum of each pack that the log names.
    """
    chain, accepted, last = initial_chain(gallery.name, key_id, parameters), None, 0
    leaves: dict[int, bytes] = {}
    and_certificate = log.join(
        certificates,
        and_(certificates.c.gallery_id == log.c.gallery_id, certificates.c.sequence == log.c.sequence),
        isouter=True,
    )
    query = select(log, certificates.c.certificate).select_from(and_certificate)
    query = query.where(of(log, gallery)).order_by(log.c.sequence)
    for row in connection.execute(query, execution_options={"yield_per": 100}):
        if row.sequence != last + 1:
            raise IntegrityError("a mutation is missing in the log", got=row.sequence, expected=last + 1)
        last, following = row.sequence, next_chain(chain, row.sequence, digest_of(row.body))
        body = Body.decode(row.body)
        if (row.kind, row.token, row.model) != (body.kind, body.token, body.model):
            raise IntegrityError("an entry of the log is not what its body says", got=row.sequence)
        if row.sequence <= gallery.sequence:
            chain = following
            leaves.update(body.packs)
            vote = Certificate.decode(row.certificate or b"").vote
            if (vote.sequence, vote.chain) != (row.sequence, chain):
                raise IntegrityError("the certificate of a mutation is that of another one", got=row.sequence)
        elif row.certificate is not None:
            raise IntegrityError("a mutation that is not committed has a certificate", got=row.sequence)
        else:
            accepted = following
    # One accepted mutation shows in the log as one entry after the committed ones.
    lengths_fit = last == gallery.sequence + (gallery.accepted_chain is not None)
    if not lengths_fit or (chain, accepted) != (gallery.chain, gallery.accepted_chain):
        raise IntegrityError("the log of a gallery contradicts its state", expected=state_of(gallery))
    return leaves


def check_named(connection: Connection, gallery: Row[Any], leaves: Mapping[int, bytes]) -> None:
    """Raise IntegrityError unless every pack that is there is, by its checksum, the one that the log names.

    A checksum that somebody has altered with its pack would show nowhere else, and a search would give answers by
    chance. leaves: as `check_chain` returns them.
    """
    query = select(packs.c.pack, contents.c.checksum).join(contents, contents.c.id == packs.c.content_id)
    for number, checksum in connection.execute(query.where(visible(packs, gallery)).order_by(packs.c.pack)):
        if leaves.get(number) != checksum:
            raise IntegrityError("a pack is not the one that the log names", got=f"pack {number}", expected=REMEDY)
