"""One step of a rotation at a matcher: some templates of a gallery are brought under the new key.

DESIGN.md section 6. The pair converts the records of the templates, as for an erasure, and sifts out those that are
not valid. Each matcher gets integer shares of the vectors, encrypts its own part of their columns and of their new
records under the new key, and both exchange and multiply: nobody sees a vector, and both have re-randomised
everything. The step is one mutation of the gallery under the new key, prepared and committed by both like any other;
the old gallery serves queries all the time and may change between two steps (`progress`).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import structlog

from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.digests import digest
from veilmatch.crypto.errors import ConfigurationError
from veilmatch.crypto.packing.fields import Array
from veilmatch.protos.v1 import matcher_pb2 as pb
from veilmatch.protos.v1 import request_pb2
from veilmatch.server.matcher.agreement.meeting import Meeting
from veilmatch.server.matcher.change.mutating import commit_both, pieces
from veilmatch.server.matcher.change.progress import (
    Close,
    Convert,
    Empty,
    Place,
    Progress,
    Source,
    converted_result,
    emptied_result,
)
from veilmatch.server.matcher.change.succession import Succession, Successor
from veilmatch.server.matcher.gallery.gallery import Gallery
from veilmatch.server.matcher.gallery.mutation import GalleryState, Kind, Mutation, Template
from veilmatch.server.matcher.query.keyholder_call import LaneShares
from veilmatch.server.matcher.query.matching import Surroundings
from veilmatch.server.transport.requests import CheckedRequest

#: What one template's encryption under the new key may take at the other matcher, generously: for time-outs only.
_TEMPLATE_S = 2.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class _Batch:
    """Templates to convert, as the old gallery held them: whose they are, and their records."""

    state: GalleryState
    model: str
    sources: Sequence[Source]
    subjects: Sequence[str] = field(repr=False)
    records: Sequence[bytes] = field(repr=False)


async def rotate(
    checked: CheckedRequest, request: request_pb2.SignedRequest, gallery: Gallery, on: Surroundings
) -> pb.RotateReply:
    """Do the next step of rotating `gallery` to the key that the request names, and say how far it has come.

    Raises ConfigurationError if no rotation is configured here, KeyMismatchError if it is to another key.
    """
    succession = on.succession
    if succession is None:
        raise ConfigurationError("no rotation is configured at this matcher", expected="[rotation] in matcher.toml")
    new = succession.of(checked.gallery, checked.new_key_id)
    async with (
        on.meetings.about(checked.digest) as meeting,
        on.meetings.agreed(meeting, new.gallery, new.gallery.lock.exclusive),
    ):
        async with on.meetings.agreed(meeting, gallery, gallery.lock.shared):
            progress, sources = await new.progress(), await new.sources(gallery)
            subjects = {source: _subject(source, gallery) for source in sources if source in progress.left_out}
            complete = await new.is_complete()
            # What is complete may have been served from and changed: it is touched no more.
            step = Close() if complete else progress.next_step(sources)
            if isinstance(step, Close):
                # Within the lock: nothing changes the old gallery between its last conversion and its closing.
                if not complete:
                    last = _mutation("rotated", checked, {}, [], [], json.dumps({"templates": 0}), "")
                    await commit_both(last, meeting, new.gallery)
                gallery.successor = succession.key_id
                await succession.finish()
                return _reply(new, progress, len(sources), sorted(subjects.values()), done=True)
            batch = await _read(step.sources, gallery) if isinstance(step, Convert) else None
        # The old gallery may change from here on; the next step sees it.
        if isinstance(step, Empty):
            await commit_both(_emptied(step.pack, checked, new, succession), meeting, new.gallery)
        elif batch is not None:
            left_out = await _convert(batch, checked, request, new, succession, meeting, on)
            subjects |= dict(left_out)
        return _reply(new, await new.progress(), len(sources), sorted(subjects.values()), done=False)


async def _read(sources: Sequence[Source], gallery: Gallery) -> _Batch:
    records = [await gallery.record(pack, slot) for pack, slot, _ in sources]
    subjects = [_subject(source, gallery) for source in sources]
    return _Batch(gallery.state, gallery.model or "", sources, subjects, records)


def _subject(source: Source, gallery: Gallery) -> str:
    return gallery.index.subject(source[0], source[1])


async def _convert(
    batch: _Batch,
    checked: CheckedRequest,
    request: request_pb2.SignedRequest,
    new: Successor,
    succession: Succession,
    meeting: Meeting,
    on: Surroundings,
) -> list[tuple[Source, str]]:
    """Convert the batch and commit it; return the templates that are left out, with their subjects."""
    size = on.scheme.parameters.ciphertext_bytes
    lanes = [c for record in batch.records for c in pieces(record, size)]
    async with on.open_session(checked, request, batch.state, lanes) as call:
        share = await call.lane_share(len(batch.sources))
    kept, left_out = np.flatnonzero(share.valid).tolist(), np.flatnonzero(~share.valid).tolist()
    places = new.gallery.index.allocate(len(kept))
    columns, records = await _contents(share, places, succession, meeting, is_plus=on.is_plus(checked.pair))
    added = [
        Template(*place, batch.subjects[i], record) for i, place, record in zip(kept, places, records, strict=True)
    ]
    packs = {}
    for number in sorted({pack for pack, _ in places}):
        parts = [part for place, both in zip(places, columns, strict=True) if place[0] == number for part in both]
        packs[number] = await succession.workers.apply(new.gallery.number, number, [*await new.pack(number), *parts])
    result = converted_result([batch.sources[i] for i in kept], places, [batch.sources[i] for i in left_out])
    model = batch.model if added else ""
    await commit_both(_mutation("rotate", checked, packs, added, [], result, model), meeting, new.gallery)
    _log.info("templates converted", gallery=new.gallery.name, templates=len(added), left_out=len(left_out))
    return [(batch.sources[i], batch.subjects[i]) for i in left_out]


async def _contents(
    share: LaneShares, places: Sequence[Place], succession: Succession, meeting: Meeting, *, is_plus: bool
) -> tuple[list[list[bytes]], list[bytes]]:
    """Return, under the new key, both parts of each template's column, and its record made of both parts."""
    if not places:
        return [], []
    scheme, parameters = succession.scheme, succession.scheme.parameters
    vectors = share.values.reshape(-1, parameters.dimension)
    mine = await asyncio.gather(
        *(_part(values, slot, succession, is_plus=is_plus) for values, (_, slot) in zip(vectors, places, strict=True))
    )
    received = await meeting.swap_columns(share.session_id, b"".join(mine), _TEMPLATE_S * len(places))
    size, at = parameters.ciphertext_bytes, parameters.dimension * parameters.ciphertext_bytes
    await asyncio.to_thread(scheme.parse_many, pieces(received, size))
    theirs = pieces(received, len(mine[0]))
    columns = [[a[:at], b[:at]] for a, b in zip(mine, theirs, strict=True)]
    records = []
    for a, b in zip(mine, theirs, strict=True):
        parts = (scheme.parse_many(pieces(part[at:], size)) for part in (a, b))
        records.append(b"".join(scheme.serialise(scheme.multiply(x, y)) for x, y in zip(*parts, strict=True)))
    return columns, records


