"""Where every organisation has an authority of its own: it vouches for its servers, and for nobody else's."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from tests.transport.test_identity import CALLER, NAME, Party, listening, said
from veilmatch.client.wire.credentials import Credentials
from veilmatch.common.authorities import authorities_for, may_name, organisations_of
from veilmatch.crypto.errors import ConfigurationError, PartyRefusedError, UnavailableError
from veilmatch.crypto.keys import parties
from veilmatch.server.installation.authority import Authority
from veilmatch.server.installation.files import write_file
from veilmatch.server.installation.stretching import ScryptCost
from veilmatch.server.installation.tls.folder import AuthorityFolder
from veilmatch.server.installation.tls.revocations import Revocations
from veilmatch.server.transport.channels import channel_to
from veilmatch.server.transport.identity import _judge, _Shown
from veilmatch.server.transport.tls_files import TlsFiles

CHEAP = ScryptCost(10, 1, 1)


@cache
def authority(organisation: parties.Party) -> Authority:
    return Authority.fresh(organisation=organisation)


def forged(by: parties.Party, name: str, monkeypatch: pytest.MonkeyPatch) -> tuple[bytes, bytes]:
    """A certificate in the name of another organisation's server, as a deviating authority makes it."""
    with monkeypatch.context() as patched:
        patched.setattr("veilmatch.server.installation.authority.may_name", lambda *_: True)
        return authority(by).issue(name)


def made(folder: Path, name: str, issued: tuple[bytes, bytes], trusted: str = "abc") -> Party:
    party = Party(name, folder / name)
    party.folder.mkdir()
    party.trusts(*(authority(one) for one in parties.PARTIES if one in trusted))
    write_file(party.tls.certificate, issued[0])
    write_file(party.tls.key, issued[1], secret=True)
    write_file(party.crl, authority(parties.PARTIES[0]).revocation_list({}, 1))
    return party


def test_an_authority_says_whose_it_is() -> None:
    assert [organisations_of(authority(one).certificate) for one in parties.PARTIES] == [{"a"}, {"b"}, {"c"}]
    assert authority("b").organisation == "b" and Authority.fresh().organisation is None
    own, common = authority("a").certificate, Authority.fresh().certificate
    for kind in ("matcher", "keyholder"):
        assert [may_name(own, f"{kind}-{x}") for x in "abc"] == [True, False, False]
    assert may_name(own, "device-1") and may_name(common, "keyholder-b") and may_name(common, "matcher-c")


def test_an_authority_does_not_issue_to_servers_of_others() -> None:
    with pytest.raises(ConfigurationError, match="another organisation"):
        authority("a").issue("keyholder-b")
    certificate, _ = authority("a").issue("matcher-a")
    assert x509.load_pem_x509_certificate(certificate).issuer == authority("a").certificate.subject


async def test_servers_of_organisations_with_authorities_of_their_own_reach_each_other(tmp_path: Path) -> None:
    server = made(tmp_path, NAME, authority("a").issue(NAME))
    caller = made(tmp_path, CALLER, authority("b").issue(CALLER))
    async with listening(server, server.identity()) as address, channel_to(address, NAME, caller.tls) as channel:
        assert await said(channel) == b"hello"


async def test_a_caller_whose_name_another_organisations_authority_gave_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = made(tmp_path, NAME, authority("a").issue(NAME))
    for by in ("a", "c"):
        (folder := tmp_path / by).mkdir()
        caller = made(folder, CALLER, forged(by, CALLER, monkeypatch))  # type: ignore[arg-type]
        async with listening(server, server.identity()) as address, channel_to(address, NAME, caller.tls) as channel:
            with pytest.raises(PartyRefusedError) as refused:
                await said(channel)
            assert refused.value.got == "its authority is another organisation's"


def test_it_is_known_whose_authority_has_named_a_caller(tmp_path: Path) -> None:
    """A device may have its certificate of any: what is counted of one is not counted of the other."""
    common = Authority.fresh()
    files = TlsFiles.read(made(tmp_path, NAME, authority("a").issue(NAME)).tls)
    files = replace(files, trusted=(*files.trusted, common.certificate))
    found = []
    for by in (*map(authority, parties.PARTIES), common, Authority.fresh()):
        certificate, _ = by.issue("device-1", is_server=False)
        seen = _judge(_Shown((b"device-1",), (certificate,)), files)
        found.append((seen.by, seen.refused is None))
    assert found == [("a", True), ("b", True), ("c", True), ("", True), ("", False)]


async def test_a_name_that_is_another_one_for_grpc_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """gRPC gives a name up to its first NUL, and the first one of several: a device for whoever looks at all of it."""
    names = {
        "cut": x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{CALLER}\0")]),
        "first": x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, one) for one in (CALLER, "device-1")]),
    }
    server = made(tmp_path, NAME, authority("a").issue(NAME))
    for at, subject in names.items():
        (folder := tmp_path / at).mkdir()
        for by in parties.PARTIES:
            with monkeypatch.context() as patched:
                patched.setattr("veilmatch.server.installation.authority._name", lambda _, subject=subject: subject)
                issued = authority(by).issue("device-1", is_server=False)
            (folder / by).mkdir()
            caller = made(folder / by, "device-1", issued)
            async with (
                listening(server, server.identity()) as address,
                channel_to(address, NAME, caller.tls) as channel,
            ):
                with pytest.raises(PartyRefusedError) as refused:
                    await said(channel)
                assert "several names" in str(refused.value.got)


