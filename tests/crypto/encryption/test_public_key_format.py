"""public.json: one encoding, and nothing else is one."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.crypto.toys import ORGANISATIONS, SIGNERS, TOY, toy_public_key
from veilmatch.crypto.encryption.public_key_format import PublicFile
from veilmatch.crypto.errors import KeyFileError, KeyMismatchError, VeilmatchError
from veilmatch.crypto.keys.parties import PARTIES
from veilmatch.crypto.parameters import ParameterSet

FILE = PublicFile(toy_public_key(TOY), bytes(range(16)), ORGANISATIONS, SIGNERS)
DATA = FILE.encode()


def changed(**changes: Any) -> bytes:
    return (json.dumps(json.loads(DATA) | changes, indent=1) + "\n").encode()


def test_file_comes_back_as_it_was() -> None:
    assert PublicFile.decode(DATA) == FILE and PublicFile.decode(DATA).encode() == DATA
    assert changed() == DATA


def test_fresh_installations_differ() -> None:
    assert len({PublicFile.fresh(FILE.public_key, ORGANISATIONS, SIGNERS).installation for _ in range(10)}) == 10


@pytest.mark.parametrize("bits", [512, 1024, 3072])
def test_every_modulus_size_comes_back(bits: int) -> None:
    file = PublicFile.fresh(toy_public_key(ParameterSet(128, 60, 23, bits)), ORGANISATIONS, SIGNERS)
    assert PublicFile.decode(file.encode()) == file


def test_each_organisation_has_its_key() -> None:
    assert [FILE.organisation(party) for party in PARTIES] == list(ORGANISATIONS)
    assert [FILE.signer(party) for party in PARTIES] == list(SIGNERS)


def test_file_of_the_format_before_is_refused_and_says_what_to_do() -> None:
    fields = json.loads(DATA) | {"format": "veilmatch public key 1"}
    del fields["signers"]
    with pytest.raises(KeyFileError, match="two matchers") as caught:
        PublicFile.decode((json.dumps(fields, indent=1) + "\n").encode())
    assert caught.value.expected == "veilmatch public key 2" and "Move the installation" in str(caught.value.hint)


N, HS, OWN, SIGN = (json.loads(DATA)[name] for name in ("modulus", "hs", "organisations", "signers"))


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{}", b"[]", b"null", b"7", DATA[:-1], DATA + b"\n", DATA.replace(b" ", b"", 1), DATA[:-2] + b",\n}\n",
        b"\xff" + DATA, b"\xef\xbb\xbf" + DATA, b"[" * 100_000, DATA.replace(b"{", b'{\n "format": "",', 1),
        changed(format="veilmatch public key 3"), changed(extra=1), changed(modulus=None), changed(modulus=5),
        changed(modulus="0x" + N), changed(modulus="0" + N), changed(modulus=N.upper()),
        changed(modulus=N[:1] + "_" + N[1:]), changed(modulus=" " + N), changed(modulus="-" + N),
        changed(modulus="+" + N), changed(modulus=N[:-1] + "2"), changed(modulus="0"), changed(modulus=""),
        changed(hs="1"), changed(hs="0"), changed(hs="-" + HS), changed(hs="00" + HS), changed(installation=""),
        changed(installation="00" * 15), changed(installation="00" * 17), changed(installation="AB" * 16),
        changed(installation="00 " * 16), changed(installation=5), changed(parameter_set="d12"),
        changed(parameter_set=[]), changed(parameter_set="d" + "9" * 5000 + "-s60-c23-n3072"),
        changed(key_id="zz"), changed(key_id=""), changed(key_id=None),
        changed(organisations=None), changed(organisations={}), changed(organisations=list(OWN.values())),
        changed(organisations=OWN | {"d": "00" * 32}), changed(organisations={"a": OWN["a"], "b": OWN["b"]}),
        changed(organisations=OWN | {"b": OWN["a"]}), changed(organisations=OWN | {"c": OWN["c"][2:]}),
        changed(organisations=OWN | {"c": "AB" * 32}), changed(organisations=OWN | {"c": 7}),
        changed(organisations=dict(reversed(OWN.items()))), changed(signers=None), changed(signers={}),
        changed(signers=OWN), changed(signers=SIGN | {"c": OWN["a"]}), changed(signers=SIGN | {"b": SIGN["a"]}),
        changed(signers=SIGN | {"d": "00" * 32}), changed(signers=SIGN | {"c": SIGN["c"][2:]}),
        changed(signers=dict(reversed(SIGN.items()))),
    ],
)  # fmt: skip
def test_what_is_not_the_one_encoding_is_refused(data: bytes) -> None:
    with pytest.raises(KeyFileError):
        PublicFile.decode(data)


@pytest.mark.parametrize("change", [{"key_id": "00" * 16}, {"hs": "2"}, {"parameter_set": "UNSAFE-d12-s8-c2-n512"}])
def test_key_that_is_not_the_one_named_is_refused(change: dict[str, str]) -> None:
    with pytest.raises(KeyMismatchError):
        PublicFile.decode(changed(**change))


@given(st.integers(0, len(DATA) - 1), st.integers(1, 255))
@settings(deadline=None)
def test_no_altered_byte_goes_unnoticed(at: int, flipped: int) -> None:
    altered = DATA[:at] + bytes([DATA[at] ^ flipped]) + DATA[at + 1 :]
    try:
        found = PublicFile.decode(altered)
    except VeilmatchError:
        return
    # Nothing else in the file vouches for the installation and the keys of organisations.
    assert found.encode() == altered and found.public_key == FILE.public_key


@given(
    st.one_of(
        st.binary(max_size=60), st.recursive(st.none() | st.text(), st.lists).map(lambda v: json.dumps(v).encode())
    )
)
def test_other_data_is_no_public_key_file(data: bytes) -> None:
    decode: Callable[[bytes], PublicFile] = PublicFile.decode
    with pytest.raises(VeilmatchError):
        decode(data)
