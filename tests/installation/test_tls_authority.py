"""The authority's certificates: what they say, and what gRPC makes of them."""

from __future__ import annotations

import datetime
import pickle
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.installation.making import CHEAP, PASSPHRASE
from veilmatch.common.settings import TlsSettings
from veilmatch.crypto.errors import KeyFileError, WrongPassphraseError
from veilmatch.server.installation.authority import Authority
from veilmatch.server.installation.files import write_file
from veilmatch.server.transport.channels import caller, channel_to, server_credentials

DAEMONS = ("matcher-a", "matcher-b", "matcher-c", "keyholder-a", "keyholder-b", "keyholder-c")


@cache
def authorities() -> tuple[Authority, Authority]:
    return Authority.fresh(), Authority.fresh()


def authority(number: int = 0) -> Authority:
    return authorities()[number]


def issued(name: str, number: int = 0, *, is_server: bool = True, **options: Any) -> x509.Certificate:
    return x509.load_pem_x509_certificate(authority(number).issue(name, is_server=is_server, **options)[0])


# -- what the certificates say --------------------------------------------------------------------


@pytest.mark.parametrize("name", [*DAEMONS, "device-1"])
def test_a_certificate_names_its_party_and_nothing_else(name: str) -> None:
    certificate = issued(name)
    assert [a.value for a in certificate.subject] == [name]
    assert certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == name
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.DNSName(name)]
    certificate.verify_directly_issued_by(authority().certificate)


def test_daemons_listen_and_call_and_devices_only_call() -> None:
    both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    for is_server, expected in ((True, both), (False, both[1:])):
        certificate = issued("x", is_server=is_server)
        assert list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == expected


def test_a_party_cannot_issue_certificates() -> None:
    for certificate, is_authority in ((authority().certificate, True), (issued("matcher-a"), False)):
        basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
        assert basic.critical
        assert usage.critical
        assert (basic.value.ca, usage.value.key_cert_sign) == (is_authority, is_authority)
        assert usage.value.digital_signature is not is_authority
    assert authority().certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 0


def test_certificates_are_backdated_and_run_out() -> None:
    now = datetime.datetime.now(datetime.UTC)
    for certificate, days in ((authority().certificate, 3650), (issued("matcher-a"), 825)):
        start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        assert datetime.timedelta(minutes=5) <= now - start < datetime.timedelta(minutes=10)
        assert abs(end - now - datetime.timedelta(days=days)) < datetime.timedelta(minutes=5)


def test_no_certificate_outlives_its_authority_and_an_expired_one_issues_none() -> None:
    end = authority().certificate.not_valid_after_utc
    assert issued("device-1", clock=lambda: end - datetime.timedelta(days=1)).not_valid_after_utc == end
    with pytest.raises(KeyFileError, match="expired"):
        authority().issue("device-1", clock=lambda: end)


def test_serials_names_and_keys_are_fresh() -> None:
    certificates = [issued("matcher-a") for _ in range(5)]
    assert len({c.serial_number for c in certificates}) == 5
    assert len({c.public_key().public_numbers() for c in certificates}) == 5  # type: ignore[union-attr]
    assert authority(0).certificate.subject != authority(1).certificate.subject


def test_all_keys_are_on_p256() -> None:
    for certificate in (authority().certificate, issued("matcher-a")):
        key = certificate.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        assert isinstance(key.curve, ec.SECP256R1)


# -- keeping the authority ------------------------------------------------------------------------


@cache
def files() -> tuple[bytes, bytes]:
    return authority().certificate_pem(), authority().key_pem(PASSPHRASE, CHEAP)


def test_an_authority_opens_again_and_goes_on_issuing() -> None:
    again = Authority.from_pem(*files(), PASSPHRASE, CHEAP)
    certificate = x509.load_pem_x509_certificate(again.issue("device-2", is_server=False)[0])
    certificate.verify_directly_issued_by(authority().certificate)


def test_the_key_is_encrypted_and_not_under_the_passphrase_itself() -> None:
    assert files()[1].startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
    with pytest.raises(ValueError, match=r"."):
        serialization.load_pem_private_key(files()[1], PASSPHRASE.encode())


def test_another_passphrase_or_cost_does_not_open_it() -> None:
    with pytest.raises(WrongPassphraseError):
        Authority.from_pem(*files(), "another", CHEAP)
    with pytest.raises(WrongPassphraseError):
        Authority.from_pem(*files(), PASSPHRASE, type(CHEAP)(11, 1, 1))


