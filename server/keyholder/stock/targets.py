"""How much dealt stock is kept ahead: what the settings say, and as much more as the largest searches take.

A key holder is not told how large galleries are; what a search of one takes, it sees. So the stock follows the largest
search since the start: `searches` of them are kept in hand for each pair, as far as the disk may be used for that. Both
holders of a pair have the same sessions and come to the same; a search that needs more than is here has it dealt while
it waits, so a stock that is too small costs time and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import structlog

from veilmatch.crypto.dealing import STOCK_KINDS, Kind

#: Bytes that eight bit triples and a product take on the disk, sealed. A triple has three residues mod N.
_BITS_BYTES, _PRODUCT_BYTES, _TRIPLE_RESIDUES = 3, 16, 3

_log = structlog.get_logger(__name__)


class Targets(Mapping[Kind, int]):
    """Units of each kind to keep ahead for each pair.

    least: whatever was asked for. searches: of the largest kind; 0 keeps `least`. disk_bytes: most that the stock of a
    pair may take for that. residue_bytes: length of N.
    """

    def __init__(self, least: Mapping[Kind, int], searches: int, disk_bytes: int, residue_bytes: int) -> None:
        self._least = dict(least)
        self._searches = searches
        self._disk_bytes = disk_bytes
        self._unit_bytes: dict[Kind, int] = {
            "triples": _TRIPLE_RESIDUES * residue_bytes, "bits": _BITS_BYTES, "products": _PRODUCT_BYTES
        }  # fmt: skip
        self._largest: dict[Kind, int] = dict.fromkeys(STOCK_KINDS, 0)
        self._units = dict(least)

    def __getitem__(self, kind: Kind) -> int:
        return self._units[kind]

    def __iter__(self) -> Iterator[Kind]:
        return iter(self._units)

    def __len__(self) -> int:
        return len(self._units)

    def note(self, used: Mapping[Kind, int]) -> None:
        """Take in what one session has used."""
        if not self._searches or all(count <= self._largest[kind] for kind, count in used.items()):
            return
        self._largest |= {kind: max(count, self._largest[kind]) for kind, count in used.items()}
        one = self.bytes_of(self._largest)
        searches = min(self._searches, self._disk_bytes // max(1, one))
        self._units = {kind: max(self._least[kind], searches * self._largest[kind]) for kind in STOCK_KINDS}
        if searches < self._searches and self._units_say_less():
            _log.warning(
                "stock is kept small", reason="stock_disk_bytes holds less than stock_searches of the largest search",
                search_bytes=one, stock_disk_bytes=self._disk_bytes, searches=searches, stock_searches=self._searches,
            )  # fmt: skip

    def bytes_of(self, units: Mapping[Kind, int]) -> int:
        """Return how much of the disk so many units take."""
        return sum(self._unit_bytes[kind] * count for kind, count in units.items())

    def _units_say_less(self) -> bool:
        return any(self._units[kind] < self._searches * self._largest[kind] for kind in STOCK_KINDS)
