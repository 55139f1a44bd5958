"""How far an installation can serve: what each server says of itself, and which of four levels that makes.

What a server says is its word: nothing is decided by it but what an operator looks at.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, NamedTuple

from veilmatch.crypto.errors import ProtocolError
from veilmatch.crypto.keys.parties import PAIRS, PARTIES, Pair, Party, dealer_of
from veilmatch.crypto.versions import UNSAID, Hello, common

#: Of trailing metadata: what a server says when it is asked how it is.
HEALTH_KEY = "veilmatch-health-bin"
#: What is longer is not looked into.
MAX_BYTES = 1 << 12
#: Days before the end of a certificate from which on everybody who looks is told.
WARNING_DAYS = 60
DAY_S = 86400.0
#: No clock is further away.
_MAX_TIME_MS = 1 << 53

#: Conditions of a server: it can serve a pair; its galleries take part; it reaches its key holder.
READY, GALLERY, KEY_HOLDER = "ready", "gallery", "keyholder"
#: What keeps a server from serving: its disk takes nothing more; that of its key holder does not.
FULL, KEY_HOLDER_FULL = "full", "keyholder-full"
#: Conditions of a pair at a server: it can serve it; it has stock for it; the dealer of more is reached.
PAIR, STOCK, REFILL = "pair", "stock", "refill"
_CONDITIONS = frozenset(
    (
        READY, GALLERY, KEY_HOLDER, FULL, KEY_HOLDER_FULL,
        *(f"{of}-{pair}" for of in (PAIR, STOCK, REFILL) for pair in PAIRS),
    )
)  # fmt: skip

Kind = Literal["matcher", "keyholder"]


class Level(StrEnum):
    """How far an installation can serve."""

    ALL = "all"
    """Every pair, and each gets more stock."""
    REDUCED = "reduced"
    """At least two pairs."""
    CRITICAL = "critical"
    """One pair, or what is left of the stock: its dealer is missing."""
    NONE = "none"
    """No pair."""


@dataclass(frozen=True, slots=True)
class Said:
    """What a server says of itself. holds: its conditions. time_ms: by its clock, since 1970. speaks: its hello."""

    holds: frozenset[str]
    time_ms: int
    speaks: Hello = UNSAID

    def has(self, condition: str, pair: Pair | None = None) -> bool:
        """Return whether a condition holds there, by its word. pair: of one of a pair."""
        return (condition if pair is None else f"{condition}-{pair}") in self.holds


class Outlook(NamedTuple):
    """What can be served. refilled: those of the pairs that get more stock."""

    level: Level
    available: tuple[Pair, ...]
    refilled: tuple[Pair, ...]


class Ending(NamedTuple):
    """A certificate of whoever asks. of: what it is. end_s: Unix time, excluded. remedy: what is done about its end."""

    of: str
    file: str
    end_s: float
    remedy: str


class Asked(NamedTuple):
    """What servers of one kind have said, each None if it did not answer. served: the pairs that there are.

    certificates: of the party that has asked.
    """

    kind: Kind
    said: Mapping[Party, Said | None]
    served: Sequence[Pair]
    certificates: Sequence[Ending] = ()


class Trouble(NamedTuple):
    """Something that keeps an installation from its best. party: where to look. remedy: what to do."""

    party: str
    what: str
    remedy: str


def of_pair(condition: str, pair: Pair) -> str:
    """Return the name of a condition of a pair."""
    return f"{condition}-{pair}"


def read_said(data: bytes) -> Said:
    """Return what a server has said. Raises ValueError for what is not that; unknown conditions are left out."""
    if len(data) > MAX_BYTES:
        raise ValueError("too long")
    try:
        document = json.loads(data)
    except RecursionError:
        raise ValueError("too deep") from None
    if not isinstance(document, dict):
        raise ValueError("not an object")
    holds, time_ms = document.get("holds"), document.get("time_ms")
    if not isinstance(holds, list) or type(time_ms) is not int or not 0 <= time_ms <= _MAX_TIME_MS:
        raise ValueError("not what a server says of itself")
    return Said(frozenset(one for one in holds if isinstance(one, str)) & _CONDITIONS, time_ms, _speaks(document))


def _speaks(document: dict[str, object]) -> Hello:
    try:
        return Hello.read(document["speaks"]) if "speaks" in document else UNSAID
    except ProtocolError:
        raise ValueError("not what a server speaks") from None


def outlook(said: Mapping[Party, Said | None], served: Collection[Pair]) -> Outlook:
    """Return what can be served. said: by all servers of one kind that were asked. served: pairs there are."""
    available, refilled = (
        tuple(
            pair for pair in served if all((one := said.get(party)) and one.has(of, pair) for party in _parties(pair))
        )
        for of in (PAIR, REFILL)
    )
    refilled = tuple(pair for pair in available if pair in refilled)
    if not available:
        return Outlook(Level.NONE, available, refilled)
    if len(refilled) == len(served):
        return Outlook(Level.ALL, available, refilled)
    is_critical = len(available) == 1 or not refilled
    return Outlook(Level.CRITICAL if is_critical else Level.REDUCED, available, refilled)


def troubles(kind: Kind, said: Mapping[Party, Said | None], served: Collection[Pair]) -> Iterator[Trouble]:
    """Yield what is wrong, in words: who does not answer, then what those say who do."""
    for party, one in sorted(said.items()):
        name = f"{kind}-{party}"
        if one is None:
            yield Trouble(name, "does not answer", "see whether it runs, and the network to it: its own log says more")
            continue
        for full, condition in ((name, FULL), (f"keyholder-{party}", KEY_HOLDER_FULL)):
            if one.has(condition):
                yield Trouble(full, "its disk is full, or can only be read: it serves nothing",
                              "make room there: it goes on by itself")  # fmt: skip
        if kind == "matcher" and not one.has(GALLERY):
            yield Trouble(name, "a gallery there was restored, and has not met all others yet",
                          "start the matchers that are missing: veilmatch gallery status")  # fmt: skip
        if kind == "matcher" and not one.has(KEY_HOLDER):
            yield Trouble(name, f"does not reach keyholder-{party}",
                          f"see whether keyholder-{party} runs, and is of the same release")  # fmt: skip
    for pair in served:
        first, second = (said.get(party) for party in _parties(pair))
        if first is None or second is None:
            continue
        if common(first.speaks, second.speaks) is None:
            both = zip(_parties(pair), (first.speaks, second.speaks), strict=True)
            (late, old), (other, new) = sorted(both, key=lambda one: one[1].newest)
            yield Trouble(f"{kind}-{late}", f"speaks {old.spoken} of the protocol, and {kind}-{other} {new.spoken}:"
                          f" pair {pair} is not served", f"update {kind}-{late} (docs/upgrading.md)")  # fmt: skip
            continue
        missing = [party for party in _parties(pair) if (one := said.get(party)) and not one.has(PAIR, pair)]
        if not missing:
            if not (first.has(REFILL, pair) and second.has(REFILL, pair)):
                yield Trouble(f"keyholder-{dealer_of(pair)}", f"deals nothing to pair {pair}, which lives on its stock",
                              f"see whether keyholder-{dealer_of(pair)} runs, and the network to it")  # fmt: skip
            continue
        for party in missing:
            if (one := said.get(party)) is None or (kind == "matcher" and not one.has(KEY_HOLDER)):
                continue  # that was said
            if one.has(FULL) or one.has(KEY_HOLDER_FULL):
                continue  # that too
            if not one.has(STOCK, pair):
                yield Trouble(f"keyholder-{party}", f"has no stock for pair {pair}",
                              "it is filled within a minute of a start; if not, its log says why")  # fmt: skip
            elif one.has(GALLERY) or kind == "keyholder":
                yield Trouble(f"{kind}-{party}", f"cannot serve pair {pair}: it does not reach the other one",
                              "look at the network between the two organisations")  # fmt: skip


def endings(certificates: Collection[Ending], now_s: float) -> Iterator[Trouble]:
    """Yield what ends within WARNING_DAYS, or has ended. now_s: Unix time."""
    for one in certificates:
        left_s = one.end_s - now_s
        if left_s < WARNING_DAYS * DAY_S:
            when = f"ends in {int(left_s // DAY_S)} days" if left_s > 0 else "has ended"
            yield Trouble("this party", f"its {one.of} {when}: {one.file}", one.remedy)


def _parties(pair: Pair) -> list[Party]:
    return [party for party in PARTIES if party in pair]
