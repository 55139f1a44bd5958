"""What a party of a key ceremony says and waits for: rounds, and steps that are made of them.

A step is a generator. It yields a `Round`, its surroundings deliver what that sends and resume it with what it awaits
(`Received`). It does no I/O. All three parties run the same steps in the same order, and a step takes as many rounds
at each of them, also where one has nothing to say. So a round has one number at all three, the size of everything
that is awaited is known beforehand, and steps that do not depend on one another run side by side (`together`): what
they say in one round is one message to each peer.

What is *told* is told to both peers alike. Nothing keeps a party that deviates from telling them different things;
the session hashes it and the three compare (joint/session.py).
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from veilmatch.crypto.arithmetic import Integer, from_little_endian, to_little_endian
from veilmatch.crypto.errors import ProtocolError
from veilmatch.crypto.keys.parties import PARTIES, Party
from veilmatch.crypto.secret_access import SecretHolder

_T = TypeVar("_T")
_S = TypeVar("_S")


@dataclass(frozen=True, slots=True, repr=False)
class Round(SecretHolder):
    """What a party says at once, and what it waits for after that.

    sent: for one peer alone. awaited: how many bytes each peer sends to this party alone. told: for both peers.
    heard: how many bytes each peer tells.
    """

    sent: Mapping[Party, bytes] = field(default_factory=dict)
    awaited: Mapping[Party, int] = field(default_factory=dict)
    told: bytes = b""
    heard: Mapping[Party, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, repr=False)
class Received(SecretHolder):
    """What came of a round: exactly as many bytes as were awaited and heard, by peer."""

    sent: Mapping[Party, bytes]
    told: Mapping[Party, bytes]


#: A step that returns a T.
Steps = Generator[Round, Received, _T]


def together(steps: Sequence[Steps[_T]]) -> Steps[list[_T]]:
    """Run steps side by side: as many rounds as the longest of them takes. Return what they return, in order."""
    results: dict[int, _T] = {}
    waiting: dict[int, Round] = {}

    def advance(place: int, received: Received | None) -> None:
        try:
            waiting[place] = next(steps[place]) if received is None else steps[place].send(received)
        except StopIteration as stop:
            results[place] = stop.value
            waiting.pop(place, None)

    for place in range(len(steps)):
        advance(place, None)
    while waiting:
        places = sorted(waiting)
        rounds = [waiting[place] for place in places]
        received = yield _merged(rounds)
        for place, part in zip(places, _split(rounds, received), strict=True):
            advance(place, part)
    return [results[place] for place in range(len(steps))]


def both(first: Steps[_S], second: Steps[_T]) -> Steps[tuple[_S, _T]]:
    """Run two steps side by side."""
    steps: list[Steps[Any]] = [first, second]
    results = yield from together(steps)
    return cast(tuple[_S, _T], tuple(results))


def nothing_to_say(rounds: int) -> Steps[None]:
    """Let rounds pass in which others speak to each other."""
    for _ in range(rounds):
        yield Round()


def _merged(rounds: Sequence[Round]) -> Round:
    return Round(
        {peer: b"".join(r.sent.get(peer, b"") for r in rounds) for peer in PARTIES},
        _sums(r.awaited for r in rounds),
        b"".join(r.told for r in rounds),
        _sums(r.heard for r in rounds),
    )  # fmt: skip


def _sums(sizes: Iterable[Mapping[Party, int]]) -> dict[Party, int]:
    sums: dict[Party, int] = {}
    for by_peer in sizes:
        for peer, size in by_peer.items():
            sums[peer] = sums.get(peer, 0) + size
    return sums


def _split(rounds: Sequence[Round], received: Received) -> list[Received]:
    at_sent, at_told = dict.fromkeys(PARTIES, 0), dict.fromkeys(PARTIES, 0)
    parts = []
    for one in rounds:
        parts.append(Received(_cut(received.sent, one.awaited, at_sent), _cut(received.told, one.heard, at_told)))
    return parts


def _cut(data: Mapping[Party, bytes], sizes: Mapping[Party, int], at: dict[Party, int]) -> dict[Party, bytes]:
    part = {}
    for peer, size in sizes.items():
        part[peer] = data.get(peer, b"")[at[peer] : at[peer] + size]
        at[peer] += size
    return part


# -- numbers on the wire -----------------------------------------------------------------------------


def size_below(modulus: Integer) -> int:
    """Return how many bytes a number of [0, modulus) takes."""
    return ((modulus - 1).bit_length() + 7) // 8


def packed(numbers: Iterable[Integer], modulus: Integer) -> bytes:
    """Return numbers of [0, modulus), little-endian, in `size_below(modulus)` bytes each."""
    size = size_below(modulus)
    return b"".join([to_little_endian(x, size) for x in numbers])


def unpacked(data: bytes, modulus: Integer) -> list[Integer]:
    """Return the numbers of `packed`. Raises ProtocolError if one is not below the modulus."""
    size = size_below(modulus)
    numbers = [from_little_endian(data[i : i + size]) for i in range(0, len(data), size)]
    if any(x >= modulus for x in numbers):
        raise ProtocolError("a number of a key ceremony is not reduced", expected=f"below {modulus.bit_length()} bits")
    return numbers


def bits_packed(bits: Sequence[bool]) -> bytes:
    """Return one byte, 0 or 1, for each."""
    return bytes(bits)


def bits_unpacked(data: bytes) -> list[bool]:
    """Return the bits of `bits_packed`. Raises ProtocolError for another byte."""
    if any(byte > 1 for byte in data):
        raise ProtocolError("an outcome in a key ceremony that is neither yes nor no", expected="0 or 1")
    return [bool(byte) for byte in data]
