"""Cards as their people have them: a file, a text, a QR code that is printed and read; and nothing else is a card."""

from __future__ import annotations

import secrets
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from tests.client.conftest import face
from tests.client.fakes import FakeMatchers
from tests.crypto.test_card import statement
from tests.installation.making import ceremony, organisation_keys, public_file
from veilmatch.client.async_client import AsyncClient
from veilmatch.client.card import QR_BYTES, Card
from veilmatch.client.config import DeviceSettings
from veilmatch.common.public_file import read_public_file
from veilmatch.crypto.card import CONTEXT, SignedCard, record_bytes_of
from veilmatch.crypto.consent import Consent, consent_digest
from veilmatch.crypto.errors import CardError, ConfigurationError, ImageError, KeyMismatchError, VersionError
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.crypto.requests import subject_digest
from veilmatch.crypto.versions import UNSAID

DEFAULT, D512 = ParameterSet(), ParameterSet(dimension=512, scale=120, clip=18)
SALT = bytes(range(16))
PUBLIC = public_file()


def card(
    parameters: ParameterSet = DEFAULT, subject: str = "ada", under: Consent | None = None, **changes: Any
) -> Card:
    """A card whose record is as random as ciphertexts are, signed by the organisations of the tests."""
    record = secrets.token_bytes(record_bytes_of(parameters))
    fields = {"record": record, "subject_digest": subject_digest(SALT, subject), "model": "sface-2021dec-fb143eea"}
    if under is not None:
        fields["consent_digest"] = consent_digest(SALT, under.encode())
    said = statement(parameters, **fields | changes)
    first, second = (organisation_keys()[party].sign(CONTEXT, said.digest()) for party in said.organisations)
    return Card(SignedCard(said, (first, second)), subject, SALT, under)


CARD = card()


def test_sizes_are_those_of_the_documentation() -> None:
    assert 1800 < len(CARD.encode()) < 1900 and len(CARD.text) < 2600
    assert len(card(D512).encode()) > QR_BYTES


@given(st.text(min_size=1, max_size=40).filter(lambda name: name.isprintable() and name == name.strip()))
def test_a_card_comes_back_as_it_was(name: str) -> None:
    import unicodedata

    given_card = card(ParameterSet.from_name("UNSAFE-d8-s60-c23-n512"), unicodedata.normalize("NFC", name))
    assert Card.decode(given_card.encode()) == given_card and Card.decode(given_card.text.encode()) == given_card


def test_a_file_holds_bytes_or_text_whatever_its_line_ends(tmp_path: Path) -> None:
    file = tmp_path / "ada.vm"
    CARD.save(file)
    assert Card.load(file) == CARD and file.stat().st_mode & 0o777 == 0o600
    for text in (CARD.text, CARD.text.replace("\n", "\r\n"), f"  {CARD.text}\n\n"):
        file.write_text(text, newline="")
        assert Card.load(file) == CARD
    for wrong in (b"", b"nothing", CARD.text[:-40].encode(), CARD.encode()[:-1], CARD.encode() + b"\n", bytes(100_000)):
        file.write_bytes(wrong)
        with pytest.raises(CardError):
            Card.load(file)
    with pytest.raises(ConfigurationError):
        Card.load(tmp_path / "none.vm")
    with pytest.raises(ConfigurationError):
        CARD.save(tmp_path / "none" / "ada.vm")


@given(st.integers(0, len(CARD.encode()) - 1), st.integers(1, 255))
def test_no_altered_byte_passes(place: int, difference: int) -> None:
    public = replace(PUBLIC, installation=CARD.signed.statement.installation)
    data = bytearray(CARD.encode())
    data[place] ^= difference
    with pytest.raises((CardError, KeyMismatchError)):
        found = Card.decode(bytes(data))
        found.signed.check(lambda party, message, signature: _signed(public, party, message, signature))


def _signed(public: Any, party: Any, message: bytes, signature: bytes) -> bool:
    from veilmatch.server.ground.organisation import verify

    return verify(public.signer(party), CONTEXT, message, signature)


def test_a_card_is_checked_with_nothing_but_the_public_file() -> None:
    key = ceremony().public_key
    ours = {"installation": PUBLIC.installation, "key_id": key.key_id}
    card(key.parameters, **ours).check(PUBLIC)
    with pytest.raises(CardError, match="another installation"):
        card(key.parameters, **ours | {"installation": bytes(16)}).check(PUBLIC)
    with pytest.raises(KeyMismatchError):
        card(key.parameters, **ours | {"key_id": bytes(16)}).check(PUBLIC)
    good = card(key.parameters, **ours)
    for signatures in (good.signed.signatures[::-1], (good.signed.signatures[0],) * 2, (bytes(64), bytes(64))):
        with pytest.raises(CardError, match="has not signed"):
            replace(good, signed=replace(good.signed, signatures=signatures)).check(PUBLIC)


