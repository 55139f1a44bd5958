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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from veilmatch.crypto.consent import Consent
from veilmatch.crypto.digests import digest_all
from veilmatch.crypto.errors import DuplicateTokenError, UnknownSubjectError
from veilmatch.crypto.gallery_change import mutation_identity, token_digest
from veilmatch.crypto.pair.unless_known import TOLD_BITS
from veilmatch.crypto.terms import Terms
from veilmatch.protos.v1 import matcher_pb2 as pb
from veilmatch.protos.v1 import request_pb2
from veilmatch.server.admission.requests import CheckedRequest
from veilmatch.server.ground.finishing import to_the_end
from veilmatch.server.matcher.agreement.meeting import Meeting
from veilmatch.server.matcher.agreement.sitting import Sitting
from veilmatch.server.matcher.change.making import Place, contents
from veilmatch.server.matcher.gallery.disk.reading import Snapshot
from veilmatch.server.matcher.gallery.gallery import Gallery
from veilmatch.server.matcher.gallery.mutation import Kind, LogEntry, Mutation, Record, Template
from veilmatch.server.matcher.query.keyholder_call import TemplateShares
from veilmatch.server.matcher.query.matching import Compared, Surroundings, pass_results
from veilmatch.server.matcher.query.records import pieces, records_of

#: Both matchers must have received a whole bulk stream before they meet.
_BULK_PATIENCE = 6.0


@dataclass(frozen=True)
class ReadyPack:
    """A pack of a bulk enrolment: D ciphertexts joined, and (subject, record) of slot 0, 1, ...

    consents: of each slot, encoded, b"" for none.
    """

    ciphertexts: bytes
    templates: Sequence[tuple[str, bytes]]
    consents: Sequence[bytes]


async def enrol(
    checked: CheckedRequest,
    request: request_pb2.SignedRequest,
    model: str,
    gallery: Gallery,
    meeting: Meeting,
    on: Surroundings,
) -> pb.MutateReply:
    """Add one template of request.subject, an embedding of `model`, in the lowest free slot.

    Column and record are made from both matchers' shares of the vector, or of zero if it is not valid, or known where
    it is to be enrolled only unless it is: no server knows which. The reply has this organisation's share of these two
    bits, for the device.

    What is known is about the gallery as the change finds it, which is held until the change is committed: of two
    devices that enrol one face at the same time, unless it is known, the second one finds it.
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
    unless = [f"unless known at {checked.threshold}, by {checked.views}"] if checked.unless_known else []
    identity = _identity(checked, request.subject, model, *filter(None, [request.consent]), *unless)
    if (done := await gallery.find_token(checked.token)) is not None:
        reply = await repeated(done, identity, checked.token, gallery)
        reply.valid_share, reply.known_share = await _told_again(done, checked, request, gallery, meeting, on)
        return reply
    gallery.require_changeable()
    gallery.require_model(model)
    places = gallery.index.allocate(1)
    share = await _shares(checked, request, gallery, meeting, on)
    ((number, _),) = places
    ((parts, record),) = await contents(share, places, on.scheme, on.workers, meeting, is_plus=on.is_plus(checked.pair))
    pack = await on.workers.apply(gallery.number, number, parts)
    template = Template(*places[0], request.subject, record, by_device=False, terms=_terms(checked, request.consent))
    mutation = mutation_of("enrol", checked, identity, {number: pack}, [template], model=model)
    reply = await committed(mutation, sitting, gallery)
    reply.valid_share, reply.known_share = _told(share.valid)
    return reply


async def _shares(
    checked: CheckedRequest,
    request: request_pb2.SignedRequest,
    gallery: Gallery,
    meeting: Meeting,
    on: Surroundings,
    without: Sequence[Place] = (),
) -> TemplateShares:
    """Return this matcher's shares of what the enrolment stores. without: templates that it is not compared with."""
    if not checked.unless_known:
        async with on.open_session(checked, request, gallery.state) as call:
            return await call.template_shares(1, told=1)
    packs, wanted = await asyncio.to_thread(gallery.index.asked, without)
    if not packs:
        # Where there is nobody, it is compared with a slot of zero: the session is the same, and nothing is known.
        wanted = np.arange(on.scheme.parameters.slots)[None] == 0
    compared = Compared(gallery.number, gallery.state, packs, wanted)
    async with on.open_session(checked, request, gallery.state, output_bits=1) as call:
        share = await call.probe_share(checked.views)
        await pass_results(share, compared, checked, call, meeting, on)
        return await call.template_shares(1, told=TOLD_BITS, conversions=checked.views * len(wanted))


async def _told_again(
    done: LogEntry,
    checked: CheckedRequest,
    request: request_pb2.SignedRequest,
    gallery: Gallery,
    meeting: Meeting,
    on: Surroundings,
) -> tuple[bool, bool]:
    """Return this organisation's shares, for the device, of whether what it enrols is a vector, and is known.

    Nobody keeps the first answer, and any pair may be asked again. What is gated is what the device sends, as the first
    time, and nothing of it is stored. Never the record: a matcher that put somebody else's into its half could have it
    gated as often as it likes, by a device that may not even verify. Of a template that is gone the device is told
    that, and nothing else.

    Known is about the gallery as it is now, without what the first attempt stored: so if another device has enrolled
    the face in between, it is known by that one. Where anything was erased in between, that may be what it was known
    by, and this would say that a template is there which is empty: then the request is refused.
    """
    own = await gallery.places_of(checked.token)
    if not own:
        return on.is_plus(checked.pair), False
    if checked.unless_known and await gallery.erased_after(done.sequence):
        raise DuplicateTokenError(
            "templates were erased since this token was used, so that nobody can say any more what was known then",
            expected="take_back of that enrolment, and another token",
        )
    share = await _shares(checked, request, gallery, meeting, on, own)
    return _told(share.valid)


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
        return await _with_change(await repeated(done, identity, checked.token, gallery), checked, gallery)
    gallery.require_changeable()
    places = await _to_erase(checked, request.subject, gallery)
    return await erased(places, checked, request, gallery, sitting, meeting, on, read)


