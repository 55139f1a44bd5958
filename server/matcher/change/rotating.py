"""One step of a rotation at a matcher: some templates of a gallery are brought under the new key.

docs/protocol.md. The pair converts the records of the templates, as for an erasure; what a device encrypted is gated
without opening anything, and becomes zero if it is not valid. The matchers make columns and records under the new key
from their shares (`making`). The step is one mutation of the gallery under the new key, accepted and committed by
both like any other; the old gallery serves queries all the time and may change between two steps (`progress`). When
all is converted the old gallery is closed, by a last change of its own, and then the new one is complete.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.digests import digest
from veilmatch.crypto.errors import ConfigurationError
from veilmatch.protos.v1 import matcher_pb2 as pb
from veilmatch.protos.v1 import request_pb2
from veilmatch.server.admission.requests import CheckedRequest
from veilmatch.server.ground.finishing import to_the_end
from veilmatch.server.matcher.agreement.meeting import Meeting
from veilmatch.server.matcher.agreement.sitting import Sitting
from veilmatch.server.matcher.change.making import Place, contents
from veilmatch.server.matcher.change.progress import (
    Close,
    Convert,
    Empty,
    Progress,
    Source,
    converted_result,
    emptied_result,
)
from veilmatch.server.matcher.change.succession import Succession, Successor
from veilmatch.server.matcher.gallery.gallery import Gallery
from veilmatch.server.matcher.gallery.mutation import GalleryState, Kind, Mutation, Record, Template
from veilmatch.server.matcher.query.matching import Surroundings
from veilmatch.server.matcher.query.records import records_of

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class _Batch:
    """Templates to convert, as the old gallery held them: whose they are, their records and their terms."""

    state: GalleryState
    model: str
    sources: Sequence[Source]
    subjects: Sequence[str] = field(repr=False)
    records: Sequence[Record] = field(repr=False)
    terms: Sequence[bytes] = field(repr=False)


async def rotate(
    checked: CheckedRequest, request: request_pb2.SignedRequest, gallery: Gallery, meeting: Meeting, on: Surroundings
) -> pb.RotateReply:
    """Do the next step of rotating `gallery` to the key that the request names, and say how far it has come.

    Raises ConfigurationError if no rotation is configured here, KeyMismatchError if it is to another key.
    """
    succession = on.succession
    if succession is None:
        raise ConfigurationError("no rotation is configured at this matcher", expected="[rotation] in matcher.toml")
    new = succession.of(checked.gallery, checked.new_key_id)
    async with succession.agreement.changing(meeting, new.gallery) as sitting:
        return await to_the_end(_step(checked, request, gallery, new, succession, sitting, meeting, on))


async def _step(
    checked: CheckedRequest,
    request: request_pb2.SignedRequest,
    gallery: Gallery,
    new: Successor,
    succession: Succession,
    sitting: Sitting,
    meeting: Meeting,
    on: Surroundings,
) -> pb.RotateReply:
    async with on.agreement.reading(meeting, gallery):
        progress, sources = await new.progress(), await new.sources(gallery)
        complete = await new.is_complete()
        # What is complete may have been served from and changed: it is touched no more.
        step = Close() if complete else progress.next_step(sources)
        batch = await _read(step.sources, gallery) if isinstance(step, Convert) else None
    # The old gallery may change from here on; the next step sees it.
    if isinstance(step, Close):
        return await _close(checked, gallery, new, succession, sitting, meeting, on)
    gated, valid_share = [], b""
    if isinstance(step, Empty):
        await sitting.commit(_emptied(step.pack, checked, new, succession))
    elif batch is not None:
        valid_share = await _convert(batch, checked, request, new, succession, sitting, meeting, on)
        gated = [subject for subject, of in zip(batch.subjects, batch.records, strict=True) if of.by_device]
    reply = _reply(new, await new.progress(), len(sources), done=False)
    reply.by_device.extend(gated)
    reply.valid_share = valid_share
    return reply


async def _close(
    checked: CheckedRequest,
    gallery: Gallery,
    new: Successor,
    succession: Succession,
    sitting: Sitting,
    meeting: Meeting,
    on: Surroundings,
) -> pb.RotateReply:
    """Close the old gallery and complete the new one, unless something was changed since all was converted.

    The old one is closed first, by a change of its own: from then on nothing can be missing in the new one.
    """
    async with on.agreement.changing(meeting, gallery) as old:
        progress, sources = await new.progress(), await new.sources(gallery)
        if not await new.is_complete() and not isinstance(progress.next_step(sources), Close):
            return _reply(new, progress, len(sources), done=False)
        if not gallery.is_closed:
            await old.commit(_mutation("closed", checked, {}, [], [], json.dumps({"templates": 0}), ""))
        gallery.successor = succession.key_id
        if not await new.is_complete():
            await sitting.commit(_mutation("rotated", checked, {}, [], [], json.dumps({"templates": 0}), ""))
        await succession.finish()
    return _reply(new, progress, len(sources), done=True)


async def _read(sources: Sequence[Source], gallery: Gallery) -> _Batch:
    places = [(pack, slot) for pack, slot, _ in sources]
    read = await gallery.records(places)
    records = [read.at(place) for place in places]
    subjects = [_subject(source, gallery) for source in sources]
    return _Batch(gallery.state, gallery.model or "", sources, subjects, records, await gallery.terms(places))


def _subject(source: Source, gallery: Gallery) -> str:
    return gallery.index.subject(source[0], source[1])


async def _convert(
    batch: _Batch,
    checked: CheckedRequest,
    request: request_pb2.SignedRequest,
    new: Successor,
    succession: Succession,
    sitting: Sitting,
    meeting: Meeting,
    on: Surroundings,
) -> bytes:
    """Convert the batch and commit it; return this organisation's share of which gated records were valid."""
    told = sum(record.by_device for record in batch.records)
    records = records_of(batch.records, on.scheme.parameters)
    async with on.open_session(checked, request, batch.state, records) as call:
        share = await call.template_shares(len(batch.sources), told)
    places = new.gallery.index.allocate(len(batch.sources))
    made = await contents(
        share, places, succession.scheme, succession.workers, meeting, is_plus=on.is_plus(checked.pair)
    )
    added = [
        Template(*place, subject, record, by_device=False, terms=terms)
        for place, subject, terms, (_, record) in zip(places, batch.subjects, batch.terms, made, strict=True)
    ]
    packs = {}
    for number in sorted({pack for pack, _ in places}):
        parts = [part for place, (both, _) in zip(places, made, strict=True) if place[0] == number for part in both]
        packs[number] = await succession.workers.apply(new.gallery.number, number, [*await new.pack(number), *parts])
    mutation = _mutation("rotate", checked, packs, added, [], converted_result(batch.sources, places), batch.model)
    await sitting.commit(mutation)
    _log.info("templates converted", gallery=new.gallery.name, templates=len(added))
    return share.valid


def _emptied(number: int, checked: CheckedRequest, new: Successor, succession: Succession) -> Mutation:
    """Return the mutation that takes every template of a pack away: what is left holds nothing at all."""
    index, parameters = new.gallery.index, succession.scheme.parameters
    nothing = succession.scheme.serialise(succession.scheme.encode(Integer(0))) * parameters.dimension
    removed = [(number, slot) for slot in index.occupied_in(number)]
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
    identity = digest("mutation", kind, checked.digest)
    return Mutation(kind, checked.nonce, identity, packs, added, removed, result, model, checked.device)


def _reply(new: Successor, progress: Progress, total: int, *, done: bool) -> pb.RotateReply:
    return pb.RotateReply(
        sequence=new.gallery.state.sequence,
        chain=new.gallery.state.chain,
        converted=len(progress.places),
        total=total,
        done=done,
    )
