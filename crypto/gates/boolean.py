"""AND gates on XOR-shared bits, bit-sliced: eight slots to a byte, all slots at once.

A wire is a uint8[n] of this holder's shares; XOR and NOT are local, a layer of ANDs costs one
exchanged message. A circuit is a generator that yields what it sends and is resumed with what the
other holder sent, so it does no I/O. Goldreich, Micali, Wigderson, STOC 1987, with dealt triples.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

from veilmatch.crypto.dealing import BitTriples
from veilmatch.crypto.errors import ProtocolError

Wire = NDArray[np.uint8]
#: Yields this holder's message of a layer, takes the other's, returns its shares of the result.
Circuit = Generator[bytes, bytes, Wire]
Layer = Generator[bytes, bytes, list[Wire]]


def together(*circuits: Circuit) -> Layer:
    """Run circuits side by side; what all of them send in a layer is one message. Returns what each returns."""
    results: dict[int, Wire] = {}
    sent: dict[int, bytes] = {}
    received: dict[int, bytes | None] = dict.fromkeys(range(len(circuits)))
    while True:
        sent = {}
        for i, part in received.items():
            try:
                sent[i] = circuits[i].send(part)  # type: ignore[arg-type]
            except StopIteration as stop:
                results[i] = stop.value
        if not sent:
            return [results[i] for i in range(len(circuits))]
        message = yield b"".join(sent.values())
        if len(message) != sum(map(len, sent.values())):
            raise ProtocolError(
                "a gate's message of the wrong size", got=len(message), expected=sum(map(len, sent.values()))
            )
        received, at = {}, 0
        for i, part in sent.items():
            received[i], at = message[at : at + len(part)], at + len(part)


class Evaluator:
    """One holder's side of a circuit: its role and the bit triples it may use up, each once."""

    def __init__(self, triples: BitTriples, *, is_plus: bool) -> None:
        self.is_plus = is_plus
        self._triples = triples
        self._used = 0

    def negate(self, x: Wire) -> Wire:
        """Return shares of NOT x: one holder flips its share."""
        return ~x if self.is_plus else x

    def all_of(self, xs: Sequence[Wire], ys: Sequence[Wire]) -> Layer:
        """One layer: return shares of xs[i] AND ys[i] for all i. Uses a triple byte per byte of input."""
        x, y = np.concatenate(xs), np.concatenate(ys)
        a, b, c = self._take(len(x))
        mine = np.concatenate([x ^ a, y ^ b])
        received = yield mine.tobytes()
        if len(received) != len(mine):
            raise ProtocolError("a gate's message of the wrong size", got=len(received), expected=len(mine))
        opened = mine ^ np.frombuffer(received, dtype=np.uint8)
        d, e = opened[: len(x)], opened[len(x) :]
        z = c ^ (d & b) ^ (e & a)
        if self.is_plus:
            z ^= d & e
        ends = list(accumulate(map(len, xs)))
        return [z[start:end] for start, end in pairwise([0, *ends])]

    def _take(self, count: int) -> tuple[Wire, Wire, Wire]:
        t, start = self._triples, self._used
        self._used += count
        if self._used > len(t.a):
            raise ProtocolError("a circuit needs more bit triples than were reserved", expected=len(t.a))
        return t.a[start : self._used], t.b[start : self._used], t.c[start : self._used]
