"""What organisations sign about the changes of a gallery, and the certificate of a change: two signatures.

A vote names gallery, key, sequence number, chain value and ballot. Both organisations of the ballot's pair sign it
twice: as a *proposal*, when both have made the change and before either accepts it, and as an *acceptance*, when it is
durable. So nobody accepts, or hands on, a change that only one organisation made up. Two acceptances are the
certificate. A *statement* is the signed state of one organisation: what it has committed, promised and accepted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from veilmatch.crypto.digests import digest
from veilmatch.crypto.errors import IntegrityError, ProtocolError
from veilmatch.crypto.gallery_change import (
    ACCEPTANCE,
    BALLOT_BYTES,
    CERTIFICATE_BYTES,
    SIGNATURE_BYTES,
    VOTE_BYTES,
    vote_message,
)
from veilmatch.crypto.gallery_change import CHAIN_BYTES as _CHAIN_BYTES
from veilmatch.crypto.gallery_change import SEQUENCE_BYTES as _SEQUENCE_BYTES
from veilmatch.crypto.keys.parties import PARTIES, Party
from veilmatch.server.ground.organisation import verify
from veilmatch.server.matcher.agreement.acceptor import Accepted, GalleryState
from veilmatch.server.matcher.agreement.ballots import Ballot

#: What signatures are for, beside ACCEPTANCE; no two of them can be taken for each other.
PROPOSAL = "gallery proposal v1"
PROMISE = "gallery promise v1"

#: Returns the public signing key of an organisation: `PublicFile.signer`.
Signers = Callable[[Party], bytes]


class Signer(Protocol):
    """Signs for one organisation; `transport.organisation.OrganisationKey`."""

    @property
    def party(self) -> Party:
        """Whose key it is."""

    def sign(self, context: str, message: bytes) -> bytes:
        """Return a signature, 64 bytes, the same for the same message."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Which gallery it is about: its name, and the id of the key that it is encrypted under (16 bytes)."""

    gallery: str
    key_id: bytes


@dataclass(frozen=True, slots=True)
class Vote:
    """Change number `sequence`, which leads to the chain value `chain`, under a ballot."""

    sequence: int
    chain: bytes
    ballot: Ballot

    def message(self, scope: Scope) -> bytes:
        """Return what is signed."""
        return vote_message(scope.gallery, scope.key_id, self.sequence, self.chain, self.ballot.encode())

    def sign(self, context: str, scope: Scope, signer: Signer) -> bytes:
        """Return the signature of one organisation."""
        return signer.sign(context, self.message(scope))

    def is_signed(self, context: str, scope: Scope, party: Party, signers: Signers, signature: bytes) -> bool:
        """Return whether an organisation has signed this."""
        return verify(signers(party), context, self.message(scope), signature)

    def encode(self) -> bytes:
        """Return 50 bytes."""
        return self.sequence.to_bytes(_SEQUENCE_BYTES, "big") + self.chain + self.ballot.encode()

    @staticmethod
    def decode(data: bytes) -> Vote:
        """Return the vote. Raises ProtocolError if there is none in `data`."""
        if len(data) != VOTE_BYTES:
            raise ProtocolError("not a vote on a change", got=f"{len(data)} bytes")
        at = _SEQUENCE_BYTES + _CHAIN_BYTES
        return Vote(int.from_bytes(data[:_SEQUENCE_BYTES], "big"), data[_SEQUENCE_BYTES:at], Ballot.decode(data[at:]))


