"""What happened in one request: messages and work of all parties, and the chain that its answer waited for."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

#: Types that belong to no request: dealt randomness, fetched ahead of time, refreshes, and matchers that follow.
BACKGROUND = {
    "DealRequest", "DealtBlock", "DealtOpeningRequest", "DealtOpeningCommitment", "StockGeneration", "CheckMessage",
    "HealthCheckRequest", "HealthCheckResponse", "WatchRequest", "GalleryNews", "ChangesRequest", "ChangePart",
    "RefreshQuery", "RefreshState", "RefreshStep", "RefreshMessage", "RevocationLists",
}  # fmt: skip
#: A message that its receiver had waited for shorter than this lay there already: it was not waited for.
LAY_S = 3e-4
#: Where it is not known since when a receiver had waited: a message that was longer on its way than within a machine,
#: while its receiver took others, lay there.
LONG_S = 2e-3


@dataclass(frozen=True)
class Message:
    """One message. name: which of several things it is. Times in seconds, of the clock of all parties.

    lay: whether it lay at its receiver when that asked for it, busy with something else before.
    """

    name: str
    sender: str
    receiver: str
    sent_s: float
    taken_s: float
    size: int
    lay: bool = False

    @property
    def travelled_s(self) -> float:
        """From its sender's hands to its receiver's."""
        return self.taken_s - self.sent_s


@dataclass(frozen=True)
class Work:
    """Something that a party was busy with. kind: "thread", or "loop", of which the name says nothing."""

    party: str
    kind: str
    name: str
    began_s: float
    ended_s: float


@dataclass(frozen=True)
class Happened:
    """Everything of one request, in order of time. began_s, ended_s: of the call of the device."""

    began_s: float
    ended_s: float
    messages: tuple[Message, ...]
    works: tuple[Work, ...]

    @property
    def parties(self) -> list[str]:
        """Who took part: the device, matchers, key holders."""
        found = {party for m in self.messages for party in (m.sender, m.receiver)}
        order = ("device", "matcher", "keyholder")
        return sorted(found, key=lambda party: (order.index(party.split("-")[0]), party))


def read(folder: Path, began_s: float, ended_s: float) -> Happened:
    """Return what the notes of all parties in a folder say of the time of one request."""
    ends: list[tuple[str, list[Any]]] = []
    waits: dict[tuple[str, str], tuple[float, float]] = {}
    works = []
    for path in sorted(folder.glob("*.notes")):
        for text in path.read_text().splitlines():
            note = json.loads(text)
            if not began_s <= note[1] <= ended_s:
                continue
            if note[0] in ("sent", "taken"):
                ends.append((path.stem, note))
            elif note[0] == "waited":
                waits[path.stem, note[3]] = note[1], note[2]
            else:
                works.append(Work(path.stem, note[0], note[3], note[1], min(note[2], ended_s)))
    messages = joined(ends, waits)
    parties = {party for m in messages for party in (m.sender, m.receiver)}
    shown = sorted((w for w in works if w.party in parties), key=lambda work: work.began_s)
    return Happened(began_s, ended_s, messages, tuple(shown))


def joined(
    ends: Iterable[tuple[str, Sequence[Any]]], waits: Mapping[tuple[str, str], tuple[float, float]]
) -> tuple[Message, ...]:
    """Return the messages of a request of which both ends were noted: by their hash, equal ones in order of time.

    ends: party, and what `inside.Notes.message` wrote. waits: since when a party had waited for the message with a
    hash, and until when.
    """
    sent: dict[str, list[tuple[float, str, str]]] = defaultdict(list)
    messages = []
    # A message is sent before it is taken.
    for party, (direction, when, kind, name, size, digest, other) in sorted(ends, key=lambda end: float(end[1][1])):
        if kind in BACKGROUND:
            continue
        if direction == "sent":
            sent[digest].append((when, party, other))
            continue
        # Of either end only the calling one knows the other. Both matchers send their key holders the same.
        fitting = (
            at
            for at, (_, sender, receiver) in enumerate(sent[digest])
            if sender != party and receiver in ("", party) and other in ("", sender)
        )
        if (own := next(fitting, None)) is not None:
            began, sender, _ = sent[digest].pop(own)
            known = waits.get((party, digest))
            lay = known[1] - known[0] < LAY_S if known else when - began > LONG_S
            found = Message(name, sender, party, began, known[1] if known else when, size, lay)
            messages.append((found, known is not None))
    taken = sorted((m for m, _ in messages), key=lambda m: m.taken_s)

    def busy(message: Message) -> bool:
        return any(m.receiver == message.receiver and message.sent_s < m.taken_s < message.taken_s for m in taken)

    for_sure = {message for message, known in messages if known}
    return tuple(replace(m, lay=m.lay and (m in for_sure or busy(m))) for m in taken)


def chain(happened: Happened) -> list[Message]:
    """Return the messages that the answer waited for, one after the other.

    From the answer back: whoever sent a message had last waited for the last one that it took before. A message that
    lay there when it was asked for is passed over, for its receiver was busy with something else.

    That is what programs show from outside: a party that took a message for one thing and sent one about another thing
    right after is mistaken for one that waited.
    """
    found: list[Message] = []
    party, when = "device", happened.ended_s
    while waited := [m for m in happened.messages if m.receiver == party and m.taken_s <= when and not m.lay]:
        found.append(waited[-1])
        party, when = waited[-1].sender, waited[-1].sent_s
    return found[::-1]


def trips(messages: Iterable[Message]) -> int:
    """Return how many of these messages went from one organisation to another."""
    return sum("device" not in (m.sender, m.receiver) and m.sender[-1] != m.receiver[-1] for m in messages)


def printed(happened: Happened, waited: Sequence[Message]) -> str:
    """Return the chain as lines of text: when a message was taken, how long it travelled, and what came before it."""
    lines = [f"{'taken at':>9} {'before it':>10} {'on its way':>10}  message (ms)"]
    at = happened.began_s
    for m in waited:
        before, way, when = 1e3 * (m.sent_s - at), 1e3 * m.travelled_s, 1e3 * (m.taken_s - happened.began_s)
        lines.append(f"{when:9.2f} {before:10.2f} {way:10.2f}  {m.sender} -> {m.receiver}: {m.name}, {m.size:,} bytes")
        at = m.taken_s
    total = 1e3 * (happened.ended_s - happened.began_s)
    lines.append(f"{total:9.2f} {1e3 * (happened.ended_s - at):10.2f} {'':>10}  answered")
    return "\n".join(lines)
