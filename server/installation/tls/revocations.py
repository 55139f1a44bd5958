"""TLS certificates that an authority has taken back: its revocation list, RFC 5280.

A file holds one list for each authority, in PEM, one after the other. A list counts if an authority that is trusted
has signed it, or one between such an authority and a party, whose certificate parties show with their own.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import ExtensionOID

from veilmatch.common.pem import revocation_list_of
from veilmatch.crypto.errors import ConfigurationError

_PEM = re.compile(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----", re.DOTALL)
#: No list is longer: a hundred thousand certificates have 4 MB.
_MAX_BYTES = 1 << 24


@dataclass(frozen=True)
class Revocations:
    """Serial numbers by issuer, and of each issuer the number of its list. next_update_s: when the first one is due.

    between: lists of authorities that are not trusted by themselves; beside the certificate of one shows whether it has
    signed its list.
    """

    serials: Mapping[x509.Name, frozenset[int]]
    numbers: Mapping[x509.Name, int]
    next_update_s: float | None = None
    between: tuple[x509.CertificateRevocationList, ...] = ()

    @staticmethod
    def none() -> Revocations:
        """Return what is known where no list is configured."""
        return Revocations({}, {})

    @staticmethod
    def read(path: Path, authorities: Sequence[x509.Certificate]) -> Revocations:
        """Return what the trusted authorities have taken back.

        Raises ConfigurationError, naming the file, if it cannot be read, a list is damaged or not signed by the
        authority that it names, or no list in it is of one of these authorities.
        """
        try:
            with path.open("rb") as file:
                data = file.read(_MAX_BYTES + 1)
        except OSError as error:
            raise ConfigurationError(
                "the revocation list cannot be read", got=f"{path}: {error.strerror}", expected="tls.crl, a file in PEM"
            ) from None
        serials, numbers, due = dict[x509.Name, frozenset[int]](), dict[x509.Name, int](), list[float]()
        between: list[x509.CertificateRevocationList] = []
        for found in _lists(path, data):
            issuer = found.issuer
            named = [one for one in authorities if one.subject == issuer]
            if not named:
                between.append(found)
                continue
            if not any(is_signed(found, authority) for authority in named):
                raise _wrong(path, "not signed by the authority that it names")
            serials[issuer] = serials.get(issuer, frozenset()) | {one.serial_number for one in found}
            numbers[issuer] = max(numbers.get(issuer, 0), number_of(found))
            if found.next_update_utc is not None:
                due.append(found.next_update_utc.timestamp())
        if not numbers:
            raise _wrong(path, "no list of the authority in tls.authority")
        return Revocations(serials, numbers, min(due, default=None), tuple(between))

    def has(self, certificate: x509.Certificate, shown: Sequence[x509.Certificate] = ()) -> bool:
        """Whether its issuer has taken this certificate back. shown: with it, that of the issuer among them, maybe."""
        if certificate.serial_number in self.serials.get(certificate.issuer, ()):
            return True
        return any(
            found.issuer == certificate.issuer
            and found.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None
            and any(one.subject == found.issuer and is_signed(found, one) for one in shown)
            for found in self.between
        )

    def require_not_before(self, other: Revocations, path: Path, trusted: Collection[x509.Certificate]) -> None:
        """Raise ConfigurationError if a list here is older than that of the same authority in `other`.

        So it is if there is none of an authority that is still trusted, or one of the same number that leaves
        certificates out.
        """
        for issuer in {one.subject for one in trusted} & set(other.numbers):
            known, number = other.numbers[issuer], self.numbers.get(issuer)
            if number is None:
                raise _wrong(path, f"no list of {issuer.rfc4514_string()}; number {known} is in use already")
            if number < known:
                raise _wrong(path, f"list number {number}; number {known} is in use already")
            if number == known and not self.serials[issuer] >= other.serials[issuer]:
                raise _wrong(path, f"list number {number}, which leaves certificates out; it is in use already")


def number_of(found: x509.CertificateRevocationList) -> int:
    """Return the number of a list, 0 if it has none."""
    try:
        value = found.extensions.get_extension_for_oid(ExtensionOID.CRL_NUMBER).value
    except x509.ExtensionNotFound:
        return 0
    return value.crl_number if isinstance(value, x509.CRLNumber) else 0


def _lists(path: Path, data: bytes) -> list[x509.CertificateRevocationList]:
    if len(data) > _MAX_BYTES:
        raise _wrong(path, f"larger than {_MAX_BYTES} bytes")
    try:
        return [revocation_list_of(part) for part in _PEM.findall(data)]
    except ValueError:
        raise _wrong(path, "damaged") from None


def lists_in(path: Path) -> list[x509.CertificateRevocationList]:
    """Return the lists in a file, nobody's signature looked at; none if it is not there or holds no lists."""
    try:
        return _lists(path, path.read_bytes())
    except (OSError, ConfigurationError):
        return []


def is_signed(found: x509.CertificateRevocationList, authority: x509.Certificate) -> bool:
    """Return whether an authority has signed a list."""
    try:
        return found.is_signature_valid(authority.public_key())  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False


def _wrong(path: Path, why: str) -> ConfigurationError:
    return ConfigurationError(
        "the revocation list cannot be used", got=f"{path}: {why}", expected="that of tls.authority"
    )