@dataclass(frozen=True, slots=True)
class Certificate:
    """A vote with the signatures of both organisations of its ballot's pair, in the order of the pair.

    Of acceptances: the certificate of a change. Of proposals: where an accepted change comes from.
    """

    vote: Vote
    signatures: tuple[bytes, bytes]

    @staticmethod
    def of(vote: Vote, signatures: dict[Party, bytes]) -> Certificate:
        """Return the certificate of these signatures, by organisation."""
        first, second = (signatures[party] for party in PARTIES if party in vote.ballot.pair)
        return Certificate(vote, (first, second))

    @staticmethod
    def signed(vote: Vote, scope: Scope, *by: Signer, context: str = ACCEPTANCE) -> Certificate:
        """Return the certificate that these two organisations sign; for whoever holds both keys, as a ceremony does."""
        return Certificate.of(vote, {signer.party: vote.sign(context, scope, signer) for signer in by})

    def check(self, scope: Scope, signers: Signers, context: str = ACCEPTANCE) -> None:
        """Raise IntegrityError unless both organisations of the pair have signed this vote about this gallery."""
        for party, signature in zip(self.vote.ballot.pair, self.signatures, strict=True):
            if not self.vote.is_signed(context, scope, party, signers, signature):  # type: ignore[arg-type]
                raise IntegrityError(
                    f"change {self.vote.sequence} of the gallery has no signature of organisation {party}",
                    expected="a certificate of two organisations",
                )

    def encode(self) -> bytes:
        """Return 178 bytes."""
        return self.vote.encode() + b"".join(self.signatures)

    @staticmethod
    def decode(data: bytes) -> Certificate:
        """Return the certificate, unchecked. Raises ProtocolError if there is none in `data`."""
        if len(data) != CERTIFICATE_BYTES:
            raise ProtocolError("not a certificate of a change", got=f"{len(data)} bytes")
        at = VOTE_BYTES + SIGNATURE_BYTES
        return Certificate(Vote.decode(data[:VOTE_BYTES]), (data[VOTE_BYTES:at], data[at:]))


@dataclass(frozen=True, slots=True)
class Statement:
    """What one organisation says that it has committed, promised and accepted."""

    party: Party
    state: GalleryState
    signature: bytes = b""

    def message(self, scope: Scope) -> bytes:
        """Return what is signed."""
        return digest("gallery statement", scope.gallery, scope.key_id, self._content())

    def signed(self, scope: Scope, signer: Signer) -> Statement:
        """Return the statement with its signature."""
        return Statement(self.party, self.state, signer.sign(PROMISE, self.message(scope)))

    def check(self, scope: Scope, signers: Signers) -> None:
        """Raise ProtocolError unless the organisation has signed this."""
        if not verify(signers(self.party), PROMISE, self.message(scope), self.signature):
            raise ProtocolError(f"organisation {self.party} has not signed its state of the gallery")

    def encode(self) -> bytes:
        """Return an encoding, signature included."""
        return self.party.encode() + self._content() + self.signature

    @staticmethod
    def decode(data: bytes) -> Statement:
        """Return the statement, unchecked. Raises ProtocolError if there is none in `data`."""
        try:
            party, content, signature = data[:1].decode(), data[1:-SIGNATURE_BYTES], data[-SIGNATURE_BYTES:]
            sequence = int.from_bytes(content[:_SEQUENCE_BYTES], "big")
            chain, rest = content[_SEQUENCE_BYTES:][:_CHAIN_BYTES], content[_SEQUENCE_BYTES + _CHAIN_BYTES :]
            promised, rest = _ballot(rest)
            ballot, rest = _ballot(rest)
            accepted = None
            if ballot.pair:
                accepted, rest = Accepted(ballot, rest[:_CHAIN_BYTES]), rest[_CHAIN_BYTES:]
            statement = Statement(_party(party), GalleryState(sequence, chain, promised, accepted), signature)
            if rest or statement.encode() != data:
                raise ValueError
        except (ValueError, OverflowError, ProtocolError):
            raise ProtocolError("not a statement about a gallery", got=f"{len(data)} bytes") from None
        return statement

    def _content(self) -> bytes:
        accepted = self.state.accepted
        parts = [
            self.state.sequence.to_bytes(_SEQUENCE_BYTES, "big") + self.state.chain,
            _padded(self.state.promised),
            _padded(accepted.ballot) + accepted.chain if accepted is not None else bytes(BALLOT_BYTES),
        ]
        return b"".join(parts)


def _party(letter: str) -> Party:
    for party in PARTIES:
        if party == letter:
            return party
    raise ValueError


def _padded(ballot: Ballot) -> bytes:
    return ballot.encode() or bytes(BALLOT_BYTES)


def _ballot(data: bytes) -> tuple[Ballot, bytes]:
    found = data[:BALLOT_BYTES]
    return Ballot.decode(found if any(found) else b""), data[BALLOT_BYTES:]