def test_a_chain_that_cannot_be_read_is_refused_as_that(tmp_path: Path) -> None:
    """gRPC hands on whatever a caller shows beside its certificate, also what has nothing to do with it."""
    own = authority("b").issue(CALLER)
    files = TlsFiles.read(made(tmp_path, CALLER, own).tls)
    files = replace(files, revocations=Revocations({}, {}))
    der = authority("c").certificate.public_bytes(Encoding.DER).replace(b"organisation-c", b"organisation-\xff")
    beside = x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM)
    for shown, refused in (((own[0],), None), ((own[0], beside), "it cannot be read"), ((), "it cannot be read")):
        assert _judge(_Shown((CALLER.encode(),), shown), files).refused == refused


async def test_a_server_whose_name_another_organisations_authority_gave_is_not_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = made(tmp_path, CALLER, authority("b").issue(CALLER))
    server = made(tmp_path, NAME, forged("b", NAME, monkeypatch))
    # What it reads at its start is right by the same rule, and would not let it serve.
    async with listening(server, server.identity()) as address, channel_to(address, NAME, caller.tls) as channel:
        with pytest.raises(UnavailableError):
            await said(channel)


def test_devices_go_by_the_same_rule(tmp_path: Path) -> None:
    device = made(tmp_path, "device-1", authority("c").issue("device-1", is_server=False), trusted="bc")
    credentials = Credentials(device.tls)
    assert isinstance(credentials.for_server("matcher-b"), grpc.ChannelCredentials)
    with pytest.raises(ConfigurationError, match="no authority"):
        credentials.for_server("matcher-a")


def test_an_authority_that_may_name_nobody_here_is_not_the_whole_worlds(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no authority"):
        authorities_for([authority("a").certificate], "keyholder-b")
    assert (
        authorities_for([authority("a").certificate, authority("b").certificate], "keyholder-b")
        == authority("b").certificate_pem()
    )


def test_one_that_an_organisations_authority_has_issued_vouches_for_no_more(tmp_path: Path) -> None:
    """Operators put the certificates that issue into `authority` as well, and those need not say whose they are."""
    above = authority("a")
    between = Authority.fresh()
    issuing = (
        x509.CertificateBuilder()
        .subject_name(between.certificate.subject)
        .public_key(between.certificate.public_key())
        .issuer_name(above.certificate.subject)
        .serial_number(x509.random_serial_number())
        .not_valid_before(above.certificate.not_valid_before_utc)
        .not_valid_after(above.certificate.not_valid_after_utc)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(above._key, hashes.SHA256())
    )
    trusted = [issuing, *(authority(one).certificate for one in parties.PARTIES)]
    assert authorities_for(trusted, "keyholder-b") == authority("b").certificate_pem()
    assert authorities_for(trusted, "keyholder-a").count(b"BEGIN CERTIFICATE") == 2
    files = TlsFiles.read(made(tmp_path, "keyholder-a", above.issue("keyholder-a")).tls)
    files = replace(files, trusted=tuple(trusted))
    shown = {name: [x509.load_pem_x509_certificate(between.issue(name)[0])] for name in ("keyholder-a", "keyholder-b")}
    assert files.trusts(shown["keyholder-a"]) and not files.trusts(shown["keyholder-b"])


def test_the_folder_of_an_authority_gives_out_those_of_others_too(tmp_path: Path) -> None:
    others = {party: authority(party).certificate for party in parties.PARTIES[1:]}
    home = AuthorityFolder.make(tmp_path / "authority", authority("a"), "words", CHEAP, others)
    expected = [authority(party).certificate for party in parties.PARTIES]
    assert x509.load_pem_x509_certificates(home.bundle()) == expected
    assert x509.load_pem_x509_certificates((home.path / "for-parties" / "ca.pem").read_bytes()) == expected
    assert home.authorities() == expected[:1]
    write_file(home.path / "others" / "organisation-b.crl", authority("b").revocation_list({}, 1))
    assert home.revocation_lists().count(b"BEGIN X509 CRL") == 2
    home.replace("words", CHEAP)
    assert [organisations_of(one) for one in x509.load_pem_x509_certificates(home.bundle())] == [
        {"a"}, {"a"}, {"b"}, {"c"}
    ]  # fmt: skip


def test_an_authority_under_the_name_of_another_organisation_is_found_out(tmp_path: Path) -> None:
    home = AuthorityFolder.make(
        tmp_path / "authority", authority("a"), "words", CHEAP, {"b": authority("b").certificate}
    )
    write_file(home.path / "others" / "organisation-b.pem", authority("c").certificate_pem())
    with pytest.raises(ConfigurationError, match="not an authority of this organisation"):
        home.bundle()
