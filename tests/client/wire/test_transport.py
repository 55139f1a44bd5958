"""Over real gRPC: errors arrive as they were raised, deadlines hold, and only the right matcher is talked to."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.client.conftest import face
from tests.client.fakes import FakeMatcher, FakeMatchers
from veilmatch import AsyncClient, DeviceSettings
from veilmatch.client.wire import transport
from veilmatch.client.wire.transport import GrpcMatcher, channel_options, open_matchers
from veilmatch.crypto.claims import ERROR_KEY
from veilmatch.crypto.errors import (
    BudgetExceededError,
    ConfigurationError,
    GalleryMismatchError,
    IntegrityError,
    OverloadedError,
    PartyRefusedError,
    ProtocolError,
    RequestRefusedError,
    UnavailableError,
    UnknownSubjectError,
    VeilmatchError,
)
from veilmatch.crypto.keys.parties import pairs_among
from veilmatch.protos.v1 import matcher_pb2 as pb
from veilmatch.protos.v1 import matcher_pb2_grpc as rpc
from veilmatch.protos.v1.request_pb2 import OPERATION_CANDIDATES, RequestBody, SignedRequest


class Servicer(rpc.MatcherServicer):
    """A fake matcher behind gRPC."""

    def __init__(self, fake: FakeMatcher) -> None:
        self.fake = fake

    #: How many labels or subjects one message has.
    at_once = 1 << 14

    async def Match(self, request: Any, context: Any) -> Any:
        reply = await self._typed(self.fake.match(request, 0), context)
        for part in self.parts(reply, "labels"):
            yield part

    async def Mutate(self, request: Any, context: Any) -> Any:
        return await self._typed(self.fake.mutate(request, 0), context)

    async def BulkEnrol(self, request_iterator: Any, context: Any) -> Any:
        chunks = [chunk async for chunk in request_iterator]
        return await self._typed(self.fake.bulk_enrol(chunks[0].header, [c.pack for c in chunks[1:]], 0), context)

    async def Subjects(self, request: Any, context: Any) -> Any:
        reply = await self._typed(self.fake.subjects(request, 0), context)
        for part in self.parts(reply, "subjects"):
            yield part

    def parts(self, reply: Any, field: str) -> Iterator[Any]:
        """Yield the messages of an answer."""
        more = list(getattr(reply, field))
        first = type(reply)()
        first.CopyFrom(reply)
        first.ClearField(field)
        for start in range(0, max(1, len(more)), self.at_once):
            getattr(first, field).extend(more[start : start + self.at_once])
            yield first
            first = type(reply)()

    async def _typed(self, work: Any, context: Any) -> Any:
        try:
            return await work
        except VeilmatchError as error:
            fields = json.dumps(error.fields()).encode()
            await context.abort(grpc.StatusCode.INTERNAL, error.message, ((ERROR_KEY, fields),))


@dataclass
class Server:
    fake: FakeMatcher
    matcher: GrpcMatcher
    servicer: Servicer

    def abort_with(self, code: grpc.StatusCode, metadata: Any = ()) -> None:
        """Let every call end with a status of gRPC's own."""

        async def answer(work: Any, context: Any) -> None:
            work.close()
            await context.abort(code, "details with an address", metadata)

        self.servicer._typed = answer  # type: ignore[method-assign]


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    fake = FakeMatchers().a
    servicer, server = Servicer(fake), grpc.aio.server()
    rpc.add_MatcherServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    matcher = GrpcMatcher("matcher-a", lambda: grpc.aio.insecure_channel(f"127.0.0.1:{port}"), "here")
    yield Server(fake, matcher, servicer)
    await matcher.close()
    await server.stop(None)


async def subjects(matcher: GrpcMatcher, timeout_s: float = 5) -> pb.SubjectsReply:
    return await matcher.subjects(SignedRequest(), timeout_s)


async def test_an_answer_in_many_messages_is_one(server: Server) -> None:
    server.fake.fakes.templates = [f"s{i}" for i in range(10)]
    server.servicer.at_once = 3
    search = pb.MatchRequest(
        request=SignedRequest(body=RequestBody(operation=OPERATION_CANDIDATES).SerializeToString())
    )
    reply = await server.matcher.match(search, 5)
    assert (list(reply.labels), reply.count) == (server.fake.fakes.templates, 10)
    found = await subjects(server.matcher)
    assert [(one.subject, one.templates) for one in found.subjects] == [(f"s{i}", 1) for i in range(10)]


