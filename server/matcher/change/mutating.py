"""Changes of a gallery at a matcher: enrol, erase and bulk, accepted and signed by the two of the pair, or by neither.

docs/protocol.md. enrol and erase get this matcher's share of the template from its key holder; each matcher
encrypts its own part of the column and of the record, they exchange and multiply both in. Then both accept the change
and commit it (`agreement.sitting`); what a crash interrupts is finished at the next meeting. A change whose device
leaves before both galleries are held is dropped; afterwards it is done to the end, and all that the request holds is
held until then.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass

from veilmatch.crypto.digests import digest, digest_all
from veilmatch.crypto.errors import DuplicateTokenError, UnknownSubjectError
from veilmatch.protos.v1 import matcher_pb2 as pb
from veilmatch.protos.v1 import request_pb2
from veilmatch.server.admission.requests import CheckedRequest
from veilmatch.server.ground.finishing import to_the_end
from veilmatch.server.matcher.agreement.meeting import Meeting
from veilmatch.server.matcher.agreement.sitting import Sitting
from veilmatch.server.matcher.change.making import contents
from veilmatch.server.matcher.gallery.disk.reading import Snapshot
from veilmatch.server.matcher.gallery.gallery import Gallery
from veilmatch.server.matcher.gallery.mutation import LogEntry, Mutation, Record, Template
from veilmatch.server.matcher.query.matching import Surroundings
from veilmatch.server.matcher.query.records import pieces, records_of

#: Both matchers must have received a whole bulk stream before they meet.
_BULK_PATIENCE = 6.0


@dataclass(frozen=True)
class ReadyPack:
    """A pack of a bulk enrolment: D ciphertexts joined, and (subject, record) of slot 0, 1, ..."""

    ciphertexts: bytes
    templates: Sequence[tuple[str, bytes]]


async def enrol(
    checked: CheckedRequest,
    request: request_pb2.SignedRequest,
    model: str,
    gallery: Gallery,
    meeting: Meeting,
    on: Surroundings,
) -> pb.MutateReply:
    """Add one template of request.subject, an embedding of `model`, in the lowest free slot.

    Column and record are made from both matchers' shares of the vector, or of zero if it is not valid: no server knows
    which. The reply has this organisation's share of that bit, for the device.
    """
    async with on.agreement.changing(meeting, gallery) as sitting:
        return await to_the_end(_enrol(checked, request, model, gallery, sitting, meeting, on))


async def _enrol(
    checked: CheckedRequest,
    request: request_pb2.SignedRequest,
    model: str,
    gallery: Gallery,
    sitting: Sitting,
    meeting: Meeting,
    on: Surroundings,
) -> pb.MutateReply:
    identity = _identity(checked, request.subject, model)
    if (done := await gallery.find_token(checked.token)) is not None:
        reply = await _done_before(done, identity, checked.token, gallery)
        reply.valid_share = await _valid_again(checked, request, gallery, on)
        return reply
    gallery.require_changeable()
    gallery.require_model(model)
    places = gallery.index.allocate(1)
    async with on.open_session(checked, request, gallery.state) as call:
        share = await call.template_shares(1, told=1)
    ((number, _),) = places
    ((parts, record),) = await contents(share, places, on.scheme, on.workers, meeting, is_plus=on.is_plus(checked.pair))
    pack = await on.workers.apply(gallery.number, number, parts)
    template = Template(*places[0], request.subject, record, by_device=False)
    mutation = Mutation(
        "enrol", checked.token, identity, {number: pack}, [template], [], _result(1), model, checked.device
    )
    reply = await _committed(mutation, sitting, gallery)
    reply.valid_share = _bit(share.valid)
    return reply


async def _valid_again(
    checked: CheckedRequest, request: request_pb2.SignedRequest, gallery: Gallery, on: Surroundings
) -> bool:
    """Return this organisation's share, for the device, of whether what it enrols is a vector.

    Nobody keeps the first answer, and any pair may be asked again. What is gated is what the device sends, as the first
    time, and nothing of it is stored. Never the record: a matcher that put somebody else's into its half could have it
    gated as often as it likes, by a device that may not even verify. Of a template that is gone the device is told
    that, and nothing else.
    """
    if not await gallery.places_of(checked.token):
        return on.is_plus(checked.pair)
    async with on.open_session(checked, request, gallery.state) as call:
        share = await call.template_shares(1, told=1)
    return _bit(share.valid)


async def erase(
    checked: CheckedRequest, request: request_pb2.SignedRequest, gallery: Gallery, meeting: Meeting, on: Surroundings
) -> pb.MutateReply:
    """Take every template of request.subject out of its pack and delete its record; or those of one enrolment.

    What is taken out is what the record holds. Of a record that a device encrypted (bulk enrolment) that need not be
    what the column holds, so its slot is given up: no query asks for it again.

    Records are read before the gallery is held: one that is damaged at one matcher ends the request at both then,
    and not the other matcher's patience with a session that never begins, while everybody else waits.
    """
    read = await gallery.records(await _named(checked, request.subject, gallery))
    async with on.agreement.changing(meeting, gallery) as sitting:
        return await to_the_end(_erase(checked, request, read, gallery, sitting, meeting, on))


async def _erase(
    checked: CheckedRequest,
    request: request_pb2.SignedRequest,
    read: Snapshot,
    gallery: Gallery,
    sitting: Sitting,
    meeting: Meeting,
    on: Surroundings,
) -> pb.MutateReply:
    identity = _identity(checked, request.subject, checked.enrolment)
    if (done := await gallery.find_token(checked.token)) is not None:
        return await _done_before(done, identity, checked.token, gallery)
    gallery.require_changeable()
    places = await _to_erase(checked, request.subject, gallery)
    read = await gallery.records(places, read)
    found = [read.at(place) for place in places]
    packs = await _without(places, found, checked, request, meeting, gallery, on)
    retired = [place for place, record in zip(places, found, strict=True) if record.by_device]
    mutation = Mutation(
        "erase", checked.token, identity, packs, [], places, _result(len(places)), "", checked.device, retired
    )
    return await _committed(mutation, sitting, gallery)


async def _without(
    places: Sequence[tuple[int, int]],
    records: Sequence[Record],
    checked: CheckedRequest,
    request: request_pb2.SignedRequest,
    meeting: Meeting,
    gallery: Gallery,
    on: Surroundings,
) -> dict[int, bytes]:
    """Return the packs of these places without the templates there, which these are the records of."""
    parameters = on.scheme.parameters
    async with on.open_session(checked, request, gallery.state, records_of(records, parameters)) as call:
        share = await call.template_shares(len(places), told=0)
    columns = [
        await on.workers.column(values, slot, is_plus=on.is_plus(checked.pair), erase=True)
        for values, (_, slot) in zip(share.values, places, strict=True)
    ]
    theirs = await meeting.swap_columns(share.session_id, b"".join(columns))
    with meeting.of_peer():
        await asyncio.to_thread(on.scheme.parse_many, pieces(theirs, parameters.ciphertext_bytes))
    others = pieces(theirs, parameters.dimension * parameters.ciphertext_bytes)
    both = [(pack, [mine, other]) for (pack, _), mine, other in zip(places, columns, others, strict=True)]
    return {
        pack: await on.workers.apply(gallery.number, pack, [c for at, parts in both if at == pack for c in parts])
        for pack in sorted({pack for pack, _ in places})
    }


async def _named(checked: CheckedRequest, subject: str, gallery: Gallery) -> list[tuple[int, int]]:
    """Return the places whose records the request is going to need, as far as is known now; none if it was done."""
    if await gallery.find_token(checked.token) is not None:
        return []
    return await gallery.places_of(checked.enrolment) if checked.enrolment else gallery.index.slots_of(subject)


async def _to_erase(checked: CheckedRequest, subject: str, gallery: Gallery) -> list[tuple[int, int]]:
    """Return the places to free. Raises UnknownSubjectError if there is none.

    One enrolment may be taken back by the device that made it, whatever else it may erase.
    """
    if not checked.enrolment:
        return gallery.index.require(subject)
    done = await gallery.find_token(checked.enrolment)
    own = done is not None and (done.kind, done.device) == ("enrol", checked.device)
    places = await gallery.places_of(checked.enrolment) if own else []
    if not places or any(gallery.index.subject(*place) != subject for place in places):
        raise UnknownSubjectError("the gallery has no template of this subject from that enrolment of this device")
    return places


async def enrol_bulk(
    checked: CheckedRequest, ready: Sequence[ReadyPack], model: str, gallery: Gallery, on: Surroundings
) -> pb.MutateReply:
    """Append ready packs of embeddings of `model`, already checked, after the last pack."""
    async with (
        on.meetings.about(checked.digest, checked.pair, _BULK_PATIENCE) as meeting,
        on.agreement.changing(meeting, gallery) as sitting,
    ):
        return await to_the_end(_append(checked, ready, model, gallery, sitting))


async def _append(
    checked: CheckedRequest, ready: Sequence[ReadyPack], model: str, gallery: Gallery, sitting: Sitting
) -> pb.MutateReply:
    subjects = [subject.encode() for pack in ready for subject, _ in pack.templates]
    identity = _identity(checked, digest_all("subjects", subjects), model)
    if (done := await gallery.find_token(checked.token)) is not None:
        return await _done_before(done, identity, checked.token, gallery)
    gallery.require_changeable()
    gallery.require_model(model)
    numbers = gallery.index.allocate_packs(len(ready))
    added = [
        Template(number, slot, subject, record, by_device=True)
        for number, pack in zip(numbers, ready, strict=True)
        for slot, (subject, record) in enumerate(pack.templates)
    ]
    packs = {number: pack.ciphertexts for number, pack in zip(numbers, ready, strict=True)}
    mutation = Mutation("bulk", checked.token, identity, packs, added, [], _result(len(added)), model, checked.device)
    return await _committed(mutation, sitting, gallery)


async def _committed(mutation: Mutation, sitting: Sitting, gallery: Gallery) -> pb.MutateReply:
    """Let both accept and commit the mutation, and say so."""
    chain = await sitting.commit(mutation)
    templates = len(mutation.added) or len(mutation.removed)
    return pb.MutateReply(sequence=gallery.state.sequence, chain=chain, templates=templates)


def _identity(checked: CheckedRequest, *what: bytes | str) -> bytes:
    """Return what a retry has to have in common with its first attempt: device, operation, token and what it names.

    The token is in it so that nobody guesses a subject's name from it later.
    """
    return digest("mutation", checked.device, checked.operation, checked.token, *what)


async def _done_before(done: LogEntry, identity: bytes, token: bytes, gallery: Gallery) -> pb.MutateReply:
    """Answer a retry with what its first attempt did, and how much of that is still there.

    The chain is left out: later mutations may have moved it on.
    """
    if done.request_digest != identity:
        raise DuplicateTokenError("the token was used for another mutation", expected="a token for this mutation alone")
    templates = json.loads(done.result)["templates"]
    return pb.MutateReply(
        sequence=done.sequence,
        templates=templates,
        repeated=True,
        present=len(await gallery.places_of(token)),
    )


def _bit(valid_share: bytes) -> bool:
    return bool(valid_share and valid_share[0] & 1)


def _result(templates: int) -> str:
    return json.dumps({"templates": templates})