async def erased(
    places: Sequence[Place],
    checked: CheckedRequest,
    request: request_pb2.SignedRequest,
    gallery: Gallery,
    sitting: Sitting,
    meeting: Meeting,
    on: Surroundings,
    read: Snapshot | None = None,
) -> pb.MutateReply:
    """Take the templates at these places out, in one change. read: their records, if they were read before."""
    identity = _identity(checked, request.subject, checked.enrolment)
    read = await gallery.records(places, read)
    found = [read.at(place) for place in places]
    packs = await _without(places, found, checked, request, meeting, gallery, on)
    retired = [place for place, record in zip(places, found, strict=True) if record.by_device]
    mutation = mutation_of("erase", checked, identity, packs, removed=places, retired=retired)
    return await _with_change(await committed(mutation, sitting, gallery), checked, gallery)


async def done_before(checked: CheckedRequest, gallery: Gallery) -> pb.MutateReply | None:
    """Return the answer to a retry of an erasure of what was due, None if this is none."""
    done = await gallery.find_token(checked.token)
    if done is None:
        return None
    identity = _identity(checked, "", b"")
    return await _with_change(await repeated(done, identity, checked.token, gallery), checked, gallery)


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
    consents = [consent for pack in ready for consent in pack.consents]
    under = [digest_all("consents", consents)] if any(consents) else []
    identity = _identity(checked, digest_all("subjects", subjects), model, *under)
    if (done := await gallery.find_token(checked.token)) is not None:
        return await repeated(done, identity, checked.token, gallery)
    gallery.require_changeable()
    gallery.require_model(model)
    numbers = gallery.index.allocate_packs(len(ready))
    added = [
        Template(number, slot, subject, record, by_device=True, terms=_terms(checked, consent))
        for number, pack in zip(numbers, ready, strict=True)
        for slot, ((subject, record), consent) in enumerate(zip(pack.templates, pack.consents, strict=True))
    ]
    packs = {number: pack.ciphertexts for number, pack in zip(numbers, ready, strict=True)}
    mutation = mutation_of("bulk", checked, identity, packs, added, model=model)
    return await committed(mutation, sitting, gallery)


def _terms(checked: CheckedRequest, consent: bytes) -> bytes:
    """Return what a template is kept under, encoded; nothing of an enrolment that is not dated."""
    return Terms(checked.made_s, Consent.decode(consent) if consent else None).encode() if checked.made_s else b""


def mutation_of(
    kind: Kind,
    checked: CheckedRequest,
    identity: bytes,
    packs: Mapping[int, bytes] = MappingProxyType({}),
    added: Sequence[Template] = (),
    removed: Sequence[Place] = (),
    retired: Sequence[Place] = (),
    model: str = "",
    result: str = "",
) -> Mutation:
    """Return the change that a request makes. result: for a retry, that of a change of templates unless it is given."""
    return Mutation(
        kind,
        token_digest(checked.token) if checked.made_s else checked.token,
        identity,
        packs,
        added,
        removed,
        result or _result(len(added) or len(removed)),
        model,
        checked.device,
        retired,
        checked.made_s,
    )


async def _with_change(reply: pb.MutateReply, checked: CheckedRequest, gallery: Gallery) -> pb.MutateReply:
    """Return the answer to an erasure with the change as it was signed, which is the device's receipt."""
    if checked.made_s:
        change, previous = await gallery.certified(reply.sequence)
        reply.change.sequence, reply.change.previous_chain = change.sequence, previous
        reply.change.body, reply.change.certificate = change.body, change.certificate
    return reply


async def committed(mutation: Mutation, sitting: Sitting, gallery: Gallery) -> pb.MutateReply:
    """Let both accept and commit the mutation, and say so."""
    chain = await sitting.commit(mutation)
    templates = len(mutation.added) or len(mutation.removed)
    return pb.MutateReply(sequence=gallery.state.sequence, chain=chain, templates=templates)


def _identity(checked: CheckedRequest, *what: bytes | str) -> bytes:
    """Return what a retry has to have in common with its first attempt: device, operation, token and what it names."""
    return mutation_identity(checked.device, checked.operation, checked.token, *what)


async def repeated(done: LogEntry, identity: bytes, token: bytes, gallery: Gallery) -> pb.MutateReply:
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


def bit(valid_share: bytes) -> bool:
    """Return the one bit of a share."""
    return bool(valid_share and valid_share[0] & 1)


def _told(valid_share: bytes) -> tuple[bool, bool]:
    """Return the shares of valid, and of known."""
    bits = valid_share[0] if valid_share else 0
    return bool(bits & 1), bool(bits & 2)


def _result(templates: int) -> str:
    return json.dumps({"templates": templates})
