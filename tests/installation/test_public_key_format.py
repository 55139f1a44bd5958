"""public.json: one encoding only, and no unsound key gets in."""

from __future__ import annotations

import dataclasses
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.installation.making import PARAMETERS, ceremony, organisations, public_file, signers
from veilmatch.common.public_file import read_public_file, read_public_key
from veilmatch.crypto.arithmetic import Integer, is_prime
from veilmatch.crypto.encryption.paillier import PublicKey
from veilmatch.crypto.encryption.public_key_format import FORMAT, PublicFile
from veilmatch.crypto.errors import ConfigurationError, KeyFileError, KeyMismatchError, VeilmatchError
from veilmatch.crypto.rings.primes import random_prime

BITS = PARAMETERS.modulus_bits


def fields() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(public_file().encode())
    return found


def encoded(changes: dict[str, Any]) -> bytes:
    return (json.dumps(fields() | changes, indent=1) + "\n").encode()


def named_after_itself(modulus: Integer, hs: Integer) -> bytes:
    """Return the file of a key that its makers did name rightly: only its numbers are wrong."""
    return PublicFile(PublicKey(PARAMETERS, modulus, hs), bytes(16), organisations(), signers()).encode()


# -- one encoding only ------------------------------------------------------------------------


def test_a_public_file_survives_its_encoding() -> None:
    again = PublicFile.decode(public_file().encode())
    assert again == public_file()
    assert again.encode() == public_file().encode()
    assert again.public_key.key_id == ceremony().public_key.key_id


def test_two_installations_of_one_key_are_told_apart() -> None:
    one, other = (PublicFile.fresh(ceremony().public_key, organisations(), signers()) for _ in range(2))
    assert one.installation != other.installation
    assert len(one.installation) == 16


@pytest.mark.parametrize(
    "other",
    [
        lambda data: data[:-1],
        lambda data: data + b"\n",
        lambda data: b" " + data,
        lambda data: b"\xef\xbb\xbf" + data,
        lambda data: json.dumps(json.loads(data)).encode(),
        lambda data: json.dumps(json.loads(data), indent=2).encode() + b"\n",
        lambda data: data.replace(b"\n", b"\r\n"),
        lambda data: (json.dumps(dict(reversed(json.loads(data).items())), indent=1) + "\n").encode(),
        lambda data: data.replace(b'"hs": "', b'"hs": "0'),
        lambda data: data.replace(b'"hs": "', b'"hs": "0x'),
        lambda data: data.replace(b'"hs": "', b'"hs": " '),
        lambda data: data.replace(b'"hs": "', b'"hs": "+'),
        lambda data: data.replace(b'"modulus": "', b'"modulus": "0'),
        lambda data: data.replace(b'"veilmatch public', b'"\\u0076eilmatch public'),
        lambda data: data.replace(b'"installation"', b'"installation": "", "installation"'),
    ],
)  # fmt: skip
def test_every_other_encoding_of_the_same_key_is_refused(other: Any) -> None:
    data = other(public_file().encode())
    assert data != public_file().encode()
    with pytest.raises(KeyFileError):
        PublicFile.decode(data)


def test_upper_case_digits_are_another_encoding() -> None:
    for name in ("modulus", "hs", "installation"):
        upper = {name: fields()[name].upper()}
        assert upper[name] != fields()[name]
        with pytest.raises(KeyFileError):
            PublicFile.decode(encoded(upper))


# -- malformed files --------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"null", b"7", b'"x"', b"\xff\xfe", b"{", b"[" * 100_000])
def test_what_is_not_a_public_file_is_refused(data: bytes) -> None:
    with pytest.raises(KeyFileError):
        PublicFile.decode(data)


@pytest.mark.parametrize(
    "name", ["format", "installation", "parameter_set", "key_id", "modulus", "hs", "organisations", "signers"]
)
def test_a_missing_field_is_refused(name: str) -> None:
    rest = {key: value for key, value in fields().items() if key != name}
    with pytest.raises(KeyFileError):
        PublicFile.decode((json.dumps(rest, indent=1) + "\n").encode())


@pytest.mark.parametrize(
    "name", ["format", "installation", "parameter_set", "key_id", "modulus", "hs", "organisations", "signers"]
)
@pytest.mark.parametrize("value", [None, 7, True, 1.5, [], {}, ["a"], "", "x", "-1", "\ud800"])
def test_a_field_of_another_type_or_without_sense_is_refused(name: str, value: object) -> None:
    with pytest.raises((KeyFileError, KeyMismatchError)):
        PublicFile.decode(encoded({name: value}))


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(KeyFileError):
        PublicFile.decode(encoded({"comment": "harmless"}))


