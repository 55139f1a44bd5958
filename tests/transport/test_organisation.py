"""The signing key of an organisation: what it signs is of one context, one message and one organisation."""

from __future__ import annotations

import copy
import pickle

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from veilmatch.crypto.errors import KeyFileError
from veilmatch.crypto.gallery_change import SIGNATURE_BYTES
from veilmatch.crypto.secret_access import SECRET_ACCESS
from veilmatch.server.ground import organisation
from veilmatch.server.ground.organisation import OrganisationKey, verify

KEY = OrganisationKey.fresh("b")
CONTEXT = "gallery change v1"


@given(st.binary(max_size=200))
def test_what_it_signs_is_verified_with_its_public_key_alone(message: bytes) -> None:
    signature = KEY.sign(CONTEXT, message)
    assert len(signature) == SIGNATURE_BYTES
    assert verify(KEY.public_bytes, CONTEXT, message, signature)
    assert not verify(OrganisationKey.fresh("b").public_bytes, CONTEXT, message, signature)
    assert not verify(KEY.public_bytes, "gallery promise v1", message, signature)
    assert not verify(KEY.public_bytes, CONTEXT, message + b"x", signature)


def test_signed_bytes_are_those_that_are_written_down() -> None:
    public = Ed25519PublicKey.from_public_bytes(KEY.public_bytes)
    public.verify(KEY.sign("answer share v1", b"m"), b"veilmatch answer share v1\0m")


@pytest.mark.parametrize("signature", [b"", bytes(63), bytes(64), bytes(65), b"\xff" * 64])
def test_what_is_no_signature_is_false(signature: bytes) -> None:
    assert not verify(KEY.public_bytes, CONTEXT, b"m", signature)
    assert not verify(b"short", CONTEXT, b"m", KEY.sign(CONTEXT, b"m"))


@given(st.integers(0, 8 * SIGNATURE_BYTES - 1))
def test_no_bit_of_a_signature_can_be_changed(bit: int) -> None:
    signature = bytearray(KEY.sign(CONTEXT, b"m"))
    signature[bit // 8] ^= 1 << bit % 8
    assert not verify(KEY.public_bytes, CONTEXT, b"m", bytes(signature))


def test_a_signature_that_was_found_right_is_right_for_nothing_else() -> None:
    signature = KEY.sign(CONTEXT, b"known")
    for _ in range(2):
        before = organisation._is_signature.cache_info().hits
        assert verify(KEY.public_bytes, CONTEXT, b"known", signature)
    assert organisation._is_signature.cache_info().hits == before + 1
    assert not verify(KEY.public_bytes, CONTEXT, b"unknown", signature)
    assert not verify(KEY.public_bytes, "another context", b"known", signature)
    assert not verify(OrganisationKey.fresh("b").public_bytes, CONTEXT, b"known", signature)


def test_what_is_too_long_for_a_signature_is_not_kept() -> None:
    before = organisation._is_signature.cache_info()
    assert not verify(KEY.public_bytes, CONTEXT, b"m", bytes(1 << 20))
    assert organisation._is_signature.cache_info() == before


def test_it_comes_back_from_its_secret_and_shows_none() -> None:
    secret = KEY.to_secret_bytes(SECRET_ACCESS)
    again = OrganisationKey.from_secret_bytes("b", secret)
    assert (again.party, again.public_bytes) == ("b", KEY.public_bytes)
    assert secret.hex() not in repr(KEY) and repr(secret)[2:-1] not in repr(KEY)
    for leak in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="secret"):
            leak(KEY)
    with pytest.raises(KeyFileError):
        OrganisationKey.from_secret_bytes("b", secret[:-1])
