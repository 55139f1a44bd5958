"""A matcher that makes its half of a column as it likes: it writes into every slot of the pack. A known limit.

docs/limitations.md, "Any server can change an answer". It takes one enrolment or erasure in that pack, of anybody; what
it has written stays, at all three matchers. Searches use columns, so all of them are about it, assured ones as well.
Verifications use records, which are the same as before.
"""

from __future__ import annotations

import numpy as np

from tests.crypto.toys import TOY
from tests.simulator import Keys, PairSimulator, SimulatedGallery, unit_vectors
from veilmatch.crypto.packing import slots
from veilmatch.crypto.packing.fields import Array
from veilmatch.crypto.pair.request import Operation

ATTACKER, *TEMPLATES = unit_vectors(np.random.default_rng(17), 4, TOY)
VICTIM = 1


def write(gallery: SimulatedGallery, slot: int, vector: Array) -> None:
    """What a half of somebody's column does that holds something in another slot as well."""
    scheme = gallery.scheme
    at = np.zeros((slot + 1, TOY.dimension), dtype=np.int64)
    at[slot] = vector
    gallery.packs[0] = [
        scheme.multiply(c, scheme.encrypt(m)) for c, m in zip(gallery.packs[0], slots.pack(at, TOY), strict=True)
    ]


def matches(keys: Keys, gallery: SimulatedGallery, operation: Operation) -> list[int]:
    threshold = int(ATTACKER @ ATTACKER) * 3 // 5
    places = None if operation == "candidates" else [gallery.places[VICTIM]]
    simulator = PairSimulator(keys)
    return simulator.decide(operation, ATTACKER, gallery, threshold, places).astype(int).tolist()


def test_a_search_takes_somebody_else_for_the_victim_and_a_verification_does_not(keys: Keys) -> None:
    gallery = SimulatedGallery.of(keys.scheme, np.array(TEMPLATES))
    assert matches(keys, gallery, "candidates") == [0, 0, 0]
    write(gallery, VICTIM, ATTACKER)
    assert matches(keys, gallery, "candidates") == [0, 1, 0]
    assert matches(keys, gallery, "verify") == [0]
