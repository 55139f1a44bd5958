"""An installation without daemons: organisations that state answers, and a recipient to whom they do."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from veilmatch.crypto.answer_share import Context, SealedShare, labels_digest, share_data
from veilmatch.crypto.keys.parties import PARTIES, Pair, Party
from veilmatch.crypto.keys.recipient_certificate import CONTEXT, RecipientCertificate
from veilmatch.crypto.keys.recipient_certificate import Statement as Said
from veilmatch.crypto.parameters import DEFAULT
from veilmatch.crypto.requests import subject_digest
from veilmatch.crypto.sealed_answer import SealedAnswer
from veilmatch.relying import RecipientKey, Trust
from veilmatch.relying.recipient_key import SUITE
from veilmatch.server.ground.organisation import OrganisationKey

NOW_S = 1_750_000_000
INSTALLATION, KEY_ID = bytes(range(16)), bytes(range(16, 32))
ORGANISATIONS = {party: OrganisationKey.fresh(party) for party in PARTIES}
TRUST = Trust(INSTALLATION, KEY_ID, DEFAULT, tuple(one.public_bytes for one in ORGANISATIONS.values()))
SALT, CHALLENGE = b"s" * 16, b"from the back end"
LABELS = ("alice", "bob", "bob", "eve", "zoë")


def recipient(signers: str = "ab", **changes: Any) -> RecipientKey:
    """A recipient's fresh key, certified by these organisations."""
    key = X25519PrivateKey.generate()
    said = Said(INSTALLATION, "bank", key.public_key().public_bytes_raw(), NOW_S - 1000, NOW_S + 10**7, b"n" * 16)
    said = replace(said, **changes)
    certificate = RecipientCertificate(said)
    for party in signers:
        certificate = certificate.with_signature(party, ORGANISATIONS[party].sign(CONTEXT, said.id))  # type: ignore
    return RecipientKey(key, certificate)


KEY = recipient()


def context(party: Party, pair: Pair, **changes: Any) -> Context:
    about = Context(
        installation=INSTALLATION, key_id=KEY_ID, party=party, pair=pair, request=pair.encode() * 16,
        session=b"s" * 32, device="door-2", operation="verify", subject=subject_digest(SALT, "alice"), labels=b"",
        threshold=6351, gallery="main", sequence=7, chain=b"c" * 32, recipient=KEY.statement.id, challenge=CHALLENGE,
        count=1, issued_at_s=NOW_S, expires_at_s=NOW_S + 600,
    )  # fmt: skip
    return replace(about, **changes)


def searching(operation: str, labels: Sequence[str] = LABELS) -> dict[str, Any]:
    """What a search states in the place of a verification."""
    count = len(labels).bit_length() if operation == "identify" else len(labels)
    return {"operation": operation, "subject": b"", "labels": labels_digest(labels), "count": count}


def stated(
    about: Context, share: bytes, valid: bool, *, key: RecipientKey = KEY, info: bytes | None = None,
    signer: Party | None = None,
) -> str:  # fmt: skip
    """One organisation's statement. info, signer: what it is sealed under and who signs, in place of the right ones."""
    public = X25519PublicKey.from_public_bytes(key.statement.public_key)
    sealed = SUITE.encrypt(share_data(share, valid), public, info=about.info() if info is None else info)
    return ORGANISATIONS[signer or about.party].sign_statement(SealedShare(about, sealed).encode())


def pair_states(pair: Pair, answer: int, *, valid: bool = True, at: Any = None, **changes: Any) -> tuple[str, str]:
    """The statements of a pair. answer: its bits, as a number. at: changes of what the second one says only."""
    plus, minus = context(pair[0], pair, **changes), context(pair[1], pair, **changes)  # type: ignore[arg-type]
    size, coin = (plus.count + 7) // 8, bool(secrets.randbits(1))
    mask = secrets.randbits(8 * size)
    return (
        stated(plus, mask.to_bytes(size, "little"), coin),
        stated(replace(minus, **(at or {})), (mask ^ answer).to_bytes(size, "little"), coin ^ valid),
    )


def verification(decision: bool = True, pair: Pair = "ab", **changes: Any) -> SealedAnswer:
    return SealedAnswer(pair_states(pair, int(decision), **changes), SALT)


def search(operation: str, answer: int, labels: Sequence[str] = LABELS, **changes: Any) -> SealedAnswer:
    return SealedAnswer(pair_states("ab", answer, **searching(operation, labels), **changes), b"", tuple(labels))
