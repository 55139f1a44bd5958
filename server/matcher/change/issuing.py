"""Issuing cards and revoking them: changes of a gallery that add nothing to its packs. docs/cards.md.

A card is issued as a template is enrolled, up to where it would be put: the key holders gate the vector, and each
matcher encrypts its part of the record from its share. Both write down who it is for and until when, agree on that by
its digest as on every change, and then sign it. The record goes to the device, and is kept by nobody here.
"""

from __future__ import annotations

from veilmatch.crypto.card import CONTEXT, DAY_S, CardStatement, serial_of
from veilmatch.crypto.consent import Consent
from veilmatch.crypto.errors import CardError, InvalidInputError
from veilmatch.crypto.gallery_change import mutation_identity
from veilmatch.protos.v1 import matcher_pb2 as pb
from veilmatch.protos.v1 import request_pb2
from veilmatch.server.admission.requests import CheckedRequest
from veilmatch.server.ground.finishing import to_the_end
from veilmatch.server.matcher.agreement.meeting import Meeting
from veilmatch.server.matcher.agreement.sitting import Sitting
from veilmatch.server.matcher.change.making import record_of
from veilmatch.server.matcher.change.mutating import bit, committed, mutation_of, repeated
from veilmatch.server.matcher.gallery.cards import Issued, revoked_result, serial_in
from veilmatch.server.matcher.gallery.gallery import Gallery
from veilmatch.server.matcher.gallery.mutation import LogEntry
from veilmatch.server.matcher.query.matching import Surroundings


async def issue(
    checked: CheckedRequest,
    request: request_pb2.SignedRequest,
    model: str,
    gallery: Gallery,
    meeting: Meeting,
    on: Surroundings,
    longest_days: int,
) -> pb.MutateReply:
    """Make a card for request.subject of an embedding of `model`; the reply has this organisation's signature.

    longest_days: that a card may be good for here. Raises InvalidInputError for more. To a retry the reply has the
    serial alone: the record was with the first answer, and is nowhere else.
    """
    if checked.card_expires_s - checked.made_s > longest_days * DAY_S:
        raise InvalidInputError(
            "a card would be good for longer than this organisation allows",
            got=f"{(checked.card_expires_s - checked.made_s) / DAY_S:.1f} days",
            expected=f"<= {longest_days} days",
            party=on.server.name,
        )
    ends_s = Consent.decode(request.consent).expires_s if request.consent else 0
    if ends_s and checked.card_expires_s > ends_s:
        raise InvalidInputError("a card would be good for longer than the consent that it is under", expected="its end")
    async with on.agreement.changing(meeting, gallery) as sitting:
        return await to_the_end(_issue(checked, request, model, gallery, sitting, meeting, on))


async def _issue(
    checked: CheckedRequest,
    request: request_pb2.SignedRequest,
    model: str,
    gallery: Gallery,
    sitting: Sitting,
    meeting: Meeting,
    on: Surroundings,
) -> pb.MutateReply:
    identity = mutation_identity(
        checked.device,
        checked.operation,
        checked.token,
        request.subject,
        model,
        str(checked.card_expires_s),
        *filter(None, [request.consent]),
    )
    if (done := await gallery.find_token(checked.token)) is not None:
        return await _done_before(done, identity, checked.token, gallery)
    gallery.require_changeable()
    async with on.open_session(checked, request, gallery.state) as call:
        share = await call.template_shares(1, told=1)
    record = await record_of(share, on.scheme, on.workers, meeting, is_plus=on.is_plus(checked.pair))
    statement = CardStatement(
        installation=on.public.installation,
        key_id=on.public.public_key.key_id,
        parameters=on.scheme.parameters,
        gallery=gallery.name,
        model=model,
        pair=checked.pair,
        serial=serial_of(share.session_id, checked.digest),
        subject_digest=checked.subject_digest,
        issued_s=checked.made_s,
        expires_s=checked.card_expires_s,
        record=record,
        consent_digest=checked.consent_digest,
    )
    issued = Issued(statement.serial, statement.digest(), statement.expires_s, checked.device)
    reply = await committed(mutation_of("card", checked, identity, result=issued.result), sitting, gallery)
    reply.valid_share = bit(share.valid)
    # Not before it is committed: what is signed can be revoked.
    reply.card.statement, reply.card.serial = statement.encode(), statement.serial
    reply.card.signature = on.organisation.sign(CONTEXT, statement.digest())
    return reply


async def revoke(checked: CheckedRequest, gallery: Gallery, meeting: Meeting, on: Surroundings) -> pb.MutateReply:
    """Revoke the card with the serial that the request names. Raises CardError if none was issued.

    A device whose right is to issue cards, and not to revoke them, may revoke those that it has issued.
    """
    async with on.agreement.changing(meeting, gallery) as sitting:
        return await to_the_end(_revoke(checked, gallery, sitting))


async def _revoke(checked: CheckedRequest, gallery: Gallery, sitting: Sitting) -> pb.MutateReply:
    serial = checked.card_serial
    identity = mutation_identity(checked.device, checked.operation, checked.token, serial)
    if (done := await gallery.find_token(checked.token)) is not None:
        return await _done_before(done, identity, checked.token, gallery)
    gallery.require_changeable()
    issued = gallery.cards.find(serial)
    if "revoke" not in checked.certified.rights and issued.device != checked.device:
        raise CardError("no card with this serial was issued by this device", got=serial.hex())
    if issued.is_revoked:
        # Nothing is changed: the log need not grow with what it says already.
        return pb.MutateReply(sequence=gallery.state.sequence, chain=gallery.state.chain)
    return await committed(
        mutation_of("card revoked", checked, identity, result=revoked_result(serial)), sitting, gallery
    )


async def _done_before(done: LogEntry, identity: bytes, token: bytes, gallery: Gallery) -> pb.MutateReply:
    reply = await repeated(done, identity, token, gallery)
    reply.card.serial = serial_in(done.result)
    return reply
