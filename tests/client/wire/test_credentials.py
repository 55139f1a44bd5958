"""A device's TLS files: followed while a program runs, and refused with words where they are of no use."""

from __future__ import annotations

import datetime
from pathlib import Path

import grpc
import pytest

from tests.transport.parties import METHOD, authority, serving, tls_of
from veilmatch.client.wire.credentials import Credentials
from veilmatch.client.wire.transport import GrpcMatcher
from veilmatch.common import watched
from veilmatch.common.settings import TlsSettings
from veilmatch.crypto.errors import ConfigurationError, KeyFileError, VeilmatchError
from veilmatch.protos.v1 import matcher_pb2 as pb
from veilmatch.server.installation.files import write_file


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watched, "LOOK_S", 0.0)


@pytest.fixture
def tls(tmp_path: Path) -> TlsSettings:
    return tls_of(tmp_path, "device-1", is_server=False)


def renew(tls: TlsSettings, validity: datetime.timedelta = datetime.timedelta(days=1)) -> None:
    certificate, key = authority(0).issue("device-1", is_server=False, validity=validity)
    write_file(tls.key, key, secret=True)
    write_file(tls.certificate, certificate)


def test_files_that_are_replaced_are_another_version(tls: TlsSettings) -> None:
    credentials = Credentials(tls)
    assert [credentials.version() for _ in range(3)] == [1, 1, 1]
    before = credentials.current
    renew(tls)
    assert [credentials.version() for _ in range(3)] == [2, 2, 2]
    assert credentials.current is not before


def test_files_that_cannot_be_used_change_nothing_until_they_can(tls: TlsSettings) -> None:
    credentials = Credentials(tls)
    before, key = credentials.current, tls.key.read_bytes()
    for spoil in (
        lambda: tls.key.write_bytes(b"half of"),
        lambda: tls.key.unlink(),
        lambda: renew(tls, datetime.timedelta(minutes=-1)),
    ):
        spoil()
        assert credentials.version() == 1 and credentials.current is before
    assert key != tls.key.read_bytes()
    renew(tls)
    assert credentials.version() == 2


def test_a_certificate_that_has_ended_is_told_before_anybody_is_asked(tls: TlsSettings) -> None:
    renew(tls, datetime.timedelta(minutes=-1))
    with pytest.raises(ConfigurationError, match="has expired") as caught:
        Credentials(tls)
    assert str(tls.certificate) in caught.value.message and "it ended on" in str(caught.value.got)
    renew(tls)
    tls.key.chmod(0o640)
    with pytest.raises(KeyFileError, match="open to others"):
        Credentials(tls)


def test_its_end_is_said_in_the_log_from_60_days_before_it(tls: TlsSettings, caplog: pytest.LogCaptureFixture) -> None:
    now = datetime.datetime.now(datetime.UTC).timestamp()
    renew(tls, datetime.timedelta(days=100))
    clock = [now]
    credentials = Credentials(tls, lambda: clock[0])

    def said() -> list[str]:
        caplog.clear()
        credentials.version()
        return caplog.messages

    assert said() == []
    clock[0] += 41 * 86400
    (line,) = said()
    assert str(tls.certificate) in line and "ends on" in line and "authority renew" in line
    assert said() == []
    clock[0] += 86400
    assert len(said()) == 1
    renew(tls, datetime.timedelta(days=800))
    assert said() == []


async def test_the_next_call_shows_what_was_renewed(tls: TlsSettings, tmp_path: Path) -> None:
    shown: list[bytes] = []

    async def method(_self: object, _request: bytes, context: grpc.aio.ServicerContext) -> bytes:  # type: ignore[type-arg]
        shown.append(context.auth_context()["x509_pem_cert"][0])
        return b""

    async with serving("unary_unary", method, tls_of(tmp_path, "matcher-a")) as address:
        credentials = Credentials(tls)
        dialled: list[grpc.aio.Channel] = []

        def dial() -> grpc.aio.Channel:
            name = [("grpc.ssl_target_name_override", "matcher-a")]
            dialled.append(grpc.aio.secure_channel(address, credentials.for_server("matcher-a"), options=name))
            return dialled[-1]

        matcher = GrpcMatcher("matcher-a", dial, address, credentials.version)

        async def ask() -> None:
            # The server knows this method only; what a matcher has is refused as unknown, after the handshake.
            with pytest.raises(VeilmatchError):
                await matcher.match(pb.MatchRequest(), 10)
            await dialled[-1].unary_unary(METHOD)(b"", timeout=10)

        await ask()
        await ask()
        assert len(dialled) == 1
        renew(tls)
        await ask()
        assert len(dialled) == 2
        assert shown[0] == shown[1] != shown[2]
        assert dialled[0].get_state() is grpc.ChannelConnectivity.SHUTDOWN
        await matcher.close()
