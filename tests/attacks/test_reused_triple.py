"""One triple used for two conversions opens o * (m1 - m2); a gcd of two such gives the key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import gmpy2
import numpy as np
import pytest

from tests.attacks.tools import both_openings, decrypt_with, secrets_of
from tests.crypto.toys import aimed, keys_of, lane_shares, repeated
from tests.simulator import MINUS, PLUS, Keys, PairSimulator, first_taken, unit_vectors
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.errors import ProtocolError
from veilmatch.crypto.pair.messages import Envelope, Hello, Openings
from veilmatch.crypto.parameters import ParameterSet

#: One short lane ciphertext a vector, so that o * m stays below N.
SMALL = ParameterSet(4, 8, 7, 512)
TEMPLATES = unit_vectors(np.random.default_rng(8), 4, SMALL)


@pytest.fixture
def small() -> Keys:
    return keys_of("paillier", SMALL)


def key_from(simulator: PairSimulator) -> Integer:
    """What either holder computes from three conversions, knowing nothing of the plaintexts."""
    N, seen = simulator.keys.scheme.modulus, []
    for template in TEMPLATES:
        simulator.enrol(template)
        seen += [d for d, _ in both_openings(simulator)]
    differences = [(seen[0] - d) % N for d in seen[1:]]
    return gmpy2.gcd(*(min(x, N - x) for x in differences))  # type: ignore[no-any-return]


def test_openings_of_a_reused_triple_give_the_key(small: Keys) -> None:
    simulator = PairSimulator(small)
    for stock in simulator.stocks:
        stock.reuse_triples = True
    found, (o, _), N = key_from(simulator), secrets_of(small), small.scheme.modulus
    assert found % o == 0 and found != 0
    m = Integer(20021018)
    assert decrypt_with(found, small.scheme.encrypt(m), N) == m


def test_openings_of_fresh_triples_give_nothing(small: Keys) -> None:
    found, N = key_from(PairSimulator(small)), small.scheme.modulus
    assert decrypt_with(found, small.scheme.encrypt(Integer(20021018)), N) is None


def allocate(start: int, kind: str = "triples") -> object:
    """A plus holder that says which stock is taken."""

    def change(sender: int, envelope: Envelope) -> Sequence[Envelope]:
        if sender == PLUS and isinstance(envelope.message, Hello):
            return [replace(envelope, message=replace(envelope.message, **{f"{kind}_start": start}))]
        return [envelope]

    return change


def test_minus_holder_refuses_a_triple_that_was_used_and_opens_nothing(small: Keys) -> None:
    simulator = PairSimulator(small)
    simulator.enrol(TEMPLATES[0])
    simulator.on_the_way = allocate(0)  # type: ignore[assignment]
    with pytest.raises(ProtocolError):
        simulator.enrol(TEMPLATES[1])
    assert not any(holder == MINUS and isinstance(e.message, Openings) for holder, e in simulator.sent)


@pytest.mark.parametrize("restored", [PLUS, MINUS])
def test_holder_restored_from_a_backup_is_carried_past_what_its_peer_used(small: Keys, restored: int) -> None:
    simulator = PairSimulator(small)
    for template in TEMPLATES[:3]:
        simulator.enrol(template)
    before = dict(simulator.stocks[restored].marks)
    simulator.stocks[restored].marks.update(triples=0, bits=0, products=0)
    simulator.enrol(TEMPLATES[3])
    assert before["triples"] == 3 and min(before.values()) > 0
    said = next(e.message.starts for h, e in simulator.sent if h == PLUS and isinstance(e.message, Hello))
    assert said == before


def test_another_seed_takes_no_triple_and_opens_nothing_again(small: Keys) -> None:
    risky = lane_shares(repeated(2**SMALL.lane_bits - 1, SMALL), SMALL)
    simulator, starts, seen = PairSimulator(small, aim=aimed(risky)), [], set()
    for template in TEMPLATES[:3]:
        simulator.enrol(template)
        assert first_taken(simulator) == [False, None]
        starts += [e.message.starts["triples"] for h, e in simulator.sent if isinstance(e.message, Hello) and h == PLUS]
        seen |= {d for d, _ in both_openings(simulator)}
    assert starts == [0, 1, 2] and len(seen) == 3
