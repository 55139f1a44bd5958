"""Digests bind every part and its place; subjects are printable NFC text and nothing else."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veilmatch.crypto import requests
from veilmatch.crypto.digests import DIGEST_BYTES, digest, digest_all
from veilmatch.crypto.errors import InvalidInputError

PARTS = st.lists(st.one_of(st.binary(max_size=12), st.text(max_size=6), st.integers(0, 2**64 - 1)), max_size=4)


def normal(parts: list[bytes | int | str]) -> list[bytes]:
    """Parts as the bytes that they stand for."""
    return [p.to_bytes(8, "big") if isinstance(p, int) else p.encode() if isinstance(p, str) else p for p in parts]


@given(PARTS, PARTS)
def test_digests_of_different_parts_differ(one: list[bytes | int | str], other: list[bytes | int | str]) -> None:
    assert (digest("x", *one) == digest("x", *other)) == (normal(one) == normal(other))
    assert len(digest("x", *one)) == DIGEST_BYTES and digest("x", *one) != digest("y", *one)


@given(st.lists(st.binary(max_size=12), max_size=4), st.lists(st.binary(max_size=12), max_size=4))
def test_digests_of_different_lists_differ(one: list[bytes], other: list[bytes]) -> None:
    assert (digest_all("x", one) == digest_all("x", other)) == (one == other)
    assert digest_all("x", iter(one)) == digest_all("x", one) != digest_all("y", one)


def test_parts_cannot_be_moved_between_each_other_or_into_the_label() -> None:
    made = [
        digest("x", b"ab"), digest("x", b"a", b"b"), digest("x", b"b", b"a"), digest("x", b"", b"ab"),
        digest("x", b"ab", b""), digest("xa", b"b"), digest("x"), digest_all("x", []), digest_all("x", [b"ab"]),
        digest_all("x", [b"a", b"b"]), digest_all("x", [b""]),
    ]  # fmt: skip
    assert all(one != other for one, other in combinations(made, 2))


def test_a_part_is_its_bytes_whatever_it_was_before() -> None:
    assert digest("x", 258) == digest("x", bytes([0, 0, 0, 0, 0, 0, 1, 2]))
    assert digest("x", "é") == digest("x", b"\xc3\xa9")
    assert digest("x", 0) != digest("x", b"\0") != digest("x", "0")
    assert digest_all("x", []) == digest("x", b""), "why the two functions share no label"


@pytest.mark.parametrize("number", [-1, 2**64])
def test_number_of_more_than_64_bits_has_no_digest(number: int) -> None:
    with pytest.raises(OverflowError):
        digest("x", number)


def test_digests_of_requests_have_separate_domains() -> None:
    body = b"body"
    made = [
        requests.request_digest(body),
        requests.payload_digest([body]),
        requests.bulk_digest([body]),
        requests.bulk_pack_digest(body, []),
        requests.subject_digest(body, ""),
        digest("session request", body),
    ]
    assert len(set(made)) == len(made)
    assert requests.signed_bytes(body) != requests.signed_bytes(body + b"\0")


def test_payload_digest_binds_order_and_number() -> None:
    made = [[b"a", b"b"], [b"b", b"a"], [b"a"], [b"ab"], [b"a", b"b", b""]]
    assert len({requests.payload_digest(items) for items in made}) == len(made)


def test_bulk_pack_digest_binds_every_template_to_its_slot() -> None:
    made = [
        (b"pack", [("a", b"1"), ("b", b"2")]),
        (b"pack", [("b", b"2"), ("a", b"1")]),
        (b"pack", [("a", b"2"), ("b", b"1")]),
        (b"pack", [("a", b"1")]),
        (b"kcap", [("a", b"1"), ("b", b"2")]),
    ]
    assert len({requests.bulk_pack_digest(pack, templates) for pack, templates in made}) == len(made)


def test_subject_digest_depends_on_salt_and_name() -> None:
    made = {requests.subject_digest(salt, name) for salt in (b"0" * 16, b"1" * 16) for name in ("Ada", "ada")}
    assert len(made) == 4


@pytest.mark.parametrize("model", ["embedding", "sface-2021dec-fb143eea", "x" * 64, "modèle"])
def test_model_that_can_be_one_is_returned(model: str) -> None:
    assert requests.check_model(model) == model


@pytest.mark.parametrize("model", ["", "x" * 65, " a", "a\n", "e\u0301"])
def test_model_that_cannot_be_one_is_refused(model: str) -> None:
    with pytest.raises(InvalidInputError, match="model"):
        requests.check_model(model)


@pytest.mark.parametrize("subject", ["a", "Ada Lovelace", "Zoë", "李小龍", "x" * 128, "#1/a", "é"])
def test_subject_that_can_be_one_is_returned(subject: str) -> None:
    assert requests.check_subject(subject) == subject


@pytest.mark.parametrize(
    "subject",
    [
        "",
        "x" * 129,
        " a",
        "a ",
        "\ta",
        "a\n",
        "a\x00b",
        "a\x7f",
        "a\u200b",
        "a\u202eb",
        "e\u0301",
        "\u00a0a",
        "a\ud800",
    ],
)
def test_subject_that_cannot_be_one_is_refused(subject: str) -> None:
    with pytest.raises(InvalidInputError):
        requests.check_subject(subject)
