"""One party's side of a joint ceremony, or of another step of three: a state machine without I/O.

Make one, send what `start` returns, then give `resume` the messages of the peers that it awaits (`awaited`), send what
it returns, and so on until `finished`; `result` is what came of it then. What is sent has to reach the peer and nobody
else, and to be known to come from this party: mutual TLS whose keys people have compared, not an authority's word, as
whoever can pass for two of three has the key.

Rules: a message is of this session, of the next round, and of exactly the length that the round has; what was told to
both peers is hashed, and the three compare it before a key is kept. Whatever is wrong ends the session with an error,
and nothing of it is used again: numbers that were shown once are not shown under another mask. No message, and no
error, quotes a number. A party that stops is for the surroundings to notice.

The first two rounds make the session: each says what it is about and commits to a nonce, and to a secret for each
peer, and then shows them. Name and seeds of the session are hashes of what both, or all three, have put in.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from veilmatch.crypto.ceremony.coins import committed
from veilmatch.crypto.ceremony.rounds import Received, Round, Steps, both, together
from veilmatch.crypto.ceremony.seats import SEED_BYTES, Randomness, Reached, Seat
from veilmatch.crypto.digests import DIGEST_BYTES, NONCE_BYTES, digest
from veilmatch.crypto.errors import KeyMismatchError, ProtocolError
from veilmatch.crypto.keys.parties import PARTIES, Party
from veilmatch.crypto.secret_access import SecretHolder

_NO_SESSION = bytes(DIGEST_BYTES)
_T = TypeVar("_T")
#: Returns the digest of all that this party has told, and has been told, so far.
Told = Callable[[], bytes]


@dataclass(frozen=True, slots=True, repr=False)
class Message(SecretHolder):
    """What one party says to one peer in one round. session: 32 bytes, 0 until it has a name."""

    session: bytes
    number: int
    payload: bytes


#: Messages by peer.
Messages = Mapping[Party, Message]


class Transcript:
    """A hash of all that was told, by whom and when."""

    def __init__(self) -> None:
        self._state = hashlib.sha256(b"veilmatch ceremony transcript v1")

    def note(self, number: int, told: Mapping[Party, bytes]) -> None:
        """Add what was told in a round. Rounds in which nothing is told leave no trace."""
        for party in PARTIES:
            if data := told.get(party, b""):
                self._state.update(number.to_bytes(8, "big") + party.encode() + len(data).to_bytes(8, "big") + data)

    def digest(self) -> bytes:
        """Return the 32 bytes of all so far."""
        return self._state.digest()


class Session(SecretHolder, Generic[_T]):
    """One party's side."""

    def __init__(
        self, party: Party, about: bytes, steps: Callable[[Seat, Told], Steps[_T]], reached: Reached | None = None
    ) -> None:
        """about: 32 bytes that have to be the same at all three. steps: what follows once the session has a name.

        reached: hears which part begins, for people who wait.
        """
        self.party, self._about, self._after = party, about, steps
        self._reached = reached or (lambda _part, _rounds: None)
        self.finished = self._started = False
        #: What came of it, when the session has finished without an error.
        self.result: _T | None = None
        self._session, self._number = _NO_SESSION, 0
        #: With each peer, once the session has its name.
        self.seed_digests: dict[Party, bytes] = {}
        self._transcript = Transcript()
        self._round = Round()
        self._steps = self._run()

    @property
    def name(self) -> bytes:
        """The session's name, 32 bytes that all three have drawn; 0 before the first rounds have made it."""
        return self._session

    @property
    def told(self) -> bytes:
        """The digest of all that was told so far; the same at all three when they have finished."""
        return self._transcript.digest()

    @property
    def awaited(self) -> dict[Party, int]:
        """How long a payload each peer has to send before `resume` is called; peers that say nothing are left out."""
        sizes = {peer: self._round.heard.get(peer, 0) + self._round.awaited.get(peer, 0) for peer in PARTIES}
        return {peer: size for peer, size in sizes.items() if size}

    def start(self) -> Messages:
        """Return the first messages. Raises ProtocolError if it was called before."""
        if self._started:
            raise ProtocolError("the session has begun")
        self._started = True
        return self._advance(None)

    def resume(self, messages: Messages) -> Messages:
        """Return the next messages, given those that were awaited. Raises the error that ends the session."""
        try:
            received = self._received(messages)
        except BaseException:
            self.finished = True
            raise
        return self._advance(received)

    def _advance(self, received: Received | None) -> Messages:
        if self.finished:
            raise ProtocolError("the session has ended")
        try:
            self._round = next(self._steps) if received is None else self._steps.send(received)
        except StopIteration as stop:
            self.finished, self.result, self._round = True, stop.value, Round()
            return {}
        except BaseException:
            self.finished = True
            raise
        peers = [peer for peer in PARTIES if peer != self.party]
        payloads = {peer: self._round.told + self._round.sent.get(peer, b"") for peer in peers}
        return {peer: Message(self._session, self._number, data) for peer, data in payloads.items() if data}

    def _received(self, messages: Messages) -> Received:
        awaited = self.awaited
        if set(messages) != set(awaited):
            raise ProtocolError("messages of other key holders than a round of a ceremony has")
        told, sent = dict.fromkeys(self._round.heard, b""), dict.fromkeys(self._round.awaited, b"")
        for peer, message in messages.items():
            if message.session != self._session or message.number != self._number:
                raise ProtocolError("a message of another session or round", got=message.number, expected=self._number)
            if len(message.payload) != awaited[peer]:
                raise ProtocolError("a message of the wrong size", got=len(message.payload), expected=awaited[peer])
            size = self._round.heard.get(peer, 0)
            told[peer], sent[peer] = message.payload[:size], message.payload[size:]
        self._transcript.note(self._number, told | {self.party: self._round.told})
        self._number += 1
        return Received(sent, told)

    def _run(self) -> Steps[_T]:
        randomness = yield from _introduced(self.party, self._about)
        self._session, self.seed_digests = randomness.session, randomness.seed_digests()
        return (yield from self._after(Seat(self.party, randomness, "", self._reached), self._transcript.digest))


