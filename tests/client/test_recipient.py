"""Queries for a recipient: the device carries what it cannot read, and notices what does not belong together."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from tests.client.conftest import FakeCapture, face
from tests.client.fakes import FakeMatchers, body_of
from veilmatch import AsyncClient, Client, DeviceSettings
from veilmatch.client.recipient import SealedResult
from veilmatch.crypto.errors import (
    ClientUseError,
    ConfigurationError,
    GalleryMismatchError,
    IntegrityError,
    InvalidInputError,
    RecipientCertificateError,
    UnknownSubjectError,
    VeilmatchError,
)
from veilmatch.crypto.keys.parties import PAIRS
from veilmatch.crypto.keys.recipient_certificate import RecipientCertificate, Statement
from veilmatch.crypto.requests import request_digest, subject_digest
from veilmatch.crypto.sealed_answer import SealedAnswer
from veilmatch.protos.v1 import matcher_pb2 as pb


def certificate(**changes: Any) -> RecipientCertificate:
    """Signed by two organisations, rightly or not: that is for the servers to find out."""
    key, now = X25519PrivateKey.generate().public_key().public_bytes_raw(), int(time.time())
    fields = {"not_before_s": now - 10, "not_after_s": now + 100_000} | changes
    said = Statement(bytes(16), "bank", key, serial=bytes(16), **fields)
    return RecipientCertificate(said, (("a", bytes(64)), ("c", bytes(64))))


BANK = certificate()


def seal(fakes: FakeMatchers) -> None:
    """Let both matchers answer as they do when a recipient is named."""

    def sealed(name: bytes) -> Callable[[pb.MatchReply], pb.MatchReply]:
        def change(reply: pb.MatchReply) -> pb.MatchReply:
            reply.share, reply.valid_share = b"", False
            reply.statement = b"statement of " + name if reply.count else b""
            return reply

        return change

    fakes.a.change, fakes.b.change, fakes.c.change = sealed(b"a"), sealed(b"b"), sealed(b"c")


@pytest.fixture(autouse=True)
def sealing(fakes: FakeMatchers) -> None:
    seal(fakes)
    fakes.templates = ["alice", "bob"]


async def test_a_verification_is_carried_and_not_read(client: AsyncClient, fakes: FakeMatchers) -> None:
    result = await client.for_recipient(BANK).verify_embedding("alice", face(1), model="m", challenge=b"c")
    (request,) = fakes.a.requests
    body = body_of(request)
    assert (body.recipient, body.challenge) == (BANK.statement.id, b"c")
    assert request.recipient_certificate == BANK.encode() and request == fakes.b.requests[0]
    assert (result.operation, result.requests) == ("verify", (request_digest(request.body),))
    answer = SealedAnswer.decode(result.export())
    assert answer.statements == ("statement of a", "statement of b") and answer.labels == ()
    assert subject_digest(answer.salt, "alice") == body.subject_digest


@pytest.mark.parametrize("operation", ["verify", "identify", "candidates", "known"])
async def test_an_assured_answer_has_the_statements_of_all_three_pairs(
    client: AsyncClient, fakes: FakeMatchers, operation: str
) -> None:
    recipient = client.for_recipient(BANK)
    subject = ["alice"] if operation == "verify" else []
    result = await getattr(recipient, f"{operation}_embedding")(*subject, face(1), model="m", assured=True)
    assert result.pairs == PAIRS and len(set(result.requests)) == 3
    assert [one[-1] for one in result.answer.statements] == list("abacbc")
    asked = {body_of(request).pair for request in (*fakes.a.requests, *fakes.b.requests)}
    assert asked == set(PAIRS)


@pytest.mark.parametrize("operation", ["identify", "candidates"])
async def test_a_search_carries_its_subjects_and_asks_for_them_once(
    client: AsyncClient, fakes: FakeMatchers, operation: str
) -> None:
    recipient = client.for_recipient(BANK)
    for _ in range(2):
        result = await getattr(recipient, f"{operation}_embedding")(face(1), model="m")
        assert result.answer.labels == ("alice", "bob") and result.answer.salt == b""
    assert fakes.a.known_chains == [b"", fakes.chain]


async def test_the_subject_is_sent_composed(client: AsyncClient, fakes: FakeMatchers) -> None:
    fakes.templates = ["ren\u00e9"]
    result = await client.for_recipient(BANK).verify_embedding("rene\u0301", face(1), model="m")
    assert fakes.a.requests[0].subject == "ren\u00e9"
    assert subject_digest(result.answer.salt, "ren\u00e9") == body_of(fakes.a.requests[0]).subject_digest


async def test_photos_are_captured(client: AsyncClient, fakes: FakeMatchers) -> None:
    recipient = client.for_recipient(BANK)
    for result in (
        await recipient.verify("alice", "a.jpg"), await recipient.identify("a.jpg"),
        await recipient.candidates("a.jpg"),
    ):  # fmt: skip
        assert len(result.answer.statements) == 2


async def test_a_result_is_neither_yes_nor_no(client: AsyncClient) -> None:
    result = await client.for_recipient(BANK).verify_embedding("alice", face(1), model="m")
    with pytest.raises(ClientUseError, match="only the recipient learns"):
        bool(result)
    assert "statement" not in repr(result)
    assert not {"decision", "subject", "shares", "bits"} & set(dir(result))


async def test_without_a_recipient_nothing_is_asked_of_the_servers(client: AsyncClient, fakes: FakeMatchers) -> None:
    fakes.a.change = fakes.b.change = lambda reply: reply
    await client.verify_embedding("alice", face(1), model="m")
    assert body_of(fakes.a.requests[0]).recipient == fakes.a.requests[0].recipient_certificate == b""


def set_field(name: str, value: Any) -> Callable[[pb.MatchReply], None]:
    return lambda reply: setattr(reply, name, value)


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (set_field("statement", b""), IntegrityError),
        (set_field("statement", "é".encode()), IntegrityError),
        (set_field("share", b"\1"), IntegrityError),
        (set_field("valid_share", True), IntegrityError),
        (set_field("session_id", bytes(32)), IntegrityError),
        (set_field("session_id", b"short"), IntegrityError),
        (set_field("count", 2), IntegrityError),
        (set_field("sequence", 9), GalleryMismatchError),
        (set_field("chain", bytes(31)), GalleryMismatchError),
        (lambda reply: reply.labels.append("eve"), IntegrityError),
    ],
)
async def test_replies_that_do_not_belong_together_are_no_answer(
    client: AsyncClient, fakes: FakeMatchers, change: Callable[[pb.MatchReply], None], kind: type[VeilmatchError]
) -> None:
    before = fakes.b.change

    def spoilt(reply: pb.MatchReply) -> pb.MatchReply:
        reply = before(reply)
        change(reply)
        return reply

    fakes.b.change = spoilt
    with pytest.raises(kind):
        await client.for_recipient(BANK).verify_embedding("alice", face(1), model="m")


async def test_an_empty_gallery_has_nothing_to_state(client: AsyncClient, fakes: FakeMatchers) -> None:
    fakes.templates = []
    with pytest.raises(UnknownSubjectError, match="empty"):
        await client.for_recipient(BANK).identify_embedding(face(1), model="m")


async def test_what_cannot_be_asked_is_said_before_anything_is_sent(client: AsyncClient, fakes: FakeMatchers) -> None:
    recipient = client.for_recipient(BANK)
    with pytest.raises(InvalidInputError):
        await recipient.verify_embedding("alice", face(1), model="m", challenge=bytes(65))
    with pytest.raises(ClientUseError):
        await recipient.verify_embedding("alice", face(1), model="m", challenge="text")  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError):
        await recipient.verify_embedding("", face(1), model="m")
    await client.aclose()
    with pytest.raises(ClientUseError):
        await recipient.identify_embedding(face(1), model="m")
    assert fakes.a.requests == []


def test_certificates_that_servers_would_refuse_are_refused_here(settings: DeviceSettings, tmp_path: Path) -> None:
    client = AsyncClient(settings)
    path = tmp_path / "bank.cert"
    with pytest.raises(ConfigurationError):
        client.for_recipient(path)
    for data, words in (
        (b"{}", r"bank\.cert"),
        (RecipientCertificate(BANK.statement).encode(), "too few"),
        (RecipientCertificate(BANK.statement, BANK.signatures[:1]).encode(), "too few"),
        (certificate(not_before_s=1, not_after_s=2).encode(), "expired"),
    ):
        path.write_bytes(data)
        with pytest.raises(RecipientCertificateError, match=words):
            client.for_recipient(path)
    path.write_bytes(BANK.encode())
    assert client.for_recipient(str(path)) is not None


def test_the_synchronous_client_does_the_same(settings: DeviceSettings, fakes: FakeMatchers) -> None:
    with Client(settings, matchers=fakes.all, capture=FakeCapture()) as client:
        recipient = client.for_recipient(BANK)
        results = [
            recipient.verify("alice", "a.jpg", challenge=b"c"), recipient.identify("a.jpg", challenge=b"c"),
            recipient.candidates("a.jpg", challenge=b"c"), recipient.known("a.jpg", challenge=b"c"),
            recipient.verify_embedding("alice", face(1), model="m", challenge=b"c"),
            recipient.identify_embedding(face(1), model="m", challenge=b"c"),
            recipient.candidates_embedding(face(1), model="m", challenge=b"c"),
            recipient.known_embedding(face(1), model="m", challenge=b"c"),
        ]  # fmt: skip
    assert [one.operation for one in results] == ["verify", "identify", "candidates", "known"] * 2
    assert all(isinstance(one, SealedResult) for one in results)
    assert {body_of(request).challenge for request in fakes.a.requests} == {b"c"}
