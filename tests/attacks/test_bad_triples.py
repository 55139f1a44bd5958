"""A dealer deals triples that do not multiply right, and has a device: exact scores of its probes.

A product that is off by x makes every w off by x: the dealer chooses what is added to each score, and its device reads
whether the sum reaches the threshold. The check of dealt blocks (crypto/dealing/check.py) finds it before use.
"""

from __future__ import annotations

import numpy as np
import pytest

from tests.crypto.toys import SCHEMES, TOY, keys_of
from tests.simulator import PLUS, Keys, PairSimulator, SimulatedGallery, unit_vectors
from veilmatch.crypto.arithmetic import Integer, from_bytes, to_bytes
from veilmatch.crypto.dealing import BLOCK_UNITS, Block, BlockCheck, BlockName, commit_opening, deal_tagged
from veilmatch.crypto.errors import DealtStockError
from veilmatch.crypto.packing.fields import Array, join
from veilmatch.crypto.secret_access import SECRET_ACCESS

PROBE, *TEMPLATES = unit_vectors(np.random.default_rng(101), TOY.slots + 1, TOY)
SIZE = TOY.modulus_bits // 8


@pytest.fixture(params=SCHEMES)
def keys(request: pytest.FixtureRequest) -> Keys:
    return keys_of(request.param)


def shifted(block: Block, at: int, amount: Integer, N: Integer) -> Block:
    """The plus holder's part of a block, with `amount` added to the product of one triple."""
    value = (from_bytes(block.corrections[at * SIZE : (at + 1) * SIZE]) + amount) % N
    data = block.corrections[: at * SIZE] + to_bytes(value, SIZE) + block.corrections[(at + 1) * SIZE :]
    return Block(block.seed, data)


class Dealer:
    """Knows nothing of a query but that its own device asks: which triple will meet the results, too."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._gallery = SimulatedGallery.of(keys.scheme, np.array(TEMPLATES))
        self.queries = 0

    def scores(self) -> Array:
        """Return the score of the device's probe with every template: a bisection in all slots at once."""
        M, count = TOY.norm_max, len(TEMPLATES)
        low, high = np.full(count, -M), np.full(count, M)
        while (low < high).any():
            middle = (low + high + 1) // 2
            reached = self._reaches(1 - middle)
            low, high = np.where(reached, middle, low), np.where(reached, high, middle - 1)
        return low

    def _reaches(self, added: Array) -> Array:
        """Whether score + added is at least 1, the threshold, in each slot."""
        simulator, N = PairSimulator(self._keys), self._keys.scheme.modulus
        plus = simulator.stocks[PLUS]
        plus._blocks["triples", 0] = shifted(
            plus._block("triples", 0), TOY.lane_ciphertexts, join((2 * added).tolist(), TOY.slot_bits) % N, N
        )
        self.queries += 1
        return simulator.decide("candidates", PROBE, self._gallery, 1).astype(bool)


def test_without_the_check_a_dealer_reads_scores_of_its_own_probes(keys: Keys) -> None:
    """The simulator's stock is used as it was dealt."""
    dealer = Dealer(keys)
    assert np.array_equal(dealer.scores(), np.array(TEMPLATES) @ PROBE)
    assert dealer.queries <= TOY.ring_bits


@pytest.mark.parametrize("at", [0, TOY.lane_ciphertexts, BLOCK_UNITS["triples"] - 1])
@pytest.mark.parametrize("coin", range(3))
def test_the_check_of_the_block_finds_it(keys: Keys, at: int, coin: int) -> None:
    N, name = keys.scheme.modulus, BlockName("ab", bytes(32), 1, "triples", 0)
    plus, minus = (deal_tagged(bytes(32), name, N, keys.gammas, for_plus=p) for p in (True, False))
    nonces = bytes([coin]) * 32, bytes([9]) * 32
    for part, accepted in ((plus, True), (shifted(plus, at, Integer(2), N), False)):
        gammas = [keys.gammas.of_verifier(is_plus=p, access=SECRET_ACCESS) for p in (True, False)]
        ours = BlockCheck(name, part, nonces, N, gammas[0], is_plus=True)
        theirs = BlockCheck(name, minus, nonces, N, gammas[1], is_plus=False)
        of_minus, of_plus = (commit_opening(bytes(32), name, ours.coin, N, of_plus=plus) for plus in (False, True))
        proofs = ours.proof(theirs.opening, of_minus), theirs.proof(ours.opening, of_plus)
        for check, proof in ((ours, proofs[1]), (theirs, proofs[0])):
            if accepted:
                assert check.kept(proof)
            else:
                with pytest.raises(DealtStockError, match="keyholder-c"):
                    check.kept(proof)
