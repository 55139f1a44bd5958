"""Changes of a gallery at a matcher: enrol, erase and bulk, committed by both matchers or by neither.

DESIGN.md section 6. enrol and erase get this matcher's share of the template from its key holder;
each matcher encrypts its own part of the column, they exchange and multiply both in. Then both
prepare durably, compare, and commit; what a crash interrupts is settled at the next meeting.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from veilmatch.crypto.digests import digest, digest_all
from veilmatch.crypto.errors import DuplicateTokenError, GalleryMismatchError
from veilmatch.protos.v1 import matcher_pb2 as pb
from veilmatch.protos.v1 import request_pb2
from veilmatch.server.matcher.agreement.meeting import Meeting
from veilmatch.server.matcher.gallery.gallery import Gallery
from veilmatch.server.matcher.gallery.mutation import LogEntry, Mutation, Template
from veilmatch.server.matcher.query.matching import Surroundings
from veilmatch.server.transport.requests import CheckedRequest

Place = tuple[int, int]
#: Both matchers must have received a whole bulk stream before they meet.
_BULK_PATIENCE = 6.0


@dataclass(frozen=True)
class ReadyPack:
    """A pack of a bulk enrolment: D ciphertexts joined, and (subject, record) of slot 0, 1, ..."""

    ciphertexts: bytes
    templates: Sequence[tuple[str, bytes]]


async def enrol(
    checked: CheckedRequest, request: request_pb2.SignedRequest, model: str, gallery: Gallery, on: Surroundings
) -> pb.MutateReply:
    """Add one template of request.subject, an embedding of `model`, in the lowest free slot."""
    identity = digest("mutation", "enrol", request.subject, model)
    async with (
        on.meetings.about(checked.digest) as meeting,
        on.meetings.agreed(meeting, gallery, gallery.lock.exclusive),
    ):
        if (done := await gallery.find_token(checked.token)) is not None:
            return _done_before(done, identity)
        gallery.require_changeable()
        gallery.require_model(model)
        (place,) = gallery.index.allocate(1)
        async with on.open_session(checked, request, gallery.state) as call:
            share = await call.lane_share(1)
        size = on.scheme.parameters.ciphertext_bytes
        column = await on.workers.column(share.values, place[1], is_plus=on.is_plus(checked.pair), erase=False)
        mine = column + await on.workers.zeros(len(request.ciphertexts))
        theirs = await meeting.swap_columns(share.session_id, mine)
        on.scheme.parse_many(pieces(theirs, size))
        pack = await on.workers.apply(gallery.number, place[0], [column, theirs[: len(column)]])
        record = [
            on.scheme.multiply(c, on.scheme.multiply(x, y))
            for c, x, y in zip(
                on.scheme.parse_many(list(request.ciphertexts)),
                on.scheme.parse_many(pieces(mine[len(column) :], size)),
                on.scheme.parse_many(pieces(theirs[len(column) :], size)),
                strict=True,
            )
        ]
        template = Template(*place, request.subject, b"".join(map(on.scheme.serialise, record)))
        mutation = Mutation("enrol", checked.token, identity, {place[0]: pack}, [template], [], _result(1), model)
        return await commit_both(mutation, meeting, gallery)


async def erase(
    checked: CheckedRequest, request: request_pb2.SignedRequest, gallery: Gallery, on: Surroundings
) -> pb.MutateReply:
    """Take every template of request.subject out of its pack and delete its record.

    The column of one whose record is not valid stays: what the record says is not what the column holds, so that
    subtracting it would change others. Its slot is given up instead, and no query asks for it again.
    """
    identity = digest("mutation", "erase", request.subject)
    parameters = on.scheme.parameters
    async with (
        on.meetings.about(checked.digest) as meeting,
        on.meetings.agreed(meeting, gallery, gallery.lock.exclusive),
    ):
        if (done := await gallery.find_token(checked.token)) is not None:
            return _done_before(done, identity)
        gallery.require_changeable()
        places = gallery.index.require(request.subject)
        records = [await gallery.record(*place) for place in places]
        lanes = [c for record in records for c in pieces(record, parameters.ciphertext_bytes)]
        async with on.open_session(checked, request, gallery.state, lanes) as call:
            share = await call.lane_share(len(places))
        valid = [place for place, is_valid in zip(places, share.valid, strict=True) if is_valid]
        retired = sorted(set(places) - set(valid))
        columns = [
            await on.workers.column(values, slot, is_plus=on.is_plus(checked.pair), erase=True)
            for values, (_, slot) in zip(share.values.reshape(-1, parameters.dimension), valid, strict=True)
        ]
        theirs = await meeting.swap_columns(share.session_id, b"".join(columns)) if columns else b""
        on.scheme.parse_many(pieces(theirs, parameters.ciphertext_bytes))
        others = pieces(theirs, parameters.dimension * parameters.ciphertext_bytes)
        both = [(pack, [mine, other]) for (pack, _), mine, other in zip(valid, columns, others, strict=True)]
        packs = {
            pack: await on.workers.apply(gallery.number, pack, [c for at, parts in both if at == pack for c in parts])
            for pack in sorted({pack for pack, _ in places})
        }
        mutation = Mutation("erase", checked.token, identity, packs, [], places, _result(len(places)), "", retired)
        return await commit_both(mutation, meeting, gallery)


async def enrol_bulk(
    checked: CheckedRequest, ready: Sequence[ReadyPack], model: str, gallery: Gallery, on: Surroundings
) -> pb.MutateReply:
    """Append ready packs of embeddings of `model`, already checked, after the last pack."""
    subjects = [subject.encode() for pack in ready for subject, _ in pack.templates]
    identity = digest("mutation", "bulk", digest_all("subjects", subjects), model)
    async with (
        on.meetings.about(checked.digest, _BULK_PATIENCE) as meeting,
        on.meetings.agreed(meeting, gallery, gallery.lock.exclusive),
    ):
        if (done := await gallery.find_token(checked.token)) is not None:
            return _done_before(done, identity)
        gallery.require_changeable()
        gallery.require_model(model)
        numbers = gallery.index.allocate_packs(len(ready))
        added = [
            Template(number, slot, subject, record)
            for number, pack in zip(numbers, ready, strict=True)
            for slot, (subject, record) in enumerate(pack.templates)
        ]
        packs = {number: pack.ciphertexts for number, pack in zip(numbers, ready, strict=True)}
        mutation = Mutation("bulk", checked.token, identity, packs, added, [], _result(len(added)), model)
        return await commit_both(mutation, meeting, gallery)


async def commit_both(mutation: Mutation, meeting: Meeting, gallery: Gallery) -> pb.MutateReply:
    """Prepare here, see that the other prepared the same, commit; the leader commits first.

    If the other matcher is lost on the way the mutation stays pending, and the next meeting commits
    or discards it at both.
    """
    chain = await gallery.prepare(mutation)
    theirs = await meeting.swap_states(gallery.to_wire, "prepared")
    if theirs.pending_chain != chain:
        # Both sides see this, so neither commits.
        await gallery.discard()
        raise GalleryMismatchError("the two matchers prepared different mutations")
    if meeting.leads:
        await gallery.commit(mutation, chain)
        await meeting.swap_states(gallery.to_wire, "committed")
    else:
        await meeting.receive_state("committed")
        await gallery.commit(mutation, chain)
        await meeting.send_state(gallery.to_wire(), "committed")
    templates = len(mutation.added) or len(mutation.removed)
    return pb.MutateReply(sequence=gallery.state.sequence, chain=chain, templates=templates)


def _done_before(done: LogEntry, identity: bytes) -> pb.MutateReply:
    """Answer a retry with what its first attempt did. The chain is left out: later mutations may have moved it on."""
    if done.request_digest != identity:
        raise DuplicateTokenError("the token was used for another mutation", expected="a token for this mutation alone")
    return pb.MutateReply(sequence=done.sequence, templates=json.loads(done.result)["templates"])


def _result(templates: int) -> str:
    return json.dumps({"templates": templates})


def pieces(data: bytes, size: int) -> list[bytes]:
    """Cut `data` into pieces of this size."""
    return [data[i : i + size] for i in range(0, len(data), size)]
