"""A randomiser outside the subgroup, or a stale share: the result would be a constant of the key."""

from __future__ import annotations

from dataclasses import replace

import gmpy2
import numpy as np
import pytest
from phe import paillier as phe

from tests.attacks.tools import Converted, opened, take_key_safety_out
from tests.crypto.toys import TOY, take_validity_out, toy_key
from tests.simulator import MINUS, PLUS, Keys, PairSimulator, SimulatedGallery, unit_vectors
from veilmatch.crypto.arithmetic import Integer, random_below, random_bits
from veilmatch.crypto.errors import CiphertextError, KeyMismatchError
from veilmatch.crypto.keys.shares import PairShare
from veilmatch.crypto.packing import lanes
from veilmatch.crypto.pair import beginning, converting
from veilmatch.crypto.pair.messages import Openings, Results
from veilmatch.crypto.secret_access import SECRET_ACCESS

PROBE, *OTHERS = unit_vectors(np.random.default_rng(16), 5, TOY)
PLAIN = lanes.pack(PROBE, TOY)


def malformed(keys: Keys, c: Integer) -> Integer:
    """c with a randomiser outside the subgroup and the same plaintext."""
    N, rho = keys.scheme.modulus, 2 + random_below(keys.scheme.modulus - 2)
    if keys.public_key is None:
        return keys.scheme.multiply(c, N * rho)
    return keys.scheme.multiply(c, gmpy2.powmod(rho, N, N * N))


