"""Which TLS authority may name whom, where every organisation has an authority of its own.

The authority of an organisation has that as its organisation name, O=organisation-a, and then it vouches for the
servers of this organisation and for none of another. Devices are nobody's: any authority may name them, and what a
device may do is said by its certificate of rights. An authority without such a name vouches for everybody, as where
there is one for all; but one that another one has issued, with both of them trusted, for no more than that.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import NameOID

from veilmatch.crypto.errors import ConfigurationError

_ORGANISATION = re.compile(r"organisation-([a-c])")
_SERVER = re.compile(r"(?:matcher|keyholder)-([a-c])")


def organisations_of(authority: x509.Certificate) -> frozenset[str]:
    """Return the letters of the organisations that an authority's certificate names: one, or none if it is common."""
    names = (str(one.value) for one in authority.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME))
    return frozenset(found[1] for found in map(_ORGANISATION.fullmatch, names) if found)


def may_name(authority: x509.Certificate, party_name: str) -> bool:
    """Whether certificates of this authority count that are in the name of this server or device."""
    organisations, server = organisations_of(authority), _SERVER.fullmatch(party_name)
    return not organisations or server is None or organisations == {server[1]}


def vouches(authority: x509.Certificate, party_name: str, trusted: Iterable[x509.Certificate]) -> bool:
    """Whether it may name this party, and so may those of the trusted ones that it was issued by."""
    return all(may_name(one, party_name) for one in _and_above(authority, trusted))


def behind(authority: x509.Certificate, trusted: Iterable[x509.Certificate]) -> frozenset[str]:
    """Return the letters of the organisations whose authority it is, or has issued it; none if it is common to all."""
    return frozenset().union(*(organisations_of(one) for one in _and_above(authority, trusted)))


def _and_above(authority: x509.Certificate, trusted: Iterable[x509.Certificate]) -> list[x509.Certificate]:
    """Return it, and those of the trusted ones that it was issued by."""
    known, found = list(trusted), [authority]
    for one in found:
        found += [above for above in known if above not in found and issued_by(one, above)]
    return found


def issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """Whether this authority has issued it; dates are not looked at."""
    try:
        certificate.verify_directly_issued_by(authority)
    except (InvalidSignature, ValueError, TypeError, UnsupportedAlgorithm):
        return False
    return True


def authorities_for(authorities: Iterable[x509.Certificate], party_name: str) -> bytes:
    """Return those that may name this party, PEM: what whoever calls it is to trust.

    Raises ConfigurationError if there is none: gRPC would take that for the authorities of the whole world.
    """
    trusted = list(authorities)
    found = [one for one in trusted if vouches(one, party_name, trusted)]
    if not found:
        raise ConfigurationError(
            "no authority that is trusted here may name this party", got=party_name[:60],
            expected="tls.authority with the authority of its organisation",
        )  # fmt: skip
    return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in found)
