"""A result that is not re-randomised shows the probe to a matcher that knows randomisers of columns."""

from __future__ import annotations

import gmpy2
import numpy as np

from tests.crypto.toys import TOY, toy_key
from tests.simulator import Keys, PairSimulator, SimulatedGallery, unit_vectors
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.packing.fields import Array
from veilmatch.crypto.pair.messages import ProbeShare

PROBE = unit_vectors(np.random.default_rng(11), 1, TOY)[0]


def planted_gallery(keys: Keys, *, rerandomised: bool) -> SimulatedGallery:
    """One pack a coordinate, of columns that the attacker enrolled: hs^1 in that coordinate, hs^0 elsewhere."""
    key = toy_key(TOY.modulus_bits)
    size = TOY.dimension
    known = [[Integer(key.hs if i == at else 1) for i in range(size)] for at in range(size)]
    packs = [[keys.scheme.multiply(keys.scheme.encode(Integer(2)), r) for r in randomisers] for randomisers in known]
    templates = np.ones((TOY.dimension, TOY.dimension), dtype=np.int64)
    return SimulatedGallery(keys.scheme, templates, packs, [(at, 0) for at in range(TOY.dimension)], rerandomised)


def read_probe(keys: Keys, results: list[Integer], own: Array) -> list[int | None]:
    """Matcher B: R_A mod N = hs^(e_A[i]) mod N, searched over 2^k exponents; e_A - e_B is the probe."""
    N, size = keys.scheme.modulus, 1 << TOY.ring_bits
    powers = {Integer(1): 0}
    power = Integer(1)
    for exponent in range(1, size):
        power = power * toy_key(TOY.modulus_bits).hs % N
        powers[power] = exponent
    found = [powers.get(R % N) for R in results]
    half = size // 2
    return [None if e is None else (e - int(mine) + half) % size - half for e, mine in zip(found, own, strict=True)]


def attack(keys: Keys, *, rerandomised: bool) -> list[int | None]:
    gallery = planted_gallery(keys, rerandomised=rerandomised)
    shares: dict[bool, ProbeShare] = {}
    simulator = PairSimulator(keys)
    simulator.observe = lambda holder, a: shares.update({a.is_plus: a}) if isinstance(a, ProbeShare) else None
    bits = simulator.decide("candidates", PROBE, gallery, 1)
    assert bits.tolist() == [int(PROBE.sum() >= 1)] * TOY.dimension
    received = [gallery.partial(pack, shares[True]) for pack in range(TOY.dimension)]
    return read_probe(keys, received, shares[False].exponents)


def test_matcher_reads_the_probe_from_results_that_are_not_rerandomised(paillier: Keys) -> None:
    assert attack(paillier, rerandomised=False) == PROBE.tolist()


def test_matcher_reads_nothing_from_rerandomised_results(paillier: Keys) -> None:
    assert attack(paillier, rerandomised=True) == [None] * TOY.dimension


def test_guess_of_the_probe_is_confirmed_only_without_rerandomisation(paillier: Keys) -> None:
    for rerandomised in (False, True):
        gallery = planted_gallery(paillier, rerandomised=rerandomised)
        own = np.arange(TOY.dimension)
        guess = (own + PROBE) % (1 << TOY.ring_bits)
        R = gallery.partial(0, ProbeShare(bytes(32), guess, True))
        expected = paillier.scheme.product_of_powers(gallery.packs[0], guess.tolist(), TOY.ring_bits)
        assert (expected == R) == (not rerandomised)
        if rerandomised:
            o, N = toy_key(TOY.modulus_bits).o, paillier.scheme.modulus
            assert gmpy2.powmod(R * gmpy2.invert(expected, N * N), o, N * N) == 1, "but it is the same plaintext"