def test_without_the_fingerprints_the_result_is_a_constant_of_the_key(
    paillier: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (beginning, converting):
        monkeypatch.setattr(module, "fingerprint_hashes", lambda shares, *rest: bytes(32 * len(shares)))
    take_validity_out(monkeypatch)  # it would refuse what comes out
    take_key_safety_out(monkeypatch)  # and so would this
    simulator = PairSimulator(paillier)
    first, second = simulator.encrypt(PROBE)
    bad = malformed(paillier, first)
    offsets = []
    for _ in range(2):
        converted = Converted(monkeypatch)
        simulator.run(simulator.request("enrol", 0), [bad, second])
        values = converted.values(paillier)
        assert values[1] == PLAIN[1]
        offsets.append((values[0] - PLAIN[0]) % paillier.scheme.modulus)
    assert offsets[0] == offsets[1] != 0, "the same each time: a function of the key"


@pytest.mark.parametrize("at", [0, 1])
def test_malformed_ciphertext_is_refused_before_anything_is_opened(keys: Keys, at: int) -> None:
    simulator = PairSimulator(keys)
    ciphertexts = simulator.encrypt(PROBE)
    ciphertexts[at] = malformed(keys, ciphertexts[at])
    gallery = SimulatedGallery.of(keys.scheme, np.array(OTHERS))
    for operation in ("verify", "candidates", "identify", "enrol", "erase", "rotate"):
        with pytest.raises(CiphertextError):
            simulator.run(simulator.request(operation, 1), ciphertexts, gallery, gallery.places)
        assert not opened(simulator)


@pytest.mark.parametrize("by_device", [True, False])
@pytest.mark.parametrize("at", [0, 3])
def test_malformed_record_is_refused_before_anything_is_opened(keys: Keys, at: int, by_device: bool) -> None:
    """One that a device put there by a bulk enrolment, and that both matchers hold."""
    simulator, gallery = PairSimulator(keys), SimulatedGallery.of(keys.scheme, np.array(OTHERS[:2]))
    simulator.records_for = lambda holder, records: [*records[:at], bad, *records[at + 1 :]]
    bad = malformed(keys, gallery.records(gallery.places)[at])
    with pytest.raises(CiphertextError):
        simulator.run(simulator.request("verify", 1), simulator.encrypt(PROBE), gallery, gallery.places, [by_device])
    assert not opened(simulator)


def test_malformed_result_is_refused_before_it_is_opened(keys: Keys) -> None:
    def spoil(holder: int, results: Results) -> Results:
        return Results([bad], results.wanted)

    bad = malformed(keys, keys.scheme.encrypt(Integer(5)))
    simulator = PairSimulator(keys, results_for=spoil)
    with pytest.raises(CiphertextError):
        simulator.decide("candidates", PROBE, SimulatedGallery.of(keys.scheme, np.array(OTHERS)), 1)
    assert sorted(h for h, e in simulator.sent if isinstance(e.message, Openings)) == [PLUS, MINUS], "of the probe"


def test_ciphertexts_of_another_paillier_library_are_refused(paillier: Keys) -> None:
    public_key = phe.PaillierPublicKey(int(paillier.scheme.modulus))
    simulator = PairSimulator(paillier)
    with pytest.raises(CiphertextError):
        simulator.run(simulator.request("enrol", 0), [Integer(public_key.raw_encrypt(int(m))) for m in PLAIN])
    assert not opened(simulator)


def test_negated_and_unrandomised_ciphertexts_are_well_formed_and_harmless(paillier: Keys) -> None:
    N, simulator = paillier.scheme.modulus, PairSimulator(paillier)
    for ciphertexts in ([N * N - c for c in simulator.encrypt(PROBE)], [paillier.scheme.encode(m) for m in PLAIN]):
        lanes, valid = simulator.opened(simulator.run(simulator.request("enrol", 0), ciphertexts))
        assert np.array_equal(lanes, PROBE + TOY.offset) and valid.tolist() == [1]


# -- shares of different epochs ----------------------------------------------------------------------------


def refreshed(keys: Keys, *holders: int) -> Keys:
    """The keys after some holders added a common fresh r to their share of o."""
    r = random_bits(keys.scheme.parameters.subgroup_bits + 129)
    changed = {
        name: PairShare(share.pair, share.party, share._exponent + r, share.kappa(SECRET_ACCESS))
        for holder, name, share in ((PLUS, "plus", keys.plus), (MINUS, "minus", keys.minus))
        if holder in holders
    }
    exponents = tuple(e + r if holder in holders else e for holder, e in enumerate(keys.exponents))
    return replace(keys, exponents=exponents, **changed)  # type: ignore[arg-type]


def test_shares_refreshed_together_convert_as_before(paillier: Keys) -> None:
    template = PROBE
    assert np.array_equal(PairSimulator(refreshed(paillier, PLUS, MINUS)).enrol(template), template + TOY.offset)


@pytest.mark.parametrize("holder", [PLUS, MINUS])
def test_stale_share_is_refused_before_anything_is_opened(paillier: Keys, holder: int) -> None:
    simulator = PairSimulator(refreshed(paillier, holder))
    with pytest.raises(CiphertextError):
        simulator.enrol(PROBE)
    assert not opened(simulator)


def test_without_the_fingerprints_a_stale_share_gives_a_wrong_result(
    paillier: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (beginning, converting):
        monkeypatch.setattr(module, "fingerprint_hashes", lambda shares, *rest: bytes(32 * len(shares)))
    take_validity_out(monkeypatch)  # it would refuse what comes out
    take_key_safety_out(monkeypatch)  # and so would this
    simulator = PairSimulator(refreshed(paillier, PLUS))
    for by_device in (True, False):
        shares = simulator.run(simulator.request("rotate", 0), simulator.encrypt(PROBE), by_device=[by_device])
        assert simulator.added_up(shares) != (PROBE + TOY.offset).tolist()


def test_holders_of_different_epochs_stop_at_hello(paillier: Keys) -> None:
    simulator = PairSimulator(refreshed(paillier, PLUS))
    request = simulator.request("enrol", 0)
    with pytest.raises(KeyMismatchError):
        simulator.run((replace(request, epoch=2), request), simulator.encrypt(PROBE))
    assert not opened(simulator)


def test_toy_subgroup_is_a_small_part_of_the_residues() -> None:
    # Otherwise "malformed" above would be well-formed by chance.
    assert toy_key(512).N // toy_key(512).o > 1 << 300
