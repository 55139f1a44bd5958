"""Different ciphertexts for the two holders: the result is off by kappa times a share of o."""

from __future__ import annotations

import numpy as np
import pytest

from tests.attacks.tools import Converted, opened, secrets_of, take_key_safety_out
from tests.crypto.toys import TOY, take_validity_out
from tests.simulator import MINUS, PLUS, Keys, PairSimulator, SimulatedGallery, unit_vectors
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.errors import ProtocolError
from veilmatch.crypto.packing import lanes
from veilmatch.crypto.pair import records
from veilmatch.crypto.pair.messages import Openings, Results

PROBE, *OTHERS = unit_vectors(np.random.default_rng(6), 5, TOY)
DELTA = 7


def unequal(keys: Keys) -> tuple[list[Integer], list[Integer]]:
    """c for the plus holder, c * (1+N)^delta for the minus holder: equal mod N, so of equal fingerprints."""
    ciphertexts = PairSimulator(keys).encrypt(PROBE)
    return ciphertexts, [keys.scheme.multiply(ciphertexts[0], keys.scheme.encode(Integer(DELTA))), *ciphertexts[1:]]


def test_without_the_digests_the_result_depends_on_the_key(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "digest_all", lambda label, items: bytes(32))
    take_validity_out(monkeypatch)  # it would refuse what comes out
    take_key_safety_out(monkeypatch)  # and so would this
    converted, simulator = Converted(monkeypatch), PairSimulator(keys)
    simulator.run(simulator.request("enrol", 0), unequal(keys))
    _, kappa = secrets_of(keys)
    first = lanes.pack(PROBE, TOY)[0]
    off = kappa * keys.exponents[MINUS] * DELTA
    assert converted.values(keys)[0] == (first - off) % keys.scheme.modulus != first


def test_different_probe_ciphertexts_are_refused_before_anything_is_opened(keys: Keys) -> None:
    simulator, ciphertexts = PairSimulator(keys), unequal(keys)
    gallery = SimulatedGallery.of(keys.scheme, np.array(OTHERS))
    for operation in ("verify", "candidates", "identify", "enrol", "erase", "rotate"):
        for both in (ciphertexts, ciphertexts[::-1]):
            with pytest.raises(ProtocolError):
                simulator.run(simulator.request(operation, 1), (both[0], both[1]), gallery, gallery.places)
            assert not opened(simulator)


@pytest.mark.parametrize("change", ["another plaintext", "another order", "one less"])
@pytest.mark.parametrize("holder", [PLUS, MINUS])
def test_different_records_are_refused_before_anything_is_opened(keys: Keys, holder: int, change: str) -> None:
    simulator, size = PairSimulator(keys), TOY.lane_ciphertexts
    gallery = SimulatedGallery.of(keys.scheme, np.array(OTHERS))
    shift = keys.scheme.encode(Integer(DELTA))

    def other(to: int, records: list[Integer]) -> list[Integer]:
        if to != holder:
            return records
        return {
            "another plaintext": [*records[:-1], keys.scheme.multiply(records[-1], shift)],
            "another order": records[size:] + records[:size], "one less": records[size:],
        }[change]  # fmt: skip

    simulator.records_for = other
    count = len(gallery.places)
    told = [[False] * (count - (h == holder and change == "one less")) for h in (PLUS, MINUS)]
    with pytest.raises(ProtocolError, match="key holders a and b were given different"):
        simulator.run(
            simulator.request("verify", 1), simulator.encrypt(PROBE), gallery, gallery.places, (told[PLUS], told[MINUS])
        )
    assert not opened(simulator)


@pytest.mark.parametrize("holder", [PLUS, MINUS])
def test_different_results_are_refused_before_they_are_opened(keys: Keys, holder: int) -> None:
    def shift(to: int, results: Results) -> Results:
        shifted = [keys.scheme.multiply(c, keys.scheme.encode(Integer(DELTA))) for c in results.ciphertexts]
        return Results(shifted, results.wanted) if to == holder else results

    simulator = PairSimulator(keys, results_for=shift)
    with pytest.raises(ProtocolError):
        simulator.decide("candidates", PROBE, SimulatedGallery.of(keys.scheme, np.array(OTHERS)), 1)
    assert sorted(h for h, e in simulator.sent if isinstance(e.message, Openings)) == [PLUS, MINUS], "of the probe"


def test_same_plaintext_under_other_randomness_is_another_ciphertext(paillier: Keys) -> None:
    simulator = PairSimulator(paillier)
    with pytest.raises(ProtocolError):
        simulator.run(simulator.request("enrol", 0), (simulator.encrypt(PROBE), simulator.encrypt(PROBE)))
    assert not opened(simulator)
