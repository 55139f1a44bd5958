"""The three parties of a joint ceremony at one table: drives steps, and whole sessions, in one process."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from veilmatch.crypto.arithmetic import Integer, random_below
from veilmatch.crypto.ceremony.joint.session import CeremonySession
from veilmatch.crypto.ceremony.rounds import Received, Round, Steps
from veilmatch.crypto.ceremony.seats import Randomness, Seat, ahead_of, behind_of
from veilmatch.crypto.ceremony.session import Message, Session
from veilmatch.crypto.ceremony.shared import Shared
from veilmatch.crypto.errors import VeilmatchError
from veilmatch.crypto.keys.parties import PARTIES, Party
from veilmatch.crypto.parameters import ParameterSet

_NOTHING = Round()
#: What a deviating party sends in place of a payload: of a round, to a peer.
Alter = Callable[[int, Party, bytes], bytes]
#: Makes a party's steps.
Play = Callable[[Seat], Steps[Any]]


@dataclass
class Played:
    """By party, what it returned, the error that it ended with, and what it received; and how many rounds it took."""

    returned: dict[Party, Any] = field(default_factory=dict)
    errors: dict[Party, VeilmatchError] = field(default_factory=dict)
    received: dict[Party, list[Received]] = field(default_factory=lambda: {p: [] for p in PARTIES})
    rounds: int = 0

    def of_all(self) -> list[Any]:
        """What the three returned; fails if one has not."""
        assert not self.errors, self.errors
        return [self.returned[party] for party in PARTIES]


def seats(session: bytes = bytes(32)) -> dict[Party, Seat]:
    """Three seats with fresh seeds."""
    seeds = {frozenset(pair): random_seed() for pair in ("ab", "bc", "ca")}
    return {
        party: Seat(
            party, Randomness(session, {peer: seeds[frozenset((party, peer))] for peer in PARTIES if peer != party})
        )
        for party in PARTIES
    }


def random_seed() -> bytes:
    return int(random_below(Integer(1) << 256)).to_bytes(32, "big")


def play(steps: Play, at: Mapping[Party, Seat] | None = None) -> Played:
    """Run the same steps at all three until they have ended, or one has failed: then the others wait for ever."""
    at, played = at or seats(), Played()
    running = {party: steps(at[party]) for party in PARTIES}
    rounds: dict[Party, Round] = {}

    def advance(party: Party, received: Received | None) -> None:
        rounds.pop(party, None)
        try:
            rounds[party] = next(running[party]) if received is None else running[party].send(received)
        except StopIteration as stop:
            played.returned[party] = stop.value
        except VeilmatchError as error:
            played.errors[party] = error

    for party in PARTIES:
        advance(party, None)
    while rounds and not played.errors:
        assert len(rounds) == 3, "a step has as many rounds at all three"
        played.rounds += 1
        said = dict(rounds)
        for party in PARTIES:
            received = received_of(party, said)
            played.received[party].append(received)
            advance(party, received)
    return played


def received_of(party: Party, said: Mapping[Party, Round]) -> Received:
    """What reaches a party of a round; everybody says exactly what the others wait for."""
    mine, peers = said[party], [peer for peer in PARTIES if peer != party]
    sent = {peer: said[peer].sent.get(party, b"") for peer in peers}
    told = {peer: said[peer].told for peer in peers}
    for arrived, sizes in ((sent, mine.awaited), (told, mine.heard)):
        assert {peer: len(data) for peer, data in arrived.items() if data} == {p: n for p, n in sizes.items() if n}
    return Received({peer: sent[peer] for peer in mine.awaited}, {peer: told[peer] for peer in mine.heard})


# -- shared numbers --------------------------------------------------------------------------------------


def dealt(values: list[int], modulus: int) -> dict[Party, Shared]:
    """Random sharings of residues."""
    parts = {party: [random_below(Integer(modulus)) for _ in values] for party in PARTIES}
    parts["c"] = [(v - x - y) % modulus for v, x, y in zip(values, parts["a"], parts["b"], strict=True)]
    return of_parts(parts, modulus)


def of_parts(ahead: Mapping[Party, list[Integer]], modulus: int | None) -> dict[Party, Shared]:
    """Sharings of given shares, by the party that has them with the one ahead of it."""
    whole = None if modulus is None else Integer(modulus)
    return {
        party: Shared(party, list(map(Integer, ahead[behind_of(party)])), list(map(Integer, ahead[party])), whole)
        for party in PARTIES
    }


def combined(shared: list[Shared] | Mapping[Party, Shared]) -> list[int]:
    """What is shared, and that any two parties have the same share."""
    by_party = {x.party: x for x in (shared if isinstance(shared, list) else shared.values())}
    for party in PARTIES:
        assert list(by_party[party].ahead) == list(by_party[ahead_of(party)].behind)
    totals = [sum(map(int, shares)) for shares in zip(*(by_party[party].ahead for party in PARTIES), strict=True)]
    modulus = by_party["a"].modulus
    return totals if modulus is None else [total % int(modulus) for total in totals]


# -- sessions ----------------------------------------------------------------------------------------------


@dataclass
class Ceremony:
    """Three sessions, one of which may send something else than it should."""

    parameters: ParameterSet
    deviates: Party | None = None
    alter: Alter | None = None
    sessions: dict[Party, Session[Any]] = field(init=False)
    errors: dict[Party, VeilmatchError] = field(default_factory=dict)
    rounds: int = 0
    was_altered: bool = False
    bytes_sent: dict[Party, int] = field(default_factory=lambda: dict.fromkeys(PARTIES, 0))
    cpu_s: dict[Party, float] = field(default_factory=lambda: dict.fromkeys(PARTIES, 0.0))

    def __post_init__(self) -> None:
        self.sessions = {party: CeremonySession(party, self.parameters) for party in PARTIES}

    def run(self) -> Ceremony:
        """Run until all have finished, or one has failed: it tells the others, which end as well."""
        out = {party: dict(self.sessions[party].start()) for party in PARTIES}
        while not self.errors and not all(session.finished for session in self.sessions.values()):
            if self.deviates is not None and self.alter is not None:
                out[self.deviates] = {
                    peer: self._altered(peer, message) for peer, message in out[self.deviates].items()
                }
            self.rounds += 1
            out = {party: self._resumed(party, out) for party in PARTIES}
        return self

    def _altered(self, peer: Party, message: Message) -> Message:
        assert self.alter is not None
        payload = self.alter(self.rounds, peer, message.payload)
        self.was_altered |= payload != message.payload
        return replace(message, payload=payload)

    def _resumed(self, party: Party, out: Mapping[Party, Mapping[Party, Message]]) -> dict[Party, Message]:
        session = self.sessions[party]
        arrived = {peer: out[peer][party] for peer in session.awaited if party in out[peer]}
        started = time.process_time()
        try:
            made = dict(session.resume(arrived))
        except VeilmatchError as error:
            self.errors[party] = error
            return {}
        self.cpu_s[party] += time.process_time() - started
        self.bytes_sent[party] += sum(len(message.payload) for message in made.values())
        return made
