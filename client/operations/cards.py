"""Cards at the servers: issued for one subject, presented with a probe in `queries.py`, and revoked by their serial."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from veilmatch.client.card import Card
from veilmatch.client.given.arguments import checked_token, finite_seconds
from veilmatch.client.operations.device import Device, Embedding
from veilmatch.client.results import Revocation
from veilmatch.client.wire import agreement
from veilmatch.client.wire.connection import Answered, Connection, Opening
from veilmatch.client.wire.signing import Draft
from veilmatch.crypto.card import DAY_S, SERIAL_BYTES, CardStatement, SignedCard
from veilmatch.crypto.consent import Consent
from veilmatch.crypto.errors import CardError, InvalidInputError, ServerDeviationError, VeilmatchError
from veilmatch.crypto.versions import Feature
from veilmatch.protos.v1 import matcher_pb2, request_pb2

#: A card whose record was lost on its way is revoked and issued anew, so many times in all.
_ATTEMPTS = 3

_O = TypeVar("_O")


class CardDesk:
    """One device's cards of one gallery. now: the clock, Unix time in seconds."""

    def __init__(self, device: Device, connection: Connection, timeout_s: float, now: Callable[[], float]) -> None:
        self._device = device
        self._connection = connection
        self._timeout_s = timeout_s
        self._now = now

    async def issue(
        self,
        subject: str,
        embedding: Embedding,
        model: str,
        days: float,
        consent: Consent | None,
        timeout_s: float | None,
    ) -> Card:
        """Return a card for an embedding. See AsyncClient.issue."""
        ends = time.monotonic() + self._limit(timeout_s)
        expires_s = int(self._now() + days * DAY_S)
        if consent is not None and consent.has_ended(self._now()):
            raise InvalidInputError("the consent has ended", expected="one that counts when it is given")
        if consent is not None and consent.expires_s:
            # Nothing is compared under a consent that has ended.
            expires_s = min(expires_s, consent.expires_s)
        lanes = await self._device.lanes(embedding)
        await self._connection.require(Feature.CARDS, "issuing a card")
        for _ in range(_ATTEMPTS):
            draft = Draft(
                request_pb2.OPERATION_ISSUE, lanes, subject=subject, token=checked_token(None), model=model, dated=True,
                card_expires_s=expires_s, consent=consent.encode() if consent else b"",
            )  # fmt: skip
            answered = await self._mutate(draft, max(ends - time.monotonic(), 0.001), agreement.opened_card)
            reply, signatures, valid = answered.opened
            if signatures is not None and valid:
                return self._card(draft, reply.card.statement, signatures, consent)
            # An answer on the way was lost with its record, or the record is an empty one: nobody is to have it.
            await self._revoke(reply.card.serial, max(ends - time.monotonic(), 0.001))
            if signatures is not None:
                raise agreement.refused_vector((), answered.request_id)
        raise VeilmatchError("the servers' answers were lost on their way, again and again", got=_ATTEMPTS)

    def _card(self, draft: Draft, statement: bytes, signatures: tuple[bytes, bytes], consent: Consent | None) -> Card:
        """Return the card of what both matchers answered, if that is what was asked for."""
        try:
            said = CardStatement.decode(statement)
            card = Card(SignedCard(said, signatures), draft.subject, draft.salt, consent)
            self._device.check_card(card)
        except VeilmatchError as error:
            raise ServerDeviationError("the servers issued a card that is not one", got=error.message) from None
        if (said.model, said.expires_s) != (draft.model, draft.card_expires_s):
            raise ServerDeviationError("the servers issued another card than was asked for", got="model or end")
        return card

    async def revoke(self, serial: str, timeout_s: float | None) -> Revocation:
        """Revoke a card. serial: 32 hex digits. See AsyncClient.revoke_card."""
        try:
            data = bytes.fromhex(serial)
        except (ValueError, TypeError):
            data = b""
        if len(data) != SERIAL_BYTES:
            raise InvalidInputError("not the serial of a card", expected=f"{2 * SERIAL_BYTES} hex digits")
        await self._connection.require(Feature.CARDS, "revoking a card")
        answered = await self._revoke(data, self._limit(timeout_s))
        return Revocation(data.hex(), answered.opened.sequence, answered.request_id)

    async def _revoke(self, serial: bytes, left_s: float) -> Answered[matcher_pb2.MutateReply, matcher_pb2.MutateReply]:
        draft = Draft(request_pb2.OPERATION_REVOKE, token=checked_token(None), dated=True, card_serial=serial)
        return await self._mutate(draft, left_s, agreement.agreed_mutation)

    async def _mutate(
        self, draft: Draft, left_s: float, opening: Opening[matcher_pb2.MutateReply, _O]
    ) -> Answered[matcher_pb2.MutateReply, _O]:
        return await self._connection.ask(
            draft, left_s, lambda matcher, signed, left: matcher.mutate(signed, left), opening
        )

    def _limit(self, timeout_s: float | None) -> float:
        return finite_seconds(self._timeout_s if timeout_s is None else timeout_s)


async def require_presentable(card: Card, device: Device, connection: Connection) -> None:
    """Raise VersionError unless all matchers that answer know cards, KeyMismatchError if the card is under another key,
    CardError if it is of another installation or gallery."""
    device.require_own_key(card)
    if card.gallery != device.gallery:
        raise CardError("a card of another gallery", got=card.gallery, expected=device.gallery)
    await connection.require(Feature.CARDS, "presenting a card")
