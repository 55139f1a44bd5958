"""What organisations sign about a change of a gallery, and what a change says in place of names: digests alone.

Matchers sign and chain changes with these; a device, or whoever it shows a receipt to, follows them with nothing but
the installation's public file. docs/protocol.md, "How changes are agreed on".
"""

from __future__ import annotations

import hashlib

from veilmatch.crypto.digests import digest

#: Size of a chain value and of a digest: SHA-256.
CHAIN_BYTES = 32
SEQUENCE_BYTES = 8
#: Round (8 bytes) and pair (2 letters); see agreement/ballots.py.
BALLOT_BYTES = 10
SIGNATURE_BYTES = 64
#: Of an encoded vote and of an encoded certificate: a vote and two signatures, in the order of the ballot's pair.
VOTE_BYTES = SEQUENCE_BYTES + CHAIN_BYTES + BALLOT_BYTES
CERTIFICATE_BYTES = VOTE_BYTES + 2 * SIGNATURE_BYTES
#: What the two signatures of a certificate are for.
ACCEPTANCE = "gallery change v1"
#: Format of the body of a change that says when it was made, and in place of its token a digest of it.
DATED_FORMAT = "veilmatch change 2"


def signed_by_organisation(context: str, message: bytes) -> bytes:
    """Return the bytes that an organisation's key signs for a message in this context."""
    # No context holds a zero byte, so that two pairs of context and message never look the same.
    return b"veilmatch " + context.encode() + b"\0" + message


def vote_message(gallery: str, key_id: bytes, sequence: int, chain: bytes, ballot: bytes) -> bytes:
    """Return what a vote on change number `sequence`, which leads to `chain`, stands for: 32 bytes.

    ballot: encoded.
    """
    return digest("gallery vote", gallery, key_id, sequence, chain, ballot)


def next_chain(chain: bytes, sequence: int, body_digest: bytes) -> bytes:
    """Return the chain value (32 bytes) after change number `sequence` (from 1), whose body has this SHA-256."""
    return chained(b"veilmatch gallery chain v1", chain, sequence.to_bytes(SEQUENCE_BYTES, "big"), body_digest)


def chained(*parts: bytes) -> bytes:
    """Return SHA-256 of these parts, each behind its length, so that no two lists of them have one encoding."""
    h = hashlib.sha256()
    for part in parts:
        h.update(len(part).to_bytes(8, "big"))
        h.update(part)
    return h.digest()


def mutation_identity(device: str, operation: str, token: bytes, *what: bytes | str) -> bytes:
    """Return what a retry has to have in common with its first attempt, 32 bytes: the body's `request_digest`.

    what: what the change names, a subject above all. The token is the salt: without it nobody guesses a subject.
    """
    return digest("mutation", device, operation, token, *what)


def token_digest(token: bytes) -> bytes:
    """Return what a dated change keeps of its token, 32 bytes: enough to know a retry by.

    The token itself stays with the device, so that the log, which is kept for ever, confirms no name to anybody.
    """
    return digest("token of a change", token)