def test_every_damaged_file_is_a_typed_error() -> None:
    certificate, key = files()
    clear = authority().issue("matcher-a")[1]
    others = authority(1).certificate_pem()
    for pair in (
        (certificate, key[: len(key) // 2]),
        (certificate, key.replace(key[60:64], b"AAAA", 1)),
        (certificate, b""),
        (certificate, certificate),
        (certificate, clear),
        (certificate, clear + key),
        (others, key),
        (b"", key),
        (key, key),
        (certificate[: len(certificate) // 2], key),
    ):
        with pytest.raises((KeyFileError, WrongPassphraseError)):
            Authority.from_pem(*pair, PASSPHRASE, CHEAP)


def test_a_key_and_a_certificate_of_two_authorities_do_not_go_together() -> None:
    mixed = Authority(authority(1).certificate, authority(0)._key)
    with pytest.raises(KeyFileError, match="together"):
        Authority.from_pem(mixed.certificate_pem(), mixed.key_pem(PASSPHRASE, CHEAP), PASSPHRASE, CHEAP)


def test_an_authority_does_not_show_its_key() -> None:
    assert repr(authority()) == "<Authority>"
    with pytest.raises(TypeError):
        pickle.dumps(authority())


# -- mutual TLS over gRPC -------------------------------------------------------------------------


def tls_of(folder: Path, name: str, number: int = 0, *, is_server: bool = True) -> TlsSettings:
    """Write the files of a party of that authority."""
    home = folder / f"{name}-of-{number}"
    home.mkdir(exist_ok=True)
    certificate, key = authority(number).issue(name, is_server=is_server)
    parts = {"ca.pem": authority(number).certificate_pem(), "tls.pem": certificate, "tls-key.pem": key}
    for file, data in parts.items():
        write_file(home / file, data, secret=file == "tls-key.pem")
    return TlsSettings(authority=home / "ca.pem", certificate=home / "tls.pem", key=home / "tls-key.pem")


@asynccontextmanager
async def serving(tls: TlsSettings) -> AsyncIterator[str]:
    """An echo that answers with the caller's name; yields its address."""

    async def echo(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        return caller(context).encode() + b": " + request

    method = grpc.unary_unary_rpc_method_handler(echo)  # type: ignore[arg-type]
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", {"Echo": method}),))
    port = server.add_secure_port("127.0.0.1:0", server_credentials(tls))
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


async def said(channel: grpc.aio.Channel) -> bytes:
    async with channel:
        reply: bytes = await channel.unary_unary("/test.Echo/Echo")(b"hello", timeout=5)
        return reply


async def refused(channel: grpc.aio.Channel) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await said(channel)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("name", DAEMONS)
async def test_every_daemon_serves_devices_and_daemons_by_their_names(name: str, tmp_path: Path) -> None:
    async with serving(tls_of(tmp_path, name)) as address:
        device = tls_of(tmp_path, "device-1", is_server=False)
        assert await said(channel_to(address, name, device)) == b"device-1: hello"
        for other in DAEMONS[:2]:
            assert await said(channel_to(address, name, tls_of(tmp_path, other))) == other.encode() + b": hello"


async def test_a_caller_of_another_authority_is_refused(tmp_path: Path) -> None:
    async with serving(tls_of(tmp_path, "matcher-a")) as address:
        own, stranger = tls_of(tmp_path, "device-1"), tls_of(tmp_path, "device-1", 1)
        # It trusts the server's authority, and shows a certificate of its own.
        await refused(channel_to(address, "matcher-a", stranger.model_copy(update={"authority": own.authority})))


async def test_a_server_of_another_authority_is_refused(tmp_path: Path) -> None:
    own, stranger = tls_of(tmp_path, "matcher-a"), tls_of(tmp_path, "matcher-a", 1)
    async with serving(stranger.model_copy(update={"authority": own.authority})) as address:
        await refused(channel_to(address, "matcher-a", tls_of(tmp_path, "device-1")))


async def test_a_caller_without_a_certificate_is_refused(tmp_path: Path) -> None:
    async with serving(tls_of(tmp_path, "matcher-a")) as address:
        credentials = grpc.ssl_channel_credentials(authority().certificate_pem())
        options = [("grpc.ssl_target_name_override", "matcher-a")]
        await refused(grpc.aio.secure_channel(address, credentials, options=options))
        await refused(grpc.aio.insecure_channel(address))


async def test_a_party_cannot_stand_in_for_another(tmp_path: Path) -> None:
    async with serving(tls_of(tmp_path, "matcher-b")) as address:
        await refused(channel_to(address, "matcher-a", tls_of(tmp_path, "device-1")))


async def test_a_device_cannot_serve_even_under_a_daemons_name(tmp_path: Path) -> None:
    async with serving(tls_of(tmp_path, "matcher-a", is_server=False)) as address:
        await refused(channel_to(address, "matcher-a", tls_of(tmp_path, "device-1")))
