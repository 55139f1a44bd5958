"""Ballots: the numbered attempts of pairs to agree on a change. Totally ordered; each belongs to one pair.

L. Lamport, "Paxos made simple", 2001: proposal numbers that no two proposers share.
"""

from __future__ import annotations

from typing import NamedTuple

from veilmatch.crypto.errors import ProtocolError
from veilmatch.crypto.gallery_change import BALLOT_BYTES
from veilmatch.crypto.keys.parties import PAIRS

#: Of an encoded ballot beside its pair; none at all is b"".
_ROUND_BYTES = 8
_ROUND_MAX = (1 << 8 * _ROUND_BYTES) - 1
#: How far ahead of the clock, in microseconds, a round that somebody states may be: one hour.
_AHEAD_US = 3_600_000_000


class Ballot(NamedTuple):
    """A round, from 1, and the pair whose ballot it is. Ordered by round, then by pair."""

    round: int
    pair: str

    def encode(self) -> bytes:
        """Return 10 bytes, or none for NO_BALLOT. Raises ProtocolError if the round is too high for that."""
        if not 0 <= self.round <= _ROUND_MAX:
            raise ProtocolError("a ballot that cannot be encoded", got=self.round, expected=f"<= {_ROUND_MAX}")
        return self.round.to_bytes(_ROUND_BYTES, "big") + self.pair.encode() if self.pair else b""

    @staticmethod
    def decode(data: bytes) -> Ballot:
        """Return the ballot. Raises ProtocolError if there is none in `data`."""
        if not data:
            return NO_BALLOT
        ballot = Ballot(int.from_bytes(data[:_ROUND_BYTES], "big"), data[_ROUND_BYTES:].decode("ascii", "replace"))
        if len(data) != BALLOT_BYTES or ballot.pair not in PAIRS:
            raise ProtocolError("not a ballot", got=data[:BALLOT_BYTES].hex())
        return ballot

    def require_timely(self, speaker: str, now_s: float) -> None:
        """Raise ProtocolError, naming `speaker` who stated it, for a round that no honest organisation has come to.

        now_s: seconds since 1970. Whoever hears of a round has to go above it: one that lies about its own could use
        up all that there are, and nobody could agree on anything any more. Rounds count from 1, one for a change or an
        attempt, and so are far below the number of microseconds since 1970. A liar can push others up to the bound,
        but the bound goes on with the clock, by more rounds than anybody uses.
        """
        most = _highest(now_s)
        if self.round > most:
            raise ProtocolError(
                f"organisation {speaker} states a round that nobody has come to", got=self.round, expected=f"<= {most}"
            )

    def early_s(self, now_s: float) -> float:
        """Return in how many seconds the round is one that `require_timely` takes, at most 0 if it is now."""
        return (self.round - _highest(now_s)) / 1e6

    def __str__(self) -> str:
        return f"{self.round}{self.pair}" if self.pair else "none"


def _highest(now_s: float) -> int:
    return int(now_s * 1e6) + _AHEAD_US


#: Below every ballot.
NO_BALLOT = Ballot(0, "")
