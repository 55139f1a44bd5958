"""One statement: whose it is, what it is about, and what is sealed in it.

A statement counts as it is, byte for byte: one header, one encoding of the payload, one key for its signature.
"""

from __future__ import annotations

import base64
import binascii

from jwt.api_jws import PyJWS
from jwt.exceptions import InvalidTokenError

from veilmatch.crypto.answer_share import JWS_HEADER, LIFETIME_S, MAX_BYTES, SealedShare
from veilmatch.crypto.errors import StatementError, StatementMismatchError, StatementTimeError
from veilmatch.relying.recipient_key import RecipientKey
from veilmatch.relying.trust import Trust

_ALGORITHM = "EdDSA"
_HEADER = base64.urlsafe_b64encode(JWS_HEADER).rstrip(b"=").decode()
_JWS = PyJWS(algorithms=[_ALGORITHM])


def verified(token: str, trust: Trust) -> SealedShare:
    """Return what a compact JWS says, signed by the organisation that it names.

    Raises StatementError if it is not one statement, or not signed by that organisation; StatementMismatchError if it
    is of another installation or key.
    """
    header, _, rest = token.partition(".")
    if len(token) > 2 * MAX_BYTES or header != _HEADER or not token.isascii():
        raise StatementError("not a statement about an answer")
    said = SealedShare.decode(_payload(rest))
    about = said.about
    for what, got, expected in (
        ("installation", about.installation, trust.installation),
        ("key", about.key_id, trust.key_id),
    ):
        if got != expected:
            raise StatementMismatchError(f"the statement is of another {what}", got=got.hex(), expected=expected.hex())
    try:
        checked = _JWS.decode(token, trust.signer(about.party), algorithms=[_ALGORITHM])
    except InvalidTokenError:
        checked = None
    # The very bytes that were parsed, and no second text of them.
    if checked != said.encode() or _rest(token) != _canonical(token):
        raise StatementError(
            "a statement is not signed by the organisation that it names, or was altered", got=about.party
        )
    return said


def require_time(said: SealedShare, now_s: float, skew_s: float) -> None:
    """Raise StatementTimeError unless a statement counts at this Unix time, give or take skew_s.

    None counts for longer than LIFETIME_S. What was opened has to be remembered for as long as it could open again, and
    one organisation that lies could have it remembered for ever.
    """
    about = said.about
    if (lives_s := about.expires_at_s - about.issued_at_s) > LIFETIME_S:
        raise StatementTimeError("the statement counts for too long", got=f"{lives_s} s", expected=f"<= {LIFETIME_S} s")
    if about.issued_at_s > now_s + skew_s:
        ahead = f"{about.issued_at_s - now_s:.0f} s ahead"
        raise StatementTimeError("the statement is dated ahead of this clock", got=ahead, expected=f"<= {skew_s:.0f} s")
    if now_s >= about.expires_at_s + skew_s:
        raise StatementTimeError("the statement has expired", got=f"{now_s - about.expires_at_s:.0f} s ago")


def opened(said: SealedShare, key: RecipientKey) -> bytes:
    """Return the share that is sealed in a statement. Raises StatementError, or StatementMismatchError if it is for
    another recipient."""
    about = said.about
    if about.recipient != key.statement.id:
        raise StatementMismatchError(
            "the statement is for another recipient", got=about.recipient.hex(), expected=key.statement.id.hex()
        )
    share = key.open(said.sealed, about.info())
    if len(share) != about.share_bytes:
        raise StatementError("what is sealed is not a share of the answer", got=f"{len(share)} bytes")
    return share


def _payload(rest: str) -> bytes:
    text = rest.partition(".")[0]
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        raise StatementError("not a statement about an answer") from None


def _rest(token: str) -> str:
    return token.partition(".")[2]


def _canonical(token: str) -> str:
    """Return payload and signature written as base64url without spare bits: some texts decode alike."""
    return ".".join(_again(part) for part in _rest(token).split("."))


def _again(text: str) -> str:
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        return ""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
