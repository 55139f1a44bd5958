"""Certificates and revocation lists damaged anywhere: read, or a ValueError, and no error of the library's own."""

from __future__ import annotations

import base64
import datetime
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from veilmatch.common.pem import certificate_in, certificates_of, revocation_list_of
from veilmatch.server.installation.authority import Authority


@cache
def authority() -> Authority:
    return Authority.fresh()


def pem(kind: str, der: bytes) -> bytes:
    return b"-----BEGIN %b-----\n%b-----END %b-----\n" % (kind.encode(), base64.encodebytes(der), kind.encode())


def certificate() -> bytes:
    return x509.load_pem_x509_certificate(authority().issue("device-1", is_server=False)[0]).public_bytes(Encoding.DER)


def revocations() -> bytes:
    made = authority().revocation_list({7: datetime.datetime.now(datetime.UTC)}, 1)
    return x509.load_pem_x509_crl(made).public_bytes(Encoding.DER)


READ: list[tuple[Callable[[], bytes], Callable[[bytes], Any]]] = [
    (certificate, certificate_in),
    (certificate, lambda der: certificates_of(pem("CERTIFICATE", der))),
    (revocations, lambda der: revocation_list_of(pem("X509 CRL", der))),
]


# Numbers that RFC 5280 forbids, which the library reads with a warning.
@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
@pytest.mark.parametrize(("make", "read"), READ, ids=["DER", "PEM", "list"])
def test_what_is_damaged_anywhere_is_read_or_a_value_error(
    make: Callable[[], bytes], read: Callable[[bytes], Any]
) -> None:
    good = make()
    assert read(good)
    for at in range(len(good)):
        for value in {0, 0x42, 0xFF, good[at] ^ 1, good[at] ^ 0x80}:
            with suppress(ValueError):
                read(good[:at] + bytes([value]) + good[at + 1 :])
        with suppress(ValueError):
            read(good[:at])


def test_a_version_that_there_is_not_is_a_value_error() -> None:
    good = certificate()
    bad = good.replace(bytes.fromhex("a003020102"), bytes.fromhex("a003020142"), 1)
    assert bad != good
    for read in (certificate_in, lambda der: certificates_of(pem("CERTIFICATE", der))):
        with pytest.raises(ValueError, match="66"):
            read(bad)
