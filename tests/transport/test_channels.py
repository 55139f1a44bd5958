"""Mutual TLS on loopback: who is served, under which name, and who is turned away before a handler runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import grpc
import pytest

from tests.transport.parties import ask, authority, serving, tls_of
from veilmatch.common.settings import TlsSettings
from veilmatch.crypto.errors import ConfigurationError, PartyRefusedError
from veilmatch.server.transport.channels import Context, caller, channel_to, require_caller, server_credentials
from veilmatch.server.transport.status import from_rpc, unary

SERVER, ALLOWED = "keyholder-a", ("keyholder-b", "keyholder-c")


@dataclass
class Door:
    """A server that lets in the other key holders only, and notes everybody who came so far."""

    came: list[str] = field(default_factory=list)
    served: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def open(self, tls: TlsSettings | None) -> AsyncIterator[str]:
        @unary
        async def method(_self: None, request: bytes, context: Context) -> bytes:
            self.came.append(caller(context))
            self.served.append(require_caller(context, *ALLOWED))
            return request + b" " + caller(context).encode()

        async with serving("unary_unary", method, tls) as address:
            yield address


async def refusal(channel: grpc.aio.Channel) -> Exception:
    """Return the typed error of a call."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ask(channel)
    return from_rpc(caught.value, SERVER)


@pytest.mark.parametrize("name", ALLOWED)
async def test_a_peer_is_served_under_the_name_in_its_certificate(name: str, tmp_path: Path) -> None:
    door = Door()
    async with door.open(tls_of(tmp_path, SERVER)) as address:
        assert await ask(channel_to(address, SERVER, tls_of(tmp_path, name))) == b"hello " + name.encode()
    assert door.served == [name]


@pytest.mark.parametrize("name", ["matcher-a", "device-1", SERVER, "keyholder-b.", "KEYHOLDER-B", "keyholder"])
async def test_a_party_of_another_role_is_refused_by_name(name: str, tmp_path: Path) -> None:
    door = Door()
    async with door.open(tls_of(tmp_path, SERVER)) as address:
        error = await refusal(channel_to(address, SERVER, tls_of(tmp_path, name)))
    assert isinstance(error, PartyRefusedError)
    assert (error.got, error.expected) == (name, " or ".join(ALLOWED))
    assert (door.came, door.served) == ([name], [])


def own_authority(tmp_path: Path) -> TlsSettings:
    """A right name from another authority, whose holder knows the true authority's certificate."""
    stranger = tls_of(tmp_path, ALLOWED[0], 1)
    return stranger.model_copy(update={"authority": tls_of(tmp_path, ALLOWED[0]).authority})


def without_certificate(address: str, tmp_path: Path) -> grpc.aio.Channel:
    credentials = grpc.ssl_channel_credentials(authority().certificate_pem())
    return grpc.aio.secure_channel(address, credentials, options=[("grpc.ssl_target_name_override", SERVER)])


@pytest.mark.parametrize(
    "come",
    [
        without_certificate,
        lambda address, tmp_path: grpc.aio.insecure_channel(address),
        lambda address, tmp_path: channel_to(address, SERVER, own_authority(tmp_path)),
        lambda address, tmp_path: channel_to(address, SERVER, tls_of(tmp_path, ALLOWED[0], 1)),
        lambda address, tmp_path: channel_to(address, ALLOWED[0], tls_of(tmp_path, ALLOWED[0])),
    ],
    ids=["no certificate", "no TLS", "another authority", "another installation", "looking for another server"],
)
async def test_no_handler_runs_for_whoever_cannot_be_told(come: Callable[..., Any], tmp_path: Path) -> None:
    door = Door()
    async with door.open(tls_of(tmp_path, SERVER)) as address:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ask(come(address, tmp_path))
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        await ask(channel_to(address, SERVER, tls_of(tmp_path, ALLOWED[0])))
    assert door.came == [ALLOWED[0]]


async def test_a_caller_without_tls_has_no_name(tmp_path: Path) -> None:
    door = Door()
    async with door.open(None) as address:
        error = await refusal(grpc.aio.insecure_channel(address))
    assert isinstance(error, PartyRefusedError) and door.served == []


class Authenticated:
    """The context of a call whose certificate has these common names."""

    def __init__(self, *names: bytes) -> None:
        self._names = names

    def auth_context(self) -> dict[str, tuple[bytes, ...]]:
        return {"x509_common_name": self._names}


@pytest.mark.parametrize("names", [(), (b"keyholder-b", b"keyholder-c")], ids=["none", "two"])
def test_a_certificate_has_one_name(names: tuple[bytes, ...]) -> None:
    with pytest.raises(PartyRefusedError, match="no name"):
        caller(cast(Context, Authenticated(*names)))


def test_a_name_that_is_not_text_is_no_party() -> None:
    with pytest.raises(PartyRefusedError, match="not served"):
        require_caller(cast(Context, Authenticated(b"keyholder-b\xff")), *ALLOWED)


# -- the files -------------------------------------------------------------------------------------

USES = [server_credentials, lambda tls: channel_to("localhost:1", SERVER, tls)]


@pytest.mark.parametrize("use", USES, ids=["server", "channel"])
@pytest.mark.parametrize("file", ["authority", "certificate", "key"])
async def test_a_missing_tls_file_is_a_configuration_error(
    use: Callable[[TlsSettings], Any], file: str, tmp_path: Path
) -> None:
    tls = tls_of(tmp_path, SERVER).model_copy(update={file: tmp_path / "missing.pem"})
    with pytest.raises(ConfigurationError, match=r"missing\.pem"):
        use(tls)


@pytest.mark.parametrize("use", USES, ids=["server", "channel"])
@pytest.mark.parametrize("content", ["nothing", "text", "the other kind"])
@pytest.mark.parametrize("file", ["authority", "certificate", "key"])
async def test_a_tls_file_that_is_not_one_is_a_configuration_error(
    use: Callable[[TlsSettings], Any], content: str, file: str, tmp_path: Path
) -> None:
    tls = tls_of(tmp_path, SERVER)
    other = (tls.key if file != "key" else tls.certificate).read_bytes()
    getattr(tls, file).write_bytes({"nothing": b"", "text": b"not PEM", "the other kind": other}[content])
    with pytest.raises(ConfigurationError, match="PEM"):
        use(tls)


@pytest.mark.parametrize("use", USES, ids=["server", "channel"])
async def test_another_partys_key_is_a_configuration_error(use: Callable[[TlsSettings], Any], tmp_path: Path) -> None:
    tls = tls_of(tmp_path, SERVER).model_copy(update={"key": tls_of(tmp_path, ALLOWED[0]).key})
    with pytest.raises(ConfigurationError, match="is not the key of"):
        use(tls)


def test_a_daemon_that_holds_another_partys_certificate_does_not_start(tmp_path: Path) -> None:
    tls = tls_of(tmp_path, "matcher-a")
    assert server_credentials(tls, "matcher-a")
    with pytest.raises(ConfigurationError, match="not this party's") as caught:
        server_credentials(tls, "matcher-b")
    assert (caught.value.got, caught.value.expected) == ("matcher-a", "matcher-b")