@pytest.mark.parametrize(
    "more",
    [
        pb.SubjectsReply(),
        pb.SubjectsReply(sequence=1),
        pb.SubjectsReply(chain=b"c", subjects=[pb.Subject(subject="x")]),
    ],
)
async def test_an_answer_that_goes_on_with_something_else_is_refused(server: Server, more: pb.SubjectsReply) -> None:
    server.servicer.parts = lambda reply, field: iter([reply, more])  # type: ignore[method-assign,assignment]
    with pytest.raises(IntegrityError, match="goes on with something else"):
        await subjects(server.matcher)


async def test_an_answer_without_end_or_without_a_message_is_refused(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = pb.SubjectsReply(subjects=[pb.Subject(subject="x")])
    server.servicer.parts = lambda reply, field: itertools.repeat(one)  # type: ignore[method-assign,assignment]
    for limit in ("ANSWER_BYTES", "SUBJECTS_MOST"):
        with monkeypatch.context() as patched:
            patched.setattr(transport, limit, 1000)
            with pytest.raises(IntegrityError, match="more subjects than any gallery has"):
                await subjects(server.matcher)
    server.servicer.parts = lambda reply, field: iter([])  # type: ignore[method-assign,assignment]
    with pytest.raises(IntegrityError, match="without a message"):
        await subjects(server.matcher)


@pytest.mark.parametrize(
    "error",
    [
        UnknownSubjectError("no such subject", got="alice"),
        GalleryMismatchError("two galleries", got=7, expected=8),
        UnavailableError("gone", party="keyholder-a", needed=2, available=1, alternatives=("bc",)),
        BudgetExceededError("used up", budget="searches of a device in a day", limit=100, retry_after_s=3600.5),
    ],
)
async def test_typed_error_arrives_as_it_was_raised(server: Server, error: VeilmatchError) -> None:
    def fail(kind: str, request: Any) -> None:
        raise error

    server.fake.before = fail
    with pytest.raises(type(error)) as caught:
        await subjects(server.matcher)
    assert caught.value.fields() == error.fields() | {"said_by": ["matcher-a"]}


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (grpc.StatusCode.UNAVAILABLE, UnavailableError),
        (grpc.StatusCode.DEADLINE_EXCEEDED, UnavailableError),
        (grpc.StatusCode.CANCELLED, UnavailableError),
        (grpc.StatusCode.PERMISSION_DENIED, PartyRefusedError),
        (grpc.StatusCode.UNAUTHENTICATED, PartyRefusedError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, OverloadedError),
        (grpc.StatusCode.UNIMPLEMENTED, ProtocolError),
        (grpc.StatusCode.INTERNAL, IntegrityError),
        (grpc.StatusCode.UNKNOWN, IntegrityError),
    ],
)
async def test_plain_status_becomes_a_typed_error(
    server: Server, code: grpc.StatusCode, expected: type[VeilmatchError]
) -> None:
    server.abort_with(code)
    with pytest.raises(expected, match="matcher-a") as caught:
        await subjects(server.matcher)
    assert "address" not in str(caught.value)
    if isinstance(caught.value, UnavailableError):
        assert (caught.value.party, caught.value.alternatives) == ("matcher-a", ())


@pytest.mark.parametrize("sent", [b"\xff", b"[]", b"{", b"3", b"[" * 4000])
async def test_unreadable_error_is_a_protocol_error(server: Server, sent: bytes) -> None:
    server.abort_with(grpc.StatusCode.INTERNAL, ((ERROR_KEY, sent),))
    with pytest.raises(ProtocolError, match="matcher-a"):
        await subjects(server.matcher)


async def test_hostile_error_text_is_cleaned(server: Server) -> None:
    fields = {
        "code": "unavailable",
        "message": "\x1b[2Jgone" + "x" * 3000,
        "got": {"a": 1},
        "party": "keyholder-a",
        "alternatives": ["bc", "zz", 3],
    }
    server.abort_with(grpc.StatusCode.INTERNAL, ((ERROR_KEY, json.dumps(fields).encode()),))
    with pytest.raises(UnavailableError) as caught:
        await subjects(server.matcher)
    assert caught.value.message.startswith("?[2Jgone") and len(caught.value.message) <= 400
    assert (caught.value.got, caught.value.alternatives) == (None, ("bc",))