def _introduced(party: Party, about: bytes) -> Steps[Randomness]:
    """Make the session: its name, and a seed with each peer. Two rounds.

    Raises KeyMismatchError where a peer is about something else, ProtocolError as `committed` does.
    """
    seat = Seat(party, Randomness(about, {}))
    pairs = [(x, y) for x in PARTIES for y in PARTIES if x < y]
    _, (nonces, *secrets) = yield from both(
        _about(seat, about),
        together([
            committed(seat.named("nonce"), PARTIES, seat.octets(NONCE_BYTES)),
            *(
                committed(seat.named(f"secret {x}{y}"), (x, y), seat.octets(SEED_BYTES) if party in (x, y) else b"")
                for x, y in pairs
            ),
        ]),
    )  # fmt: skip
    session = digest("ceremony session", about, *(nonces[x] for x in PARTIES))
    seeds: dict[Party, bytes] = {}
    for (x, y), shown in zip(pairs, secrets, strict=True):
        if party in (x, y):
            seeds[y if party == x else x] = digest("ceremony seed", session, x, y, shown[x], shown[y])
    return Randomness(session, seeds)


def _about(seat: Seat, about: bytes) -> Steps[None]:
    received = yield Round(told=about, heard=dict.fromkeys((seat.behind, seat.ahead), DIGEST_BYTES))
    for peer, theirs in received.told.items():
        if theirs != about:
            raise KeyMismatchError(
                "a key ceremony about something else, or of another version", party=f"keyholder-{peer}"
            )


def compared(seat: Seat, digest: bytes) -> Steps[None]:
    """Compare a digest with both peers. One round. Raises ProtocolError where it differs."""
    received = yield Round(told=digest, heard=dict.fromkeys((seat.behind, seat.ahead), DIGEST_BYTES))
    for peer, theirs in received.told.items():
        if not hmac.compare_digest(theirs, digest):
            raise ProtocolError("the key holders of a ceremony were told different things", party=f"keyholder-{peer}")
