"""The TLS files of a daemon, read together and looked at: gRPC would call anything that is wrong a failed handshake."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.x509.oid import NameOID

from veilmatch.common.authorities import authorities_for, issued_by, vouches
from veilmatch.common.pem import certificates_of, require_pem, require_valid
from veilmatch.common.secret_file import read_private
from veilmatch.common.settings import TlsSettings
from veilmatch.crypto.errors import ConfigurationError
from veilmatch.server.installation.tls.revocations import Revocations

#: Certificates between a party's and one that is trusted; nobody has more.
_CHAIN = 4


@dataclass(frozen=True)
class TlsFiles:
    """What the files held when they were read. own: the certificate of this party. trusted: of the authorities."""

    authority: bytes
    certificate: bytes
    key: bytes = field(repr=False)
    own: x509.Certificate
    trusted: tuple[x509.Certificate, ...]
    revocations: Revocations

    @staticmethod
    def read(tls: TlsSettings, party_name: str | None = None, crl: Path | None = None) -> TlsFiles:
        """Read them. party_name: whose the certificate has to be. crl: the revocation list, if there is one.

        Raises ConfigurationError if a file is missing or does not hold what it should, the certificate is not valid
        now, or it is another party's; KeyFileError if others than its owner have a right to the key.
        """
        try:
            authority, certificate = tls.authority.read_bytes(), tls.certificate.read_bytes()
            key = read_private(tls.key, "the TLS key")
        except OSError as error:
            raise ConfigurationError(
                "a TLS file cannot be read", got=f"{error.filename}: {error.strerror}", expected="a PEM file"
            ) from error
        own = require_pem(tls, authority, certificate, key)
        require_valid(own, tls.certificate, time.time())
        if party_name is not None:
            _require_name(own, tls, party_name)
        trusted = tuple(certificates_of(authority))
        revocations = Revocations.read(crl, trusted) if crl is not None else Revocations.none()
        return TlsFiles(authority, certificate, key, own, trusted, revocations)

    def server_configuration(self) -> grpc.ServerCertificateConfiguration:
        """Return what a listening side shows, and whom it lets in."""
        return grpc.ssl_server_certificate_configuration([(self.key, self.certificate)], self.authority)

    def channel_credentials(self, party_name: str) -> grpc.ChannelCredentials:
        """Return what a calling side shows, and whose word for the called party's name it takes.

        Raises ConfigurationError if nobody's.
        """
        return grpc.ssl_channel_credentials(authorities_for(self.trusted, party_name), self.key, self.certificate)

    def trusts(self, chain: list[x509.Certificate]) -> bool:
        """Whether a certificate, the first one, is of an authority that is trusted now, and that may name its party.

        Others may lie between. The handshake has looked at all else, but maybe with authorities that were trusted then,
        and whoever they name. One that another of those has taken back is not trusted.
        """
        roots, names = self.roots(chain), names_of(chain[0])
        return any(all(vouches(root, name, self.trusted) for name in names) for root in roots)

    def roots(self, chain: list[x509.Certificate]) -> list[x509.Certificate]:
        """Return the trusted authorities that a certificate, the first one, leads to."""
        at, *between = chain
        trusted = [one for one in self.trusted if not self.revocations.has(one, self.trusted)]
        for _ in range(_CHAIN):
            if found := [one for one in trusted if at == one or issued_by(at, one)]:
                return found
            above = next((one for one in between if _is_authority(one) and issued_by(at, one)), None)
            if above is None:
                break
            at = above
        return []


def names_of(certificate: x509.Certificate) -> list[str]:
    """Return the common names in a certificate: one, of a party or device."""
    return [str(one.value) for one in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]


def _require_name(own: x509.Certificate, tls: TlsSettings, party_name: str) -> None:
    found = names_of(own)
    if found != [party_name]:
        raise ConfigurationError(
            f"{tls.certificate}: the certificate is not this party's, and others would refuse it",
            got=", ".join(found) or "no name",
            expected=party_name,
        )


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        return False