UNDER = Consent("Quittenbrot/19", "v3", 1_800_000_000)


def test_a_card_says_under_which_consent_it_was_issued_and_no_other() -> None:
    """What servers are shown of it is a salted digest."""
    under = card(under=UNDER)
    for found in (Card.decode(under.encode()), Card.decode(under.text.encode())):
        assert found == under and found.consent == UNDER
    assert b"Quittenbrot" in under.encode() and b"Quittenbrot" not in under.signed.encode()
    assert len(under.encode()) < QR_BYTES
    for other in (None, Consent("Quittenbrot/20", "v3", 1_800_000_000), Consent("Quittenbrot/19")):
        with pytest.raises(CardError, match="under the consent"):
            replace(under, consent=other)
    with pytest.raises(CardError, match="under the consent"):
        replace(CARD, consent=UNDER)
    data = under.encode()
    with pytest.raises(CardError):
        Card.decode(data.replace(b'["Quitt', b'[ "Quit'))


def test_a_card_is_for_the_name_on_it() -> None:
    for changes in ({"subject": "ben"}, {"salt": bytes(16)}, {"salt": b""}, {"subject": ""}):
        with pytest.raises(CardError):
            replace(CARD, **changes)


@pytest.mark.parametrize("name", ["ada", "\U0001f600" * 60])
def test_a_qr_code_is_printed_and_read(tmp_path: Path, name: str) -> None:
    """At the default set, upright and as a camera sees it: turned, blurred, grey."""
    given_card, file = card(subject=name), tmp_path / "card.png"
    given_card.qr(file)
    assert Card.from_qr(str(file)) == given_card
    with Image.open(file) as image:
        seen = image.convert("L").rotate(7, expand=True, fillcolor=255).filter(ImageFilter.GaussianBlur(0.7))
    pixels = np.clip(np.asarray(seen.convert("RGB")).astype(int) // 2 + 60, 0, 255).astype(np.uint8)
    assert Card.from_qr(pixels) == given_card
    for ending in ("svg", "pdf"):
        given_card.qr(tmp_path / f"card.{ending}")
        assert (tmp_path / f"card.{ending}").stat().st_size > 1000


def test_what_is_no_qr_code_of_a_card_is_refused(tmp_path: Path) -> None:
    import segno

    other = tmp_path / "other.png"
    segno.make_qr("https://example.org").save(str(other), scale=4)
    with pytest.raises(CardError, match="0 QR codes"):
        Card.from_qr(str(other))
    with pytest.raises(ImageError):
        Card.from_qr(b"no image")
    with pytest.raises(CardError, match="too large"):
        card(D512).qr(tmp_path / "large.png")
    with pytest.raises(ConfigurationError):
        CARD.qr(tmp_path / "card.gif")


def test_nothing_of_the_record_is_shown() -> None:
    shown = repr(CARD) + str(CARD)
    assert CARD.serial not in shown and "record" not in shown and SALT.hex() not in shown


@pytest.mark.parametrize("late", ["a", "b", "c"])
async def test_a_matcher_that_knows_no_cards_is_named(settings: DeviceSettings, fakes: FakeMatchers, late: str) -> None:
    getattr(fakes, late).hello = UNSAID
    async with AsyncClient(settings, matchers=fakes.all) as client:
        key = read_public_file(settings.public_key)
        ours = {"installation": key.installation, "key_id": key.public_key.key_id, "gallery": settings.gallery}
        own = card(key.public_key.parameters, **ours)
        for call in (
            lambda: client.issue_embedding("ada", face(1), model="toy", days=1),
            lambda: client.verify_embedding(own, face(1), model="toy"),
            lambda: client.revoke_card(own.serial),
        ):
            with pytest.raises(VersionError, match=f"matcher-{late} has to be updated"):
                await call()
        with pytest.raises(CardError, match="another gallery"):
            elsewhere = card(key.public_key.parameters, **ours | {"gallery": "elsewhere"})
            await client.verify_embedding(elsewhere, face(1), model="toy")
        with pytest.raises(KeyMismatchError, match="under another key"):
            await client.verify_embedding(card(gallery=settings.gallery), face(1), model="toy")
    assert not fakes.a.requests
