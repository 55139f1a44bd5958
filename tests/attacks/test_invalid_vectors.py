"""Vectors out of range: over-scaled, of no length, wolves, with foreign lanes and bits. The validity gate refuses each.

docs/protocol.md. Each attack works with the gate taken out, or with one that checks mod 2^k only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import numpy as np
import pytest

from tests.attacks.vectors import (
    LAST,
    P,
    changed,
    check_mod_2_to_k_only,
    encrypted,
    enrolled,
    is_enrolled,
    matches,
    plaintexts,
)
from tests.crypto.toys import SCHEMES, keys_of, take_validity_out
from tests.simulator import Keys, PairSimulator, SimulatedGallery, unit_vectors
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.errors import ServerDeviationError
from veilmatch.crypto.pair.request import Operation

RNG = np.random.default_rng(51)
TEMPLATES = unit_vectors(RNG, P.slots, P)
FACE, STRANGER = unit_vectors(RNG, 2, P)
#: Where strangers do not match.
THRESHOLD = P.threshold(0.35)
WOLF = np.rint(TEMPLATES.mean(axis=0) * 2).astype(np.int64)
SIGNS = RNG.choice([-1, 1], P.dimension)


@pytest.fixture(params=SCHEMES)
def keys(request: pytest.FixtureRequest) -> Keys:
    """The real numbers over a toy modulus."""
    return keys_of(request.param, P)


@pytest.fixture
def gallery(keys: Keys) -> SimulatedGallery:
    return SimulatedGallery.of(keys.scheme, TEMPLATES)


# -- probes that match too much ---------------------------------------------------------------------------

OVERSCALED = {"times 10": 10 * STRANGER, "times 1000": 1000 * STRANGER, "all +-127": 127 * SIGNS}


def test_honest_stranger_matches_nobody(keys: Keys, gallery: SimulatedGallery) -> None:
    assert matches(keys, plaintexts(STRANGER), gallery, THRESHOLD) == 0


@pytest.mark.parametrize("probe", OVERSCALED.values(), ids=OVERSCALED)
def test_without_the_gate_an_over_scaled_stranger_matches_a_third_of_the_gallery(
    keys: Keys, gallery: SimulatedGallery, probe: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_validity_out(monkeypatch)
    assert matches(keys, plaintexts(probe), gallery, THRESHOLD) > len(TEMPLATES) / 4


@pytest.mark.parametrize("probe", OVERSCALED.values(), ids=OVERSCALED)
def test_over_scaled_probe_is_refused(keys: Keys, gallery: SimulatedGallery, probe: np.ndarray) -> None:
    with pytest.raises(ServerDeviationError):
        matches(keys, plaintexts(probe), gallery, THRESHOLD)


def test_without_the_gate_a_mean_of_the_gallery_matches_nearly_everybody_at_the_lowest_threshold(
    keys: Keys, gallery: SimulatedGallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert int(WOLF @ WOLF) < P.norm_min
    assert matches(keys, plaintexts(STRANGER), gallery, 1) < 0.7 * len(TEMPLATES)
    take_validity_out(monkeypatch)
    assert matches(keys, plaintexts(WOLF), gallery, 1) > 0.85 * len(TEMPLATES)


def test_mean_of_a_gallery_is_refused(keys: Keys, gallery: SimulatedGallery) -> None:
    with pytest.raises(ServerDeviationError):
        matches(keys, plaintexts(WOLF), gallery, 1)


def test_mean_scaled_to_the_length_of_a_face_passes_and_the_gate_does_not_claim_to_stop_it(keys: Keys) -> None:
    scaled = np.clip(np.rint(P.scale * WOLF / np.linalg.norm(WOLF)), -P.clip, P.clip).astype(np.int64)
    assert is_enrolled(keys, plaintexts(scaled))


# -- every way to be invalid ----------------------------------------------------------------------------------

ZERO = np.zeros(P.dimension, dtype=np.int64)
BIT = Integer(1)
NAMED: dict[str, Sequence[Integer]] = {
    **{name: plaintexts(x) for name, x in OVERSCALED.items()},
    "zero": plaintexts(ZERO),
    "wolf": plaintexts(WOLF),
    "one coordinate of c + 1": plaintexts(np.where(np.arange(P.dimension) == 5, P.clip + 1, FACE)),
    "one coordinate of -c - 1": plaintexts(np.where(np.arange(P.dimension) == 5, -P.clip - 1, FACE)),
    "-1": changed(FACE, 0, lambda m: Integer(-1)),
    "nothing at all": [Integer(0)] * P.lane_ciphertexts,
    "a borrow from the next lane": changed(FACE, 0, lambda m: m - (BIT << 10)),
}
#: Those that are face and valid mod 2^k, and only there.
HIDDEN: dict[str, Sequence[Integer]] = {
    "a lane that reaches into its neighbour": changed(FACE, 0, lambda m: m + (BIT << P.lane_bits - 1)),
    "a multiple of 2^k in a lane": changed(FACE, 0, lambda m: m + (BIT << P.ring_bits)),
    "another slot's column": changed(FACE, 0, lambda m: m + (Integer(9) << P.slot_bits)),
    "an unused lane of the last ciphertext": changed(FACE, -1, lambda m: m + (BIT << P.lane_bits * LAST)),
    "the unused lanes of the last ciphertext": changed(
        FACE, -1, lambda m: m + ((BIT << P.lane_bits * P.lanes) - (BIT << P.lane_bits * LAST))
    ),
    "the lowest bit above the lanes": changed(FACE, 0, lambda m: m + (BIT << P.lane_bits * P.lanes)),
    "the top 64 bits": changed(FACE, 0, lambda m: m + (Integer(0x1234567) << P.modulus_bits - 64)),
}
ALL = NAMED | HIDDEN


@pytest.mark.parametrize("m", ALL.values(), ids=ALL)
def test_without_the_gate_everything_is_enrolled(
    keys: Keys, m: Sequence[Integer], monkeypatch: pytest.MonkeyPatch
) -> None:
    take_validity_out(monkeypatch)
    x, valid = enrolled(keys, m)
    assert valid and (any(x) or m == NAMED["zero"])


@pytest.mark.parametrize("m", HIDDEN.values(), ids=HIDDEN)
def test_gate_mod_2_to_k_accepts_what_hides_above(
    keys: Keys, m: Sequence[Integer], gallery: SimulatedGallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_mod_2_to_k_only(monkeypatch)
    assert is_enrolled(keys, plaintexts(FACE))
    # A carry or a wrap spoils a coordinate in one run of two, or less.
    assert any(is_enrolled(keys, m) for _ in range(12))
    assert not is_enrolled(keys, plaintexts(ZERO)) and not is_enrolled(keys, plaintexts(10 * STRANGER))


@pytest.mark.parametrize("m", ALL.values(), ids=ALL)
def test_gate_makes_zero_of_it_as_a_template(keys: Keys, m: Sequence[Integer]) -> None:
    assert not any(is_enrolled(keys, m) for _ in range(4))


@pytest.mark.parametrize("m", ALL.values(), ids=ALL)
def test_gate_refuses_it_as_a_probe_and_every_answer_bit_is_zero(
    keys: Keys, m: Sequence[Integer], gallery: SimulatedGallery
) -> None:
    simulator = PairSimulator(keys)
    for operation in ("candidates", "verify", "identify"):
        plus, minus = simulator.run(simulator.request(operation, 1), encrypted(keys, m), gallery, gallery.places)
        assert plus.valid == minus.valid and not (plus.bits ^ minus.bits).any()


def test_gate_makes_zero_of_one_such_record_among_good_ones_when_they_are_erased_or_rotated(keys: Keys) -> None:
    simulator = PairSimulator(keys)
    good = [plaintexts(template) for template in TEMPLATES[:3]]
    records = [c for m in good for c in encrypted(keys, m)]
    lanes, _ = simulator.opened(simulator.run(simulator.request("erase", 0), records))
    assert np.array_equal(lanes - P.offset, TEMPLATES[:3].ravel())
    for at in range(3):
        mixed = [*good[:at], HIDDEN["another slot's column"], *good[at + 1 :]]
        kept = np.where(np.arange(3)[:, None] == at, 0, TEMPLATES[:3])
        for operation in ("erase", "rotate"):
            ciphertexts = [c for m in mixed for c in encrypted(keys, m)]
            lanes, valid = simulator.opened(simulator.run(simulator.request(operation, 0), ciphertexts))
            assert np.array_equal(lanes - P.offset, kept.ravel())
            assert valid.tolist() == ([] if operation == "erase" else [i != at for i in range(3)])


# -- what a refusal tells ----------------------------------------------------------------------------------------


def traffic(simulator: PairSimulator) -> list[tuple[int, str, int]]:
    """Sender, kind and size of every message of the last run."""
    found = []
    for holder, envelope in simulator.sent:
        values = (getattr(envelope.message, field.name) for field in fields(envelope.message))
        found.append((holder, type(envelope.message).__name__, sum(len(v) for v in values if isinstance(v, bytes))))
    return found


def test_servers_see_the_same_messages_whether_a_probe_is_valid_or_not(keys: Keys, gallery: SimulatedGallery) -> None:
    seen = []
    for m in (plaintexts(FACE), NAMED["zero"], NAMED["times 10"]):
        simulator = PairSimulator(keys)
        simulator.run(simulator.request("candidates", 1), encrypted(keys, m), gallery, gallery.places)
        seen.append(traffic(simulator))
    assert seen[0] == seen[1] == seen[2]


@pytest.mark.parametrize("operation", ["enrol", "erase", "rotate"])
def test_servers_see_the_same_messages_whether_a_template_is_valid_or_not(keys: Keys, operation: Operation) -> None:
    """Every message with all its bytes counted: there is none in which the validity could be opened."""
    simulator, seen = PairSimulator(keys), []
    for m in (plaintexts(FACE), *ALL.values()):
        simulator.run(simulator.request(operation, 0), encrypted(keys, m))
        seen.append(traffic(simulator))
    assert all(other == seen[0] for other in seen)


def test_one_share_of_the_validity_of_a_probe_says_nothing(keys: Keys, gallery: SimulatedGallery) -> None:
    for m in (plaintexts(FACE), NAMED["zero"]):
        simulator, seen = PairSimulator(keys), set()
        for _ in range(40):
            ciphertexts = encrypted(keys, m)
            ends = simulator.run(simulator.request("verify", 1), ciphertexts, gallery, gallery.places[:1])
            seen |= {(holder, end.valid) for holder, end in enumerate(ends)}
        assert seen == {(0, 0), (0, 1), (1, 0), (1, 1)}


@pytest.mark.parametrize("operation", ["enrol", "rotate"])
def test_one_share_of_the_validity_of_a_template_says_nothing(keys: Keys, operation: Operation) -> None:
    for m in (plaintexts(FACE), NAMED["zero"]):
        simulator, seen = PairSimulator(keys), set()
        for _ in range(40):
            ends = simulator.run(simulator.request(operation, 0), encrypted(keys, m))
            seen |= {(holder, int(end.valid[0])) for holder, end in enumerate(ends)}
        assert seen == {(0, 0), (0, 1), (1, 0), (1, 1)}


def test_refusal_is_the_same_for_every_cause(keys: Keys, gallery: SimulatedGallery) -> None:
    """Of a probe one error, of a template one bit and zeros."""
    told = set()
    for m in ALL.values():
        with pytest.raises(ServerDeviationError) as caught:
            matches(keys, m, gallery, 1)
        told.add(str(sorted(caught.value.fields().items(), key=str)))
        assert enrolled(keys, m) == ([0] * P.dimension, False)
    assert len(told) == 1