async def test_error_of_a_newer_server_is_still_ours(server: Server) -> None:
    sent = json.dumps({"code": "from_the_future", "message": "new"}).encode()
    server.abort_with(grpc.StatusCode.INTERNAL, ((ERROR_KEY, sent),))
    with pytest.raises(VeilmatchError, match="new"):
        await subjects(server.matcher)


async def test_silent_server_is_left_at_the_deadline(server: Server) -> None:
    server.fake.before = lambda kind, request: asyncio.sleep(60)
    started = time.monotonic()
    with pytest.raises(UnavailableError, match="in time"):
        await subjects(server.matcher, 0.1)
    assert time.monotonic() - started < 2


async def test_cancelling_a_call_reaches_the_server(server: Server) -> None:
    server.fake.before = lambda kind, request: asyncio.sleep(60)
    task = asyncio.ensure_future(subjects(server.matcher))
    while not server.fake.requests:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    for _ in range(100):
        if server.fake.cancelled:
            break
        await asyncio.sleep(0.01)
    assert server.fake.cancelled == 1


async def test_absent_server_is_unavailable() -> None:
    matcher = GrpcMatcher("matcher-b", lambda: grpc.aio.insecure_channel("127.0.0.1:1"), "here")
    with pytest.raises(UnavailableError, match="matcher-b cannot be reached") as caught:
        await subjects(matcher)
    await matcher.close()
    assert (caught.value.party, caught.value.available) == ("matcher-b", "nobody listening at its address")


async def test_bulk_stream_is_a_header_and_its_packs(server: Server) -> None:
    packs = [pb.BulkPack(ciphertexts=bytes([i]), templates=[pb.BulkTemplate(subject="s")]) for i in range(3)]
    reply = await server.matcher.bulk_enrol(SignedRequest(), packs, 5)
    assert reply.templates == 3 and server.fake.fakes.bulk_packs == packs


async def test_too_large_a_message_is_refused_by_type(server: Server) -> None:
    with pytest.raises(RequestRefusedError):
        await server.matcher.subjects(SignedRequest(ciphertexts=[bytes(5 << 20)]), 5)


def test_channel_limits_are_explicit() -> None:
    options = dict(channel_options("matcher-a"))
    assert options["grpc.max_receive_message_length"] == 16 << 20
    assert options["grpc.max_send_message_length"] == 4 << 20
    assert options["grpc.ssl_target_name_override"] == "matcher-a"


# -- mutual TLS ----------------------------------------------------------------------------------------


