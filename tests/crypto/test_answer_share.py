"""What organisations state: one encoding, every field checked, and every field bound to what is sealed."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veilmatch.crypto.answer_share import Context, SealedShare, labels_digest, share_data, shared_answer
from veilmatch.crypto.errors import StatementError

ABOUT = Context(
    installation=bytes(16), key_id=b"k" * 16, party="a", pair="ab", request=b"r" * 32, session=b"s" * 32,
    device="door-2", operation="verify", subject=b"u" * 32, labels=b"", threshold=6351, gallery="étage", sequence=3,
    chain=b"c" * 32, recipient=b"p" * 32, challenge=b"ch", count=1, issued_at_s=1_700_000_000,
    expires_at_s=1_700_000_600,
)  # fmt: skip
SEALED = SealedShare(ABOUT, bytes(range(100)))


def test_an_encoding_comes_back_as_the_same_statement() -> None:
    search = replace(ABOUT, operation="candidates", subject=b"", labels=b"l" * 32, count=1000, challenge=b"")
    several = replace(ABOUT, views=4)
    for said in (SEALED, SealedShare(search, b""), SealedShare(ABOUT, b"\xff\xfe"), SealedShare(several, b"")):
        assert SealedShare.decode(said.encode()) == said


OTHER: dict[str, Any] = {
    "installation": b"i" * 16, "key_id": bytes(16), "party": "b", "pair": "ac", "request": bytes(32),
    "session": bytes(32), "device": "door-3", "operation": "identify", "subject": bytes(32), "labels": b"l" * 32,
    "threshold": 6352, "gallery": "main", "sequence": 4, "chain": bytes(32), "recipient": bytes(32),
    "challenge": b"", "count": 2, "issued_at_s": 1_700_000_001, "expires_at_s": 1_700_000_601, "views": 2,
}  # fmt: skip


def test_every_field_is_bound_to_what_is_sealed() -> None:
    assert set(OTHER) == {field.name for field in fields(Context)}
    search = replace(ABOUT, operation="candidates", subject=b"", labels=b"m" * 32, count=3)
    for name, value in OTHER.items():
        base = search if name in ("labels", "operation", "count") else ABOUT
        assert replace(base, **{name: value}).info() != base.info(), name


@pytest.mark.parametrize(
    "changes",
    [
        {"installation": b""}, {"key_id": bytes(15)}, {"party": "c"}, {"party": "d"}, {"pair": "ba"}, {"pair": "ad"},
        {"request": b""}, {"session": bytes(31)}, {"device": "Door"}, {"device": ""}, {"operation": "enrol"},
        {"operation": "identify"}, {"subject": b""}, {"labels": bytes(32)}, {"threshold": 0}, {"threshold": 1 << 53},
        {"gallery": ""}, {"sequence": -1}, {"chain": b""}, {"recipient": bytes(31)}, {"challenge": bytes(65)},
        {"count": 0}, {"count": 2}, {"issued_at_s": -1}, {"expires_at_s": 1_700_000_000},
        {"views": 0}, {"views": 5},
    ],
    ids=str,
)  # fmt: skip
def test_a_field_without_sense_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(StatementError):
        replace(ABOUT, **changes)


def test_one_view_is_stated_by_saying_nothing() -> None:
    assert b"views" not in SEALED.encode()
    said = json.loads(SEALED.encode())
    share = said.pop("share")
    for views in (1, True, "2", 5):
        with pytest.raises(StatementError):
            SealedShare.decode(json.dumps(said | {"views": views, "share": share}, separators=(",", ":")).encode())


@given(st.integers(0, len(SEALED.encode()) - 1), st.integers(1, 255))
def test_an_altered_byte_is_refused_or_another_statement(at: int, mask: int) -> None:
    data = bytearray(SEALED.encode())
    data[at] ^= mask
    try:
        found = SealedShare.decode(bytes(data))
    except StatementError:
        return
    assert found != SEALED and found.encode() == bytes(data)


@given(st.binary(max_size=300))
def test_nonsense_is_refused(data: bytes) -> None:
    with pytest.raises(StatementError):
        SealedShare.decode(data)


@pytest.mark.parametrize("change", ["spaces", "order", "more", "less", "padding", "upper", "true", "fraction", "deep"])
def test_another_encoding_of_the_same_is_refused(change: str) -> None:
    claims = json.loads(SEALED.encode())
    match change:
        case "order":
            claims = dict(reversed(claims.items()))
        case "more":
            claims["aud"] = "bank"
        case "less":
            del claims["challenge"]
        case "padding":
            claims["share"] += "=="
        case "upper":
            claims["request"] = "AB" * 32
        case "true":
            claims["count"] = True
        case "fraction":
            claims["iat"] = 1_700_000_000.0
    data = json.dumps(claims, separators=None if change == "spaces" else (",", ":"))
    with pytest.raises(StatementError):
        SealedShare.decode(b"[" * 2000 if change == "deep" else data.encode())


@given(st.integers(1, 70), st.data())
def test_two_shares_are_the_answer(count: int, data: st.DataObject) -> None:
    size = (count + 7) // 8
    bits, mask = data.draw(st.binary(min_size=size, max_size=size)), data.draw(st.binary(min_size=size, max_size=size))
    valid, coin = data.draw(st.booleans()), data.draw(st.booleans())
    masked = bytes(a ^ b for a, b in zip(bits, mask, strict=True))
    assert shared_answer(share_data(mask, coin), share_data(masked, coin ^ valid)) == (bits, valid)


@pytest.mark.parametrize("shares", [(b"", b""), (b"\0\0", b"\0"), (b"\0\2", b"\0\0"), (b"\0\0", b"\0\xff")])
def test_what_is_no_share_is_refused(shares: tuple[bytes, bytes]) -> None:
    with pytest.raises(StatementError):
        shared_answer(*shares)


def test_lists_of_subjects_are_told_apart() -> None:
    lists = [[], [""], ["a"], ["ab"], ["a", "b"], ["b", "a"], ["a", "b", ""]]
    assert len({labels_digest(one) for one in lists}) == len(lists)
