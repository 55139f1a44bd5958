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
_NOTHING: Wire = np.zeros(0, dtype=np.uint8)


def together(*circuits: Circuit) -> Layer:
    """Run circuits side by side; what all of them send in a layer is one message. Returns what each returns."""
    results: list[Wire] = [_NOTHING] * len(circuits)
    running: list[tuple[int, bytes | None]] = [(i, None) for i in range(len(circuits))]
    while True:
        sent: list[tuple[int, bytes]] = []
        for i, part in running:
            try:
                sent.append((i, circuits[i].send(part)))  # type: ignore[arg-type]
            except StopIteration as stop:
                results[i] = stop.value
        if not sent:
            return results
        ends = [0, *accumulate(len(part) for _, part in sent)]
        message = yield b"".join(part for _, part in sent)
        if len(message) != ends[-1]:
            raise ProtocolError("a gate's message of the wrong size", got=len(message), expected=ends[-1])
        running = [(i, message[start:end]) for (i, _), (start, end) in zip(sent, pairwise(ends), strict=True)]


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
        z = yield from self._ands(np.concatenate(xs), np.concatenate(ys))
        ends = list(accumulate(map(len, xs)))
        return [z[start:end] for start, end in pairwise([0, *ends])]

    def crossed(self, mine: Wire) -> Circuit:
        """One layer: return shares of what the plus holder knows AND what the minus holder knows.

        Uses a triple byte per byte.
        """
        nothing = np.zeros_like(mine)
        return self._ands(mine, nothing) if self.is_plus else self._ands(nothing, mine)

    def _ands(self, x: Wire, y: Wire) -> Circuit:
        count = len(x)
        a, b, c = self._take(count)
        mine = np.empty(2 * count, dtype=np.uint8)
        np.bitwise_xor(x, a, out=mine[:count])
        np.bitwise_xor(y, b, out=mine[count:])
        received = yield mine.tobytes()
        if len(received) != len(mine):
            raise ProtocolError("a gate's message of the wrong size", got=len(received), expected=len(mine))
        mine ^= np.frombuffer(received, dtype=np.uint8)
        d, e = mine[:count], mine[count:]
        # The plus holder takes in d & e as well.
        z: Wire = c ^ (d & (b ^ e if self.is_plus else b))
        z ^= e & a
        return z

    def _take(self, count: int) -> tuple[Wire, Wire, Wire]:
        t, start = self._triples, self._used
        self._used += count
        if self._used > len(t.a):
            raise ProtocolError("a circuit needs more bit triples than were reserved", expected=len(t.a))
        return t.a[start : self._used], t.b[start : self._used], t.c[start : self._used]
