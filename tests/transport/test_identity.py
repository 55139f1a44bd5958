"""TLS files that are replaced while a daemon serves: who gets in then, and who does not any more."""

from __future__ import annotations

import asyncio
import datetime
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from structlog.testing import capture_logs

from tests.transport.parties import METHOD, SERVICE
from veilmatch.common import watched
from veilmatch.common.settings import TlsSettings
from veilmatch.crypto.errors import ConfigurationError, PartyRefusedError, UnavailableError
from veilmatch.server.installation.authority import Authority
from veilmatch.server.installation.files import write_file
from veilmatch.server.transport.channels import channel_to, server_options
from veilmatch.server.transport.door import Door, peers_gate
from veilmatch.server.transport.expiry import Expiry
from veilmatch.server.transport.identity import Identity
from veilmatch.server.transport.status import from_metadata, from_rpc
from veilmatch.server.transport.tls_files import TlsFiles

NAME, CALLER = "keyholder-a", "keyholder-b"
SERVICE_NAME, METHOD_NAME = METHOD.strip("/").split("/")
DAY = datetime.timedelta(days=1)


@dataclass
class Party:
    """A party's TLS files, and what is put there."""

    name: str
    folder: Path

    @property
    def tls(self) -> TlsSettings:
        return TlsSettings(**{f: self.folder / f for f in ("authority", "certificate", "key")})

    @property
    def crl(self) -> Path:
        return self.folder / "crl"

    @property
    def certificate(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.tls.certificate.read_bytes())

    def trusts(self, *authorities: Authority) -> None:
        write_file(self.tls.authority, b"".join(one.certificate_pem() for one in authorities))

    def renew(self, authority: Authority, **how: Any) -> None:
        """As operators do: the key, then the certificate."""
        certificate, key = authority.issue(self.name, **how)
        write_file(self.tls.key, key, secret=True)
        write_file(self.tls.certificate, certificate)

    def identity(self) -> Identity:
        return Identity(self.tls, self.name, self.crl)


def party(folder: Path, name: str, authority: Authority, **how: Any) -> Party:
    made = Party(name, folder / name)
    made.folder.mkdir()
    made.trusts(authority)
    made.renew(authority, **how)
    write_file(made.crl, authority.revocation_list({}, 1))
    return made


def list_of(authority: Authority, number: int, *revoked: x509.Certificate) -> bytes:
    now = datetime.datetime.now(datetime.UTC)
    return authority.revocation_list({one.serial_number: now for one in revoked}, number)


@asynccontextmanager
async def listening(server: Party, identity: Identity) -> AsyncIterator[str]:
    """A daemon with one method, which answers with what it is sent, or waits for ever if that is "wait"."""

    async def answer(requests: Any, _context: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            yield request
            if request == b"wait":
                await asyncio.Event().wait()

    handlers = {METHOD_NAME: grpc.stream_stream_rpc_method_handler(answer)}
    gates = {SERVICE_NAME: peers_gate(NAME, CALLER, NAME)}
    door = Door(SERVICE.server, gates, identity)
    daemon = grpc.aio.server(interceptors=[door], options=server_options(serves_devices=False))
    daemon.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE_NAME, handlers),))
    port = daemon.add_secure_port("127.0.0.1:0", identity.server_credentials())
    await daemon.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await daemon.stop(None)


