"""Enrolling once: tokens are made of the photos under the key of the device, and servers say what was done before."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from veilmatch import AsyncClient
from veilmatch.client.given.tokens import EnrolmentTokens
from veilmatch.client.results import Enrolment
from veilmatch.client.wire.signing import DeviceKey
from veilmatch.crypto.digests import digest
from veilmatch.crypto.errors import IntegrityError, InvalidInputError, UnavailableError
from veilmatch.crypto.requests import TOKEN_BYTES, signed_bytes

from .fakes import FakeMatchers, body_of

KEYS = [Ed25519PrivateKey.generate() for _ in range(2)]


@pytest.fixture
def photos(tmp_path: Path) -> list[str]:
    for name in ("1.jpg", "2.jpg", "3.jpg"):
        (tmp_path / name).write_text(name)
    return [str(tmp_path / name) for name in ("1.jpg", "2.jpg", "3.jpg")]


def tokens_sent(fakes: FakeMatchers) -> list[bytes]:
    return [body_of(request).token for request in fakes.a.requests]


async def test_the_same_photo_is_added_once_whatever_its_name_and_order(
    client: AsyncClient, fakes: FakeMatchers, photos: list[str], tmp_path: Path
) -> None:
    one, two, three = photos
    assert await client.enrol("ada", one, two, once=True) == Enrolment(sequence=2, templates=2, repeated=0)
    assert await client.enrol("ada", one, two, once=True) == Enrolment(sequence=2, templates=2, repeated=2)
    assert (await client.enrol("ada", two, three, one, once=True)).repeated == 2
    (tmp_path / "copy.png").write_text("1.jpg")
    assert (await client.enrol("ada", tmp_path / "copy.png", Path(two).read_bytes(), once=True)).repeated == 2
    assert fakes.templates == ["ada"] * 3
    assert (await client.enrol("ada", one, one, two)).repeated == 0, "without `once` every call is another one"
    assert fakes.templates == ["ada"] * 6


async def test_the_same_photo_twice_in_one_call_is_added_once(
    client: AsyncClient, fakes: FakeMatchers, photos: list[str]
) -> None:
    assert (await client.enrol("ada", photos[0], photos[0], once=True)).repeated == 1
    assert fakes.templates == ["ada"]


async def test_another_subject_is_another_enrolment(
    client: AsyncClient, fakes: FakeMatchers, photos: list[str]
) -> None:
    assert (await client.enrol("ada", photos[0], once=True)).repeated == 0
    assert (await client.enrol("bob", photos[0], once=True)).repeated == 0
    assert fakes.templates == ["ada", "bob"]


async def test_what_was_erased_is_added_again_as_often_as_that_happens(
    client: AsyncClient, fakes: FakeMatchers, photos: list[str]
) -> None:
    for _ in range(3):
        assert (await client.enrol("ada", *photos[:2], once=True)).repeated == 0
        assert (await client.enrol("ada", *photos[:2], once=True)).repeated == 2
        await client.erase("ada")
    sent = tokens_sent(fakes)
    assert len(set(sent)) == 2 * 3 + 3, "two photos three times, and three erasures"


async def test_a_success_that_was_not_seen_is_found_by_the_next_call(
    client: AsyncClient, fakes: FakeMatchers, photos: list[str]
) -> None:
    def lose(reply: Any) -> Any:
        raise UnavailableError("the answer got lost", party="matcher-b")

    fakes.a.change = fakes.b.change = lose
    with pytest.raises(UnavailableError):
        await client.enrol("ada", photos[0], once=True)
    fakes.a.change = fakes.b.change = lambda reply: reply
    assert (await client.enrol("ada", photos[0], once=True)).repeated == 1
    assert fakes.templates == ["ada"]


async def test_a_set_of_photos_is_enrolled_once(client: AsyncClient, fakes: FakeMatchers, photos: list[str]) -> None:
    people = dict(zip(("ada", "bob"), photos, strict=False))
    backwards = list(reversed(people.items()))
    assert await client.enrol_many(people, once=True) == Enrolment(sequence=1, templates=2, repeated=0)
    assert await client.enrol_many(backwards, once=True) == Enrolment(sequence=1, templates=2, repeated=2)
    await client.erase("ada")
    assert (await client.enrol_many(people, once=True)).repeated == 2, "bob is still there"
    await client.erase("bob")
    assert (await client.enrol_many(people, once=True)).repeated == 0
    assert (await client.enrol_many(people | {"cyd": photos[2]}, once=True)).repeated == 0, "another set"


async def test_a_repeated_call_with_a_token_says_so(client: AsyncClient, photos: list[str]) -> None:
    token = bytes(range(TOKEN_BYTES))
    for repeated in (0, 2):
        assert (await client.enrol("ada", *photos[:2], token=token)).repeated == repeated
    with pytest.raises(InvalidInputError, match="token"):
        await client.enrol("ada", photos[0], token=token, once=True)
    with pytest.raises(InvalidInputError, match="token"):
        await client.enrol_many({"ada": photos[0]}, token=token, once=True)


@pytest.mark.parametrize("field", ["repeated", "present"])
async def test_matchers_that_differ_about_what_was_done_are_refused(
    client: AsyncClient, fakes: FakeMatchers, photos: list[str], field: str
) -> None:
    def differ(reply: Any) -> Any:
        setattr(reply, field, type(getattr(reply, field))(not getattr(reply, field)))
        return reply

    fakes.b.change = differ
    with pytest.raises(IntegrityError, match="different"):
        await client.enrol("ada", photos[0], once=True)


# -- tokens --------------------------------------------------------------------------------------------

PLACE = {"device": "kiosk-1", "gallery": "staff", "key_id": bytes(16)}
PARTS = {"subject": "ada", "model": "m", "photo": bytes(32), "time": 0}


def made(key: int = 0, **changes: Any) -> bytes:
    place = {name: changes.pop(name, value) for name, value in PLACE.items()}
    return EnrolmentTokens(DeviceKey(KEYS[key]), **place).of_photo(**PARTS | changes)


@given(st.text(max_size=5), st.text(max_size=5), st.binary(min_size=32, max_size=32), st.integers(0, 3))
def test_a_token_is_the_same_for_the_same_and_another_for_any_other(
    subject: str, model: str, photo: bytes, time: int
) -> None:
    parts = {"subject": subject, "model": model, "photo": photo, "time": time}
    assert made(**parts) == made(**parts)
    assert len(made(**parts)) == TOKEN_BYTES
    others: Iterable[dict[str, Any]] = (
        {"subject": subject + "a"},
        {"model": model + "a"},
        {"photo": digest("x", photo)},
        {"time": time + 1},
        {"device": "kiosk-2"},
        {"gallery": "guests"},
        {"key_id": b"1" * 16},
        {"key": 1},
    )
    assert len({made(**parts), *(made(**parts | other) for other in others)}) == 9


def test_without_the_key_a_token_says_nothing_of_a_known_photo() -> None:
    """What others can compute of everything but the key is not the token, nor what the device signs elsewhere."""
    key = KEYS[0]
    here = digest("enrolling device", *PLACE.values())
    message = digest("enrolment of a photo", here, *PARTS.values())
    public = key.public_key().public_bytes_raw()
    guesses = {digest("enrolment token of a photo", part)[:TOKEN_BYTES] for part in (message, public, public + message)}
    guesses.add(digest("enrolment token of a photo", key.sign(signed_bytes(message)))[:TOKEN_BYTES])
    assert made() not in guesses


def test_the_tokens_of_a_set_have_no_order() -> None:
    tokens = EnrolmentTokens(DeviceKey(KEYS[0]), **PLACE)
    pairs = [("ada", bytes(32)), ("bob", b"1" * 32)]
    assert tokens.of_photos(pairs, "m", 0) == tokens.of_photos(pairs[::-1], "m", 0)
    swapped = [("bob", bytes(32)), ("ada", b"1" * 32)]
    assert len({tokens.of_photos(p, "m", 0) for p in (pairs, swapped, pairs[:1], [*pairs, pairs[0]])}) == 4