def test_another_format_version_is_refused() -> None:
    with pytest.raises(KeyFileError):
        PublicFile.decode(encoded({"format": FORMAT.replace("2", "3")}))


@pytest.mark.parametrize("size", [0, 15, 17])
def test_an_installation_id_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(KeyFileError):
        PublicFile.decode(encoded({"installation": "ab" * size}))


def test_a_key_under_another_keys_name_is_refused() -> None:
    with pytest.raises(KeyMismatchError):
        PublicFile.decode(encoded({"key_id": ceremony(1).public_key.key_id.hex()}))


def test_a_key_of_another_parameter_set_is_refused() -> None:
    for name in ("UNSAFE-d9-s60-c23-n512", "UNSAFE-d8-s60-c23-n768", "d128-s60-c23-n3072"):
        with pytest.raises((KeyFileError, KeyMismatchError)):
            PublicFile.decode(encoded({"parameter_set": name}))


@given(st.integers(0, len(public_file().encode()) - 1), st.integers(1, 255))
def test_no_byte_of_the_file_can_be_changed(at: int, mask: int) -> None:
    data = bytearray(public_file().encode())
    data[at] ^= mask
    try:
        found = PublicFile.decode(bytes(data))
    except VeilmatchError:
        return
    # No checksum is over the id of the installation, which the sealed files are bound to, and over the organisations'
    # keys, by which certificates and what daemons say are signed.
    assert found.public_key == public_file().public_key
    before = public_file()
    assert dataclasses.replace(found, public_key=before.public_key) != before


@given(st.binary(max_size=300))
def test_no_bytes_make_anything_but_a_typed_error(data: bytes) -> None:
    with pytest.raises(VeilmatchError):
        PublicFile.decode(data)


# -- unsound keys -----------------------------------------------------------------------------


@cache
def unsound_moduli() -> dict[str, Integer]:
    N, half = ceremony().public_key.modulus, random_prime(BITS // 2)
    small = next(n for n in map(Integer, range((1 << 20) - 1, 0, -2)) if is_prime(n, 30))
    return {
        "even": N + 1,
        "prime": random_prime(BITS),
        "square": half * half,
        "small factor": small * random_prime(BITS - 20),
        "divisible by 3": 3 * random_prime(BITS - 2),
        "one bit short": half * random_prime(BITS // 2 - 1),
        "one bit long": half * random_prime(BITS // 2 + 1),
        "zero": Integer(0),
        "one": Integer(1),
    }


@pytest.mark.parametrize("name", unsound_moduli())
def test_an_unsound_modulus_is_refused(name: str) -> None:
    modulus = unsound_moduli()[name]
    data = named_after_itself(modulus, ceremony().public_key.hs % max(modulus, 2))
    with pytest.raises(KeyFileError) as caught:
        PublicFile.decode(data)
    assert "modulus" in caught.value.message


def test_each_unsound_modulus_is_refused_for_its_own_reason() -> None:
    reasons = {}
    for name, modulus in unsound_moduli().items():
        with pytest.raises(KeyFileError) as caught:
            PublicKey(PARAMETERS, modulus, Integer(2)).validate()
        reasons[name] = caught.value.expected
    assert reasons["even"] == "odd"
    assert reasons["prime"] == "a composite number"
    assert reasons["square"] == "not a square"
    assert reasons["small factor"] == reasons["divisible by 3"] == "no factor under 2^20"
    assert {reasons[n] for n in ("one bit short", "one bit long", "zero", "one")} == {f"exactly {BITS} bits"}


@pytest.mark.parametrize("name", ["zero", "one", "N", "multiple of N", "N^2", "N^2 + 1", "a factor of N"])
def test_an_unsound_base_is_refused(name: str) -> None:
    p, q = random_prime(BITS // 2), random_prime(BITS // 2)
    N = p * q
    bases = {
        "zero": Integer(0), "one": Integer(1), "N": N, "multiple of N": 5 * N, "N^2": N * N, "N^2 + 1": N * N + 1,
        "a factor of N": p,
    }  # fmt: skip
    with pytest.raises(KeyFileError) as caught:
        PublicFile.decode(named_after_itself(N, bases[name]))
    assert "base" in caught.value.message


# -- reading it -------------------------------------------------------------------------------


def test_daemons_read_the_file_from_its_path(tmp_path: Path) -> None:
    path = tmp_path / "public.json"
    path.write_bytes(public_file().encode())
    assert read_public_file(path) == public_file()
    assert read_public_key(path) == ceremony().public_key


def test_a_file_that_is_not_there_is_a_configuration_error(tmp_path: Path) -> None:
    for path in (tmp_path / "public.json", tmp_path):
        with pytest.raises(ConfigurationError) as caught:
            read_public_file(path)
        assert str(path) in str(caught.value)