async def _part(values: Array, slot: int, succession: Succession, *, is_plus: bool) -> bytes:
    """Return this matcher's part of one template: D ciphertexts of its column, then those of its record."""
    column = await succession.workers.column(values, slot, is_plus=is_plus, erase=False)
    return column + await succession.workers.record(values, is_plus=is_plus)


def _emptied(number: int, checked: CheckedRequest, new: Successor, succession: Succession) -> Mutation:
    """Return the mutation that takes every template of a pack away: what is left holds nothing at all."""
    index, parameters = new.gallery.index, succession.scheme.parameters
    nothing = succession.scheme.serialise(succession.scheme.encode(Integer(0))) * parameters.dimension
    removed = [(number, int(slot)) for slot in index.occupied()[number].nonzero()[0]]
    return _mutation("rotate", checked, {number: nothing}, [], removed, emptied_result(number), "")


def _mutation(
    kind: Kind,
    checked: CheckedRequest,
    packs: Mapping[int, bytes],
    added: Sequence[Template],
    removed: Sequence[Place],
    result: str,
    model: str,
) -> Mutation:
    """Return a step as a mutation of the gallery under the new key; a step is not repeated, so its token is its own."""
    return Mutation(kind, checked.nonce, digest("mutation", kind, checked.digest), packs, added, removed, result, model)


def _reply(new: Successor, progress: Progress, total: int, left_out: Sequence[str], *, done: bool) -> pb.RotateReply:
    return pb.RotateReply(
        sequence=new.gallery.state.sequence,
        chain=new.gallery.state.chain,
        converted=len(progress.places),
        total=total,
        done=done,
        left_out=left_out,
    )