class Authority:
    """A certificate authority of a test installation."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self.folder, self.name, self.key = folder, name, generate_private_key(SECP256R1())
        self.certificate = self._certificate(name, self.key, is_authority=True)
        (folder / f"{name}.pem").write_bytes(self.pem)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    def issue(self, name: str) -> tuple[bytes, bytes]:
        key = generate_private_key(SECP256R1())
        pem = self._certificate(name, key).public_bytes(Encoding.PEM)
        secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (self.folder / f"{name}.pem").write_bytes(pem)
        (self.folder / f"{name}.key").write_bytes(secret)
        (self.folder / f"{name}.key").chmod(0o600)
        return secret, pem

    def _certificate(self, name: str, key: EllipticCurvePrivateKey, *, is_authority: bool = False) -> x509.Certificate:
        def named(text: str) -> x509.Name:
            return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder(named(self.name), named(name), key.public_key(), x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .sign(self.key, hashes.SHA256())
        )


@pytest.fixture
async def installation(
    settings: DeviceSettings, fakes: FakeMatchers, tmp_path: Path
) -> AsyncIterator[Callable[..., Any]]:
    """Starts three matchers with certificates of these names; returns the settings of the device."""
    authority, servers = Authority(tmp_path), []
    authority.issue("kiosk-1")

    async def start(name_a: str = "matcher-a", name_b: str = "matcher-b", parties: str = "abc") -> DeviceSettings:
        addresses = {}
        names = {"a": name_a, "b": name_b, "c": "matcher-c"}
        for party in parties:
            server = grpc.aio.server()
            rpc.add_MatcherServicer_to_server(Servicer(getattr(fakes, party)), server)
            credentials = grpc.ssl_server_credentials(
                [authority.issue(names[party])], authority.pem, require_client_auth=True
            )
            addresses[party] = f"127.0.0.1:{server.add_secure_port('127.0.0.1:0', credentials)}"
            await server.start()
            servers.append(server)
        files = {"authority": "authority.pem", "certificate": "kiosk-1.pem", "key": "kiosk-1.key"}
        tls = settings.tls.model_copy(update={field: tmp_path / name for field, name in files.items()})
        pairs = list(pairs_among(addresses))
        return settings.model_copy(update={"matchers": addresses, "pairs": pairs, "tls": tls})

    yield start
    for server in servers:
        await server.stop(None)


async def test_whole_client_over_mutual_tls(installation: Callable[..., Any], fakes: FakeMatchers) -> None:
    fakes.looks_like = {"alice"}
    async with AsyncClient(await installation()) as client:
        await client.enrol_embedding("alice", face(1), model="toy")
        assert await client.verify_embedding("alice", face(1), model="toy")
        assert (await client.candidates_embedding(face(1), model="toy")).subjects == ("alice",)


async def test_server_with_another_name_is_not_talked_to(installation: Callable[..., Any], fakes: FakeMatchers) -> None:
    async with AsyncClient(await installation(name_b="matcher-a", parties="ab")) as client:
        with pytest.raises(UnavailableError, match="matcher-b") as caught:
            await client.verify_embedding("alice", face(1), model="toy")
    assert "TLS" in str(caught.value.available)
    assert fakes.b.requests == []


async def test_device_of_another_authority_is_not_served(
    installation: Callable[..., Any], fakes: FakeMatchers, tmp_path: Path
) -> None:
    settings = await installation()
    (tmp_path / "other").mkdir()
    Authority(tmp_path / "other", "stranger").issue("kiosk-1")
    other = settings.tls.model_copy(
        update={"certificate": tmp_path / "other/kiosk-1.pem", "key": tmp_path / "other/kiosk-1.key"}
    )
    async with AsyncClient(settings.model_copy(update={"tls": other})) as client:
        with pytest.raises(UnavailableError) as caught:
            await client.verify_embedding("alice", face(1), model="toy")
    assert "certificate of this device" in str(caught.value.available)
    assert fakes.a.requests == fakes.b.requests == []


@pytest.mark.parametrize("field", ["authority", "certificate", "key"])
async def test_a_tls_file_that_holds_something_else_is_named_with_its_field(
    settings: DeviceSettings, tmp_path: Path, field: str
) -> None:
    Authority(tmp_path).issue("kiosk-1")
    files = {"authority": "authority.pem", "certificate": "kiosk-1.pem", "key": "kiosk-1.key"}
    tls = settings.tls.model_copy(update={name: tmp_path / file for name, file in files.items()})
    addresses = {"a": "localhost:1", "b": "localhost:2"}
    settings = settings.model_copy(update={"tls": tls, "matchers": addresses})
    for matcher in open_matchers(settings).values():
        await matcher.close()
    wrong = tmp_path / files[field]
    wrong.write_text("nothing of the kind")
    with pytest.raises(ConfigurationError, match=f"tls.{field}") as caught:
        open_matchers(settings)
    assert caught.value.got == str(wrong) and "PEM" in str(caught.value.expected)


async def test_a_missing_tls_file_is_a_configuration_error(settings: DeviceSettings) -> None:
    with pytest.raises(ConfigurationError, match=r"ca\.pem"):
        open_matchers(settings)


@pytest.mark.parametrize("parties", ["ab", "ac", "bc", "abc"])
async def test_there_is_a_matcher_of_every_organisation_that_has_an_address(
    settings: DeviceSettings, tmp_path: Path, parties: str
) -> None:
    Authority(tmp_path).issue("kiosk-1")
    files = {"authority": "authority.pem", "certificate": "kiosk-1.pem", "key": "kiosk-1.key"}
    tls = settings.tls.model_copy(update={field: tmp_path / name for field, name in files.items()})
    addresses = dict.fromkeys(parties, "localhost:1")
    matchers = open_matchers(settings.model_copy(update={"tls": tls, "matchers": addresses}))
    assert {party: matcher.party for party, matcher in matchers.items()} == {p: f"matcher-{p}" for p in parties}
    for matcher in matchers.values():
        await matcher.close()