async def said(channel: grpc.aio.Channel, words: bytes = b"hello") -> bytes:
    """Ask over a channel, and return the answer. Raises the typed error.

    One message is the same on the wire as a stream of one; of a stream that ends while it is written to gRPC may forget
    why.
    """
    ask: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD)
    try:
        return await ask(words, timeout=20)
    except grpc.aio.AioRpcError as error:
        raise from_rpc(error, NAME) from None


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Channels look before every call."""
    monkeypatch.setattr(watched, "LOOK_S", 0.0)


@pytest.fixture
def authority() -> Authority:
    return Authority.fresh()


async def test_a_renewed_server_and_caller_go_on_without_a_restart(authority: Authority, tmp_path: Path) -> None:
    server, caller = party(tmp_path, NAME, authority), party(tmp_path, CALLER, authority)
    identity = server.identity()
    async with listening(server, identity) as address:
        channel = channel_to(address, NAME, caller.tls)
        assert await said(channel) == b"hello"
        for renewed in (server, caller):
            before = renewed.certificate
            renewed.renew(authority)
            await identity.look(at_once=True)
            assert renewed.certificate != before
            assert await said(channel) == b"hello"
        await channel.close()


async def test_no_call_is_lost_while_certificates_are_renewed_again_and_again(
    authority: Authority, tmp_path: Path
) -> None:
    server, caller = party(tmp_path, NAME, authority), party(tmp_path, CALLER, authority)
    identity = server.identity()
    asked, stop = 0, False

    async def ask(channel: grpc.aio.Channel) -> None:
        nonlocal asked
        while not stop:
            words = b"%d" % asked
            assert await said(channel, words) == words
            asked += 1

    async with listening(server, identity) as address:
        channel = channel_to(address, NAME, caller.tls)
        asking = [asyncio.ensure_future(ask(channel)) for _ in range(8)]
        for number in range(12):
            (server, caller)[number % 2].renew(authority)
            await identity.look(at_once=True)
            now = asked
            while asked < now + 20 and not any(one.done() for one in asking):
                await asyncio.sleep(0.005)
        stop = True
        await asyncio.gather(*asking)
        await channel.close()
    assert asked >= 240


async def test_a_call_under_way_goes_on_when_its_caller_is_renewed(authority: Authority, tmp_path: Path) -> None:
    """The link between two key holders is one such call, for months."""
    server, caller = party(tmp_path, NAME, authority), party(tmp_path, CALLER, authority)
    identity = server.identity()
    async with listening(server, identity) as address:
        channel = channel_to(address, NAME, caller.tls)
        call = channel.stream_stream(METHOD)(timeout=20)
        await call.write(b"one")
        assert await call.read() == b"one"
        for renewed in (server, caller):
            renewed.renew(authority)
            await identity.look(at_once=True)
            assert await said(channel) == b"hello"
        await call.write(b"two")
        assert await call.read() == b"two"
        call.cancel()
        await channel.close()


async def test_a_revoked_caller_is_refused_and_its_calls_end(authority: Authority, tmp_path: Path) -> None:
    server, caller = party(tmp_path, NAME, authority), party(tmp_path, CALLER, authority)
    identity = server.identity()
    async with listening(server, identity) as address:
        channel = channel_to(address, NAME, caller.tls)
        call = channel.stream_stream(METHOD)(timeout=20)
        await call.write(b"wait")
        assert await call.read() == b"wait"
        write_file(server.crl, list_of(authority, 2, caller.certificate))
        with capture_logs() as logged:
            await identity.look(at_once=True)
            assert await call.code() is grpc.StatusCode.UNAVAILABLE
            ended = from_metadata(await call.code(), await call.trailing_metadata(), NAME)
            assert isinstance(ended, UnavailableError) and ended.got == "it was revoked"
            for again in (channel, channel_to(address, NAME, caller.tls)):
                with pytest.raises(PartyRefusedError, match=f"the certificate of {CALLER}") as caught:
                    await said(again)
                assert caught.value.got == "it was revoked"
        refused = [e for e in logged if e["event"] == "call refused"]
        assert len(refused) == 3 and {e["caller"] for e in refused} == {CALLER}
        # With another certificate of the same name it is served again.
        caller.renew(authority)
        assert await said(channel) == b"hello"
        await channel.close()


async def test_others_are_not_disturbed_by_a_revocation(authority: Authority, tmp_path: Path) -> None:
    server, caller = party(tmp_path, NAME, authority), party(tmp_path, CALLER, authority)
    identity = server.identity()
    async with listening(server, identity) as address:
        channel = channel_to(address, NAME, server.tls)  # itself: its own certificate
        call = channel.stream_stream(METHOD)(timeout=20)
        await call.write(b"one")
        assert await call.read() == b"one"
        write_file(server.crl, list_of(authority, 2, caller.certificate))
        await identity.look(at_once=True)
        await call.write(b"two")
        assert await call.read() == b"two"
        call.cancel()
        await channel.close()


async def test_a_certificate_that_ends_while_it_is_connected_is_refused_in_words(
    authority: Authority, tmp_path: Path
) -> None:
    server = party(tmp_path, NAME, authority)
    caller = party(tmp_path, CALLER, authority, validity=datetime.timedelta(seconds=4))
    identity = server.identity()
    async with listening(server, identity) as address:
        channel = channel_to(address, NAME, caller.tls)
        assert await said(channel) == b"hello"
        ends = caller.certificate.not_valid_after_utc
        await asyncio.sleep((ends - datetime.datetime.now(datetime.UTC)).total_seconds() + 0.1)
        with capture_logs() as logged, pytest.raises(PartyRefusedError, match="not good any more") as caught:
            await said(channel)
        assert caught.value.got == f"it ended on {ends.isoformat(timespec='seconds')}"
        assert [e["reason"] for e in logged] == [caught.value.message]
        # What it would show to others is said here, before anybody is asked.
        with pytest.raises(ConfigurationError, match="has expired"):
            channel_to(address, NAME, caller.tls)
        await channel.close()


async def test_a_server_that_shows_a_certificate_which_has_ended_is_told_of_in_words(
    authority: Authority, tmp_path: Path
) -> None:
    server, caller = party(tmp_path, NAME, authority), party(tmp_path, CALLER, authority)
    server.renew(authority, validity=datetime.timedelta(seconds=2))
    identity = server.identity()
    async with listening(server, identity) as address:
        ends = server.certificate.not_valid_after_utc
        await asyncio.sleep((ends - datetime.datetime.now(datetime.UTC)).total_seconds() + 0.1)
        channel = channel_to(address, NAME, caller.tls)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary(METHOD)(b"", timeout=20)
        error = from_rpc(caught.value, NAME)
        assert isinstance(error, UnavailableError) and "has expired" in str(error) and NAME in str(error)
        server.renew(authority)
        await identity.look(at_once=True)
        # The next attempt to connect may be a moment away.
        assert await channel.unary_unary(METHOD)(b"", timeout=20, wait_for_ready=True) == b""
        await channel.close()


async def test_two_authorities_count_while_one_replaces_the_other(authority: Authority, tmp_path: Path) -> None:
    """As operators do it: trust both, renew, trust the new one. A certificate of the old one is nobody's then."""
    new = Authority.fresh()
    server, caller = party(tmp_path, NAME, authority), party(tmp_path, CALLER, authority)
    late = replace(caller, folder=tmp_path / "late")
    late.folder.mkdir()
    late.trusts(authority, new)
    late.renew(authority)
    identity = server.identity()
    async with listening(server, identity) as address:
        channel, kept = channel_to(address, NAME, caller.tls), channel_to(address, NAME, late.tls)

        async def works() -> None:
            await identity.look(at_once=True)
            assert [await said(one) for one in (channel, kept)] == [b"hello", b"hello"]

        await works()
        for one in (server, caller):
            one.trusts(authority, new)
            await works()
        for one in (server, caller):
            one.renew(new)
            await works()
        call = kept.stream_stream(METHOD)(timeout=20)
        await call.write(b"wait")
        assert await call.read() == b"wait"
        caller.trusts(new)
        server.trusts(new)
        write_file(server.crl, new.revocation_list({}, 1))
        await identity.look(at_once=True)
        assert await said(channel) == b"hello"
        # The one that was not renewed is cut off, though its connection is from before.
        assert await call.code() is grpc.StatusCode.UNAVAILABLE
        with pytest.raises(PartyRefusedError) as caught:
            await said(kept)
        assert caught.value.got == "its authority is not trusted any more"
        await channel.close()
        await kept.close()


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda server, authority: server.tls.key.unlink(), "cannot be read"),
        (lambda server, authority: server.tls.key.chmod(0o644), "open to others"),
        (lambda server, authority: server.tls.certificate.write_bytes(b"-----"), "does not name what it should"),
        (lambda server, authority: server.tls.certificate.write_bytes(authority.issue(NAME)[0]), "not the key of"),
        (lambda server, authority: server.renew(authority, validity=-DAY / 1440), "has expired"),
        (lambda server, authority: Party("keyholder-c", server.folder).renew(authority), "not this party's"),
        (lambda server, authority: server.crl.write_bytes(Authority.fresh().revocation_list({}, 9)), "no list of the"),
        (lambda server, authority: server.crl.unlink(), "cannot be read"),
        (lambda server, authority: server.crl.write_bytes(list_of(authority, 0)), "is in use already"),
    ],
    ids=["no key", "open key", "no certificate", "half", "ended", "another's", "another's list", "no list", "old list"],
)
async def test_files_that_cannot_be_used_change_nothing_and_are_told_of_once(
    spoil: Callable[[Party, Authority], Any], why: str, authority: Authority, tmp_path: Path
) -> None:
    server, caller = party(tmp_path, NAME, authority), party(tmp_path, CALLER, authority)
    identity = server.identity()
    async with listening(server, identity) as address:
        spoil(server, authority)
        with capture_logs() as logged:
            for _ in range(4):
                await identity.look(at_once=True)
        assert [e["event"] for e in logged] == ["alert"] and why in logged[0]["reason"]
        assert await said(channel_to(address, NAME, caller.tls)) == b"hello"
        # And what is right later counts.
        server.renew(authority)
        write_file(server.crl, list_of(authority, 3, caller.certificate))
        await identity.look(at_once=True)
        with pytest.raises(PartyRefusedError):
            await said(channel_to(address, NAME, caller.tls))


