"""The history that a moved gallery begins with: changes with certificates, made of what is there.

First one change of kind "moved", which has all packs and the slots that are not used again, and names the state that
was moved. Then every change that added templates which are still there, with its own token: so a retry of an enrolment
from before is still known. What was erased before is not told any more. Everybody who moves the same gallery gets the
same bodies and the same chain, byte for byte.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from veilmatch.crypto.digests import digest
from veilmatch.crypto.errors import IntegrityError
from veilmatch.crypto.gallery_change import next_chain
from veilmatch.server.matcher.agreement.ballots import Ballot
from veilmatch.server.matcher.agreement.certificates import Certificate, Scope, Signer, Vote
from veilmatch.server.matcher.gallery.body import Body
from veilmatch.server.matcher.gallery.changes import Change
from veilmatch.server.matcher.gallery.disk.store import Store
from veilmatch.server.moving.earlier import Earlier, EarlierDatabase

#: The ballot of all of it, below which nothing was ever promised.
BALLOT = Ballot(1, "ab")
#: Who has "made" the first change.
MOVER = "veilmatch move"
#: Changes that are written at once.
_AT_ONCE = 4096


class Moved(NamedTuple):
    """What came of it: number and chain value of the last change, and how many templates there are."""

    sequence: int
    chain: bytes
    templates: int


def bodies(gallery: Earlier, key_id: bytes) -> Iterator[Body]:
    """Yield the body of every change of the history, in order."""
    state = digest("moved gallery", gallery.name, key_id, gallery.sequence, gallery.chain)
    yield Body(
        kind="moved",
        token=digest("token of a moved gallery", state)[:16],
        request_digest=state,
        result=json.dumps({"templates": 0, "sequence": gallery.sequence, "chain": gallery.chain.hex()}),
        model="",
        device=MOVER,
        packs=tuple(enumerate(gallery.packs)),
        added=(),
        removed=(),
        retired=gallery.retired,
    )
    for entry in gallery.entries:
        numbers = sorted({at.pack for at in entry.added})
        yield Body(
            entry.kind, entry.token, entry.request_digest, entry.result, entry.model,
            # Before version 4 a change did not say whose it was.
            entry.device or MOVER,
            packs=tuple((number, gallery.packs[number]) for number in numbers),
            added=entry.added, removed=(), retired=(),
        )  # fmt: skip


def write_moved(store: Store, earlier: EarlierDatabase, name: str, signers: tuple[Signer, Signer]) -> Moved:
    """Write a gallery of an earlier database into an empty one of this version, durably.

    signers: organisations a and b. Raises IntegrityError if the gallery is there already, and what `Earlier.read` does.
    """
    gallery = earlier.read(name)
    state = store.open_gallery(name)
    if state.sequence:
        raise IntegrityError("the gallery was moved already", got=f"sequence {state.sequence}", expected="an empty one")
    # An organisation that has signed under a ballot has promised it.
    store.promise(name, BALLOT)
    scope = Scope(name, store.key_id)
    sequence, value = 0, state.chain
    history = bodies(gallery, store.key_id)
    while some := list(islice(history, _AT_ONCE)):
        changes = []
        for body in some:
            sequence, value = sequence + 1, next_chain(value, sequence + 1, body.digest())
            certificate = Certificate.signed(Vote(sequence, value, BALLOT), scope, *signers)
            changes.append(Change(sequence, body.encode(), certificate.encode()))
        store.apply(name, changes, earlier)
    return Moved(sequence, value, sum(len(entry.added) for entry in gallery.entries))
