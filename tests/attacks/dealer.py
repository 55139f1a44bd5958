"""What the dealer of a pair knows of its sessions: both parts of everything that it dealt, and where it was used.

In the protocol the pair's coin hides which of the dealt units are used where; a dealer tries the few thousand places.
Here it is told, which makes it stronger. What it does not know is what the holders say to each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.simulator import PLUS, PairSimulator, SimulatedStock
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.dealing import Kind
from veilmatch.crypto.pair.messages import Reserve


class Dealer:
    """Deals again what the holders of a simulator use, in their order."""

    def __init__(self, simulator: PairSimulator) -> None:
        """The dealer's own: its seed, and the Gammas that it tags with."""
        self.N = simulator.keys.scheme.modulus
        seed, gammas = simulator.stocks[PLUS].seed, simulator.keys.gammas
        self._stocks = [SimulatedStock(self.N, seed, is_plus, gammas) for is_plus in (True, False)]

    def next(self, kind: Kind, count: int) -> tuple[Any, Any]:
        """Return both holders' parts of the next units of this kind."""
        plus, minus = (stock.reserve(Reserve(kind, count, 0, None)).material for stock in self._stocks)
        return plus, minus

    def conversions(self, count: int, *, is_plus: bool) -> list[ShareOfW]:
        """Return what it knows of one holder's w in the next conversions."""
        plus, minus = self.next("triples", count)
        return [ShareOfW.of(p, m, self.N, is_plus=is_plus) for p, m in zip(plus, minus, strict=True)]


@dataclass(frozen=True)
class ShareOfW:
    """w = constant + of_om * (o*m) + of_kappa * kappa mod N, and for the plus holder + m: from what was dealt alone.

    With d = o*m - a and e = kappa - b, which only the two holders know, put into w = ab + d*b_* + e*a_* (+ d*e).
    """

    constant: Integer
    of_om: Integer
    of_kappa: Integer

    @staticmethod
    def of(plus: Any, minus: Any, N: Integer, *, is_plus: bool) -> ShareOfW:
        a, b = plus.a - minus.a, plus.b - minus.b
        if not is_plus:
            return ShareOfW((minus.ab - a * minus.b - b * minus.a) % N, minus.b, minus.a)
        return ShareOfW((plus.ab - a * plus.b - b * plus.a + a * b) % N, (plus.b - b) % N, (plus.a - a) % N)