async def test_files_that_are_replaced_one_after_the_other_are_no_alert(authority: Authority, tmp_path: Path) -> None:
    server = party(tmp_path, NAME, authority)
    identity = server.identity()
    certificate, key = authority.issue(NAME)
    with capture_logs() as logged:
        write_file(server.tls.key, key, secret=True)
        await identity.look(at_once=True)
        write_file(server.tls.certificate, certificate)
        await identity.look(at_once=True)
    assert [e["event"] for e in logged] == ["TLS files read again"]


async def test_a_damaged_list_is_refused_at_the_start(authority: Authority, tmp_path: Path) -> None:
    server = party(tmp_path, NAME, authority)
    other = Authority(authority.certificate, Authority.fresh()._key)
    # What is left of a file that is too long could lack the one list that matters.
    too_long = authority.revocation_list({}, 1) + bytes(1 << 24)
    for spoilt in (b"", b"nothing", too_long, other.revocation_list({}, 1), Authority.fresh().revocation_list({}, 1)):
        server.crl.write_bytes(spoilt)
        with pytest.raises(ConfigurationError, match="revocation list"):
            server.identity()


def test_what_ends_is_told_by_role(authority: Authority, tmp_path: Path) -> None:
    server = party(tmp_path, NAME, authority)
    (tmp_path / "devices").mkdir()
    expiry = Expiry(server.tls, tmp_path / "devices", None, crl=server.crl)  # type: ignore[arg-type]
    found = expiry.expiries()
    assert found["this party"] == server.certificate.not_valid_after_utc.timestamp()
    assert found["authority"] == found["revocation list"] == authority.certificate.not_valid_after_utc.timestamp()
    server.renew(authority, validity=DAY)
    assert expiry.expiries()["this party"] == pytest.approx(time.time() + DAY.total_seconds(), abs=60)
    server.tls.certificate.unlink()
    assert "this party" not in expiry.expiries()


