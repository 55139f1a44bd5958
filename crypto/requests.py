"""What a device's signature covers, and the digests inside it.

The signed body holds digests in place of ciphertexts, bulk packs and the subject's name. A key
holder verifies the signature without learning the name: only matchers are given salt and subject.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from typing import Literal, get_args

from veilmatch.crypto.digests import digest, digest_all
from veilmatch.crypto.errors import InvalidInputError

#: What a device may ask for; each is a right that its certificate gives or does not.
Operation = Literal[
    "verify", "candidates", "identify", "known", "enrol", "erase", "bulk", "subjects", "rotate", "retain",
    "issue", "present", "revoke",
]  # fmt: skip
OPERATIONS: tuple[Operation, ...] = get_args(Operation)
#: On records that people carry (card.py): made, compared with a probe, taken back.
ON_CARDS: tuple[Operation, ...] = ("issue", "present", "revoke")
#: What a device may do if nobody says otherwise. To erase what is due is for a device that does nothing else, and cards
#: are for installations that have them: servers of before refuse a certificate with a right that they do not know.
USUAL_RIGHTS: tuple[Operation, ...] = tuple(
    operation for operation in OPERATIONS if operation not in ("retain", *ON_CARDS)
)
#: Views of a face in one request, at most: photos of one person, which are one probe.
MAX_VIEWS = 4
#: Those that compare a probe with templates at a threshold; a certificate says how low that may be.
WITH_PROBE: tuple[Operation, ...] = ("verify", "candidates", "identify", "known", "present")
#: Those of them that compare it with records of one subject, which key holders convert with the probe.
VERIFICATIONS: tuple[Operation, ...] = ("verify", "present")

SUBJECT_CHARACTERS = 128
GALLERY_CHARACTERS = 64
MODEL_CHARACTERS = 64
TOKEN_BYTES = 16
SALT_BYTES = 16
#: Shortest span from issue to expiry: less would be over somewhere between the servers.
MIN_LIFETIME_S = 5.0
_SIGNATURE_PREFIX = b"veilmatch request v1\0"


def signed_bytes(body: bytes) -> bytes:
    """Return what is signed for a serialised RequestBody."""
    return _SIGNATURE_PREFIX + body


def request_digest(body: bytes) -> bytes:
    """Return the 32 bytes that name a request to all parties; through payload_digest it covers the ciphertexts."""
    return digest("request", body)


def payload_digest(ciphertexts: Iterable[bytes]) -> bytes:
    """Return the digest of a request's lane ciphertexts, 32 bytes."""
    return digest_all("payload", ciphertexts)


def bulk_pack_digest(
    ciphertexts: bytes, templates: Iterable[tuple[str, bytes]], consents: Sequence[bytes] = ()
) -> bytes:
    """Return the digest of one bulk pack: its ciphertexts and (subject, record) of each slot.

    consents: encoded, of each slot, b"" for none; left out if no slot has one.
    """
    parts = [ciphertexts, *(part for s, r in templates for part in (s.encode(), r))]
    return (
        digest_all("bulk pack with consents", [*parts, *consents]) if any(consents) else digest_all("bulk pack", parts)
    )


def bulk_digest(pack_digests: Iterable[bytes]) -> bytes:
    """Return the payload digest of a bulk enrolment, from its packs' digests in order."""
    return digest_all("bulk", pack_digests)


def subject_digest(salt: bytes, subject: str) -> bytes:
    """Return the salted digest of a subject's name, 32 bytes."""
    return digest("subject", salt, subject)


def check_subject(subject: str) -> str:
    """Return the subject if it can be one: 1..128 printable characters, NFC, no space at either end.

    Raises InvalidInputError otherwise.
    """
    return check_text("subject", subject, SUBJECT_CHARACTERS)


def check_model(model: str) -> str:
    """Return the name of an embedding model if it can be one: 1..64 characters, otherwise like a subject.

    Raises InvalidInputError otherwise.
    """
    return check_text("model", model, MODEL_CHARACTERS)


def check_gallery(gallery: str) -> str:
    """Return the name of a gallery if a certificate can give rights in it: 1..64 characters, like a subject.

    Raises InvalidInputError otherwise.
    """
    return check_text("gallery", gallery, GALLERY_CHARACTERS)


def check_text(what: str, text: str, characters: int) -> str:
    """Return a text if it can stand for something: 1..characters printable ones, NFC, no space at either end.

    what: it is, for the InvalidInputError that is raised otherwise.
    """
    if not 1 <= len(text) <= characters:
        raise InvalidInputError(f"{what} of the wrong length", got=len(text), expected=f"1..{characters} characters")
    for place, character in enumerate(text, start=1):
        if not character.isprintable():
            raise InvalidInputError(
                f"{what} holds a character that names cannot have",
                got=f"{_named(character)} in place {place}",
                expected="printable characters, and no space but U+0020",
            )
    if text != text.strip():
        end = "the start" if text[0] == " " else "the end"
        raise InvalidInputError(f"{what} has an outer space", got=f"{_named(' ')} at {end}", expected="none")
    composed = unicodedata.normalize("NFC", text)
    if composed != text:
        place = next((i for i, (c, d) in enumerate(zip(text, composed, strict=False)) if c != d), len(composed))
        raise InvalidInputError(
            f"{what} is not in Unicode NFC", got=f"{_named(text[place])} in place {place + 1}", expected="NFC"
        )
    return text


def _named(character: str) -> str:
    return f"U+{ord(character):04X} {unicodedata.name(character, '(no name)')}"
