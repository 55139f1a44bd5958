"""For a relying party that lets nobody else learn the answer: opens and checks what a device brings.

    from veilmatch.relying import RecipientKey, SqliteSeen, Statement, Trust

    trust = Trust.load("public.json")
    key = RecipientKey.load("recipient.key", "recipient.cert")
    seen = SqliteSeen("seen.sqlite")

    statement = Statement.open(answer, trust, key, expect_subject="alice", expect_challenge=challenge, seen=seen)
    if statement:
        ...

Needs the extra `relying`, and nothing of a device or of a server: of other packages only `cryptography` and PyJWT are
imported. Every error is a VeilmatchError. docs/recipients.md.
"""

from __future__ import annotations

from veilmatch.crypto.sealed_answer import SealedAnswer
from veilmatch.relying.recipient_key import RecipientKey
from veilmatch.relying.seen import MemorySeen, Seen, SqliteSeen
from veilmatch.relying.statement import Statement
from veilmatch.relying.trust import Trust

__all__ = ["MemorySeen", "RecipientKey", "SealedAnswer", "Seen", "SqliteSeen", "Statement", "Trust"]