# -- lists that would undo a revocation -----------------------------------------------------------


@pytest.mark.parametrize(
    ("others", "why"),
    [
        (lambda old, new, caller: [new.revocation_list({}, 5)], "no list of CN=Veilmatch authority"),
        (lambda old, new, caller: [list_of(old, 2), new.revocation_list({}, 5)], "leaves certificates out"),
        (lambda old, new, caller: [list_of(old, 1, caller), new.revocation_list({}, 5)], "number 2 is in use"),
    ],
    ids=["left out", "same number, others", "older"],
)
async def test_no_file_undoes_a_revocation_while_two_authorities_count(
    others: Callable[..., list[bytes]], why: str, authority: Authority, tmp_path: Path
) -> None:
    new = Authority.fresh()
    server, caller = party(tmp_path, NAME, authority), party(tmp_path, CALLER, authority)
    server.trusts(authority, new)
    write_file(server.crl, list_of(authority, 2, caller.certificate) + new.revocation_list({}, 1))
    identity = server.identity()
    async with listening(server, identity) as address:
        channel = channel_to(address, NAME, caller.tls)
        with pytest.raises(PartyRefusedError):
            await said(channel)
        write_file(server.crl, b"".join(others(authority, new, caller.certificate)))
        with capture_logs() as logged:
            for _ in range(2):
                await identity.look(at_once=True)
        assert [e["event"] for e in logged] == ["alert"] and why in logged[0]["reason"]
        with pytest.raises(PartyRefusedError):
            await said(channel)
        # A list of an authority that is trusted no more may go.
        server.renew(new)
        server.trusts(new)
        write_file(server.crl, new.revocation_list({}, 2))
        with capture_logs() as logged:
            await identity.look(at_once=True)
        assert [e["event"] for e in logged] == ["TLS files read again"]
        await channel.close()


