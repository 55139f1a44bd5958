"""Statements as compact JWS (RFC 7515): signed with an organisation's key, by PyJWT.

What is signed begins with base64url, and everything else that the key signs with "veilmatch ": no signature of one is
a signature of the other. The type in the header keeps statements of other kinds apart.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.api_jws import PyJWS

from veilmatch.crypto.answer_share import JWS_TYPE

_JWS = PyJWS(algorithms=["EdDSA"])


def signed_statement(key: Ed25519PrivateKey, payload: bytes) -> str:
    """Return the payload, signed, with the header of statements about answers."""
    return _JWS.encode(payload, key, algorithm="EdDSA", headers={"typ": JWS_TYPE}, sort_headers=True)