def beneath(root: Authority) -> tuple[Authority, x509.Certificate]:
    """An authority whose certificate another one has issued, and that certificate."""
    own = Authority.fresh()
    builder = x509.CertificateBuilder(
        root.certificate.subject, own.certificate.subject, own.certificate.public_key(), x509.random_serial_number(),
        own.certificate.not_valid_before_utc, own.certificate.not_valid_after_utc,
        [x509.Extension(x509.BasicConstraints.oid, True, x509.BasicConstraints(ca=True, path_length=0))],
    )  # fmt: skip
    certificate = builder.sign(root._key, hashes.SHA256())
    return Authority(certificate, own._key), certificate


def test_a_list_of_an_authority_between_counts_for_whoever_shows_its_certificate(tmp_path: Path) -> None:
    root = Authority.fresh()
    above, shown = beneath(root)
    server = party(tmp_path, NAME, root)
    caller, other = (x509.load_pem_x509_certificate(above.issue(CALLER)[0]) for _ in range(2))
    forged = Authority(above.certificate, Authority.fresh()._key)
    write_file(server.crl, root.revocation_list({}, 1) + list_of(above, 1, caller) + list_of(forged, 2, other))
    found = TlsFiles.read(server.tls, NAME, server.crl)
    assert found.trusts([caller, shown]) and found.revocations.has(caller, [caller, shown])
    assert not found.revocations.has(other, [other, shown]), "nobody has signed that list"


def test_an_authority_that_was_taken_back_is_not_trusted(tmp_path: Path) -> None:
    root = Authority.fresh()
    above, shown = beneath(root)
    server = party(tmp_path, NAME, root)
    server.trusts(root, above)
    caller = x509.load_pem_x509_certificate(above.issue(CALLER)[0])
    assert TlsFiles.read(server.tls, NAME, server.crl).trusts([caller])
    write_file(server.crl, list_of(root, 2, shown))
    assert not TlsFiles.read(server.tls, NAME, server.crl).trusts([caller])


def test_a_name_in_a_list_may_be_written_in_another_kind_of_string(authority: Authority, tmp_path: Path) -> None:
    server, caller = party(tmp_path, NAME, authority), party(tmp_path, CALLER, authority)
    (name,) = authority.certificate.subject
    now = datetime.datetime.now(datetime.UTC)
    revoked = x509.RevokedCertificateBuilder().serial_number(caller.certificate.serial_number).revocation_date(now)
    printable = x509.Name([x509.NameAttribute(name.oid, str(name.value), x509.name._ASN1Type.PrintableString)])
    made = x509.CertificateRevocationListBuilder(printable, now, now + DAY, [], [revoked.build()])
    assert printable.public_bytes() != authority.certificate.subject.public_bytes()
    write_file(server.crl, made.sign(authority._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    assert TlsFiles.read(server.tls, NAME, server.crl).revocations.has(caller.certificate)
