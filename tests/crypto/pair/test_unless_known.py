"""Enrolments unless known, in whole sessions: the vector or zero comes out, the device alone can tell which."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.crypto.pair.trips import trips_of
from tests.crypto.toys import TOY, keys_of
from tests.simulator import MINUS, PLUS, Keys, PairSimulator, SimulatedGallery, unit_vectors
from veilmatch.crypto.errors import ProtocolError
from veilmatch.crypto.packing.fields import Array
from veilmatch.crypto.pair.messages import GateLayer, Openings, Results, TemplateShare
from veilmatch.crypto.parameters import ParameterSet


def enrolled(
    keys: Keys, views: Array, gallery: SimulatedGallery, threshold: int, simulator: PairSimulator | None = None
) -> tuple[Array, int, int]:
    """The coordinates that are stored, int64[D]; whether the probe is valid; whether it is known."""
    simulator = simulator or PairSimulator(keys, views=len(views))
    plus, minus = simulator.run(
        simulator.request("enrol", threshold, unless_known=True), simulator.encrypt(views), gallery, gallery.places
    )
    valid, known = (plus.valid ^ minus.valid).tolist()
    # As integers, as matchers use them: nothing wraps.
    stored = plus.lanes.astype(object) - minus.lanes.astype(object) - TOY.offset
    return stored.astype(np.int64), valid, known


@pytest.mark.parametrize("count", [1, 2, TOY.slots + 1])
@pytest.mark.parametrize("views", [1, 3])
def test_vector_is_stored_if_and_only_if_plain_integers_say_that_it_is_not_known(
    keys: Keys, count: int, views: int
) -> None:
    rng = np.random.default_rng(20 * count + views)
    templates, probes = unit_vectors(rng, count, TOY), unit_vectors(rng, views, TOY)
    gallery = SimulatedGallery.of(keys.scheme, templates)
    top = int((templates @ probes.T).max())
    for threshold in {max(1, top - 1), max(1, top), max(1, min(top + 1, TOY.threshold_max))}:
        stored, valid, known = enrolled(keys, probes, gallery, threshold)
        assert (valid, known) == (1, int(top >= threshold))
        assert np.array_equal(stored, 0 * probes[0] if known else probes[0])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(1, 12))
def test_any_face_is_stored_exactly_or_not_at_all(seed: int, views: int, count: int) -> None:
    keys, rng = keys_of("stand-in"), np.random.default_rng(seed)
    templates, probes = unit_vectors(rng, count, TOY), unit_vectors(rng, views, TOY)
    threshold = int(rng.integers(1, TOY.threshold_max + 1))
    stored, valid, known = enrolled(keys, probes, SimulatedGallery.of(keys.scheme, templates), threshold)
    assert (valid, known) == (1, int((templates @ probes.T).max() >= threshold))
    assert np.array_equal(stored, 0 * probes[0] if known else probes[0])


@pytest.mark.parametrize("at", [0, 1])
def test_invalid_view_stores_nothing_and_knows_nobody(keys: Keys, at: int) -> None:
    face, other = unit_vectors(np.random.default_rng(22), 2, TOY)
    for gallery in (face[None], -face[None]):
        for wrong in (0 * face, 2 * face, face + TOY.clip + 1):
            probes = np.array([face, other])
            probes[at] = wrong
            stored, valid, known = enrolled(keys, probes, SimulatedGallery.of(keys.scheme, gallery), 1)
            assert (valid, known) == (0, 0) and not stored.any()


def test_empty_templates_make_nobody_known(keys: Keys) -> None:
    face = unit_vectors(np.random.default_rng(23), 1, TOY)[0]
    stored, valid, known = enrolled(keys, face[None], SimulatedGallery.of(keys.scheme, 0 * face[None]), 1)
    assert (valid, known) == (1, 0) and np.array_equal(stored, face)


def test_one_organisation_sees_the_same_kinds_and_sizes_of_messages_whether_known_or_not(keys: Keys) -> None:
    face, other = unit_vectors(np.random.default_rng(24), 2, TOY)
    seen = []
    for template in (face, -face):
        simulator = PairSimulator(keys)
        _, valid, known = enrolled(keys, face[None], SimulatedGallery.of(keys.scheme, template[None]), 1, simulator)
        sizes = [(holder, type(e.message).__name__, _size(e.message)) for holder, e in simulator.sent]
        seen.append(((valid, known), sizes))
    assert [told for told, _ in seen] == [(1, 1), (1, 0)]
    assert seen[0][1] == seen[1][1]
    assert other.shape == face.shape


def _size(message: object) -> int:
    if isinstance(message, GateLayer):
        return len(message.payload)
    return len(message.values) if isinstance(message, Openings) else 0


def test_shares_of_what_is_told_are_fair_coins_and_of_what_is_stored_are_uniform(keys: Keys) -> None:
    """What a matcher is given: known or not, its bits and its words have the same distribution."""
    face = unit_vectors(np.random.default_rng(25), 1, TOY)[0]
    for template in (face, -face):
        simulator, gallery = PairSimulator(keys), SimulatedGallery.of(keys.scheme, template[None])
        shares: list[TemplateShare] = []
        for _ in range(40):
            request = simulator.request("enrol", 1, unless_known=True)
            shares.append(simulator.run(request, simulator.encrypt(face), gallery, gallery.places)[MINUS])
        assert all(5 < sum(int(share.valid[i]) for share in shares) < 35 for i in (0, 1))
        top_bits = np.array([share.lanes >> np.uint64(63) for share in shares], dtype=np.int64)
        assert (top_bits.sum(axis=0) > 5).all() and (top_bits.sum(axis=0) < 35).all()


def test_matchers_that_ask_for_different_slots_end_the_session_before_anything_is_opened() -> None:
    keys = keys_of("stand-in")
    faces = unit_vectors(np.random.default_rng(26), 2, TOY)
    gallery = SimulatedGallery.of(keys.scheme, faces)

    def one_slot_less(holder: int, results: Results) -> Results:
        wanted = results.wanted.copy()
        if holder == PLUS:
            wanted[0, 0] = False
        return Results(results.ciphertexts, wanted)

    simulator = PairSimulator(keys, results_for=one_slot_less)
    with pytest.raises(ProtocolError):
        enrolled(keys, faces[:1], gallery, 1, simulator)
    assert not any(isinstance(e.message, GateLayer) and e.number > 40 for _, e in simulator.sent)


def test_it_takes_three_trips_more_than_the_search_of_known() -> None:
    simulator = PairSimulator(keys_of("stand-in"))
    faces = unit_vectors(np.random.default_rng(27), 9, TOY)
    gallery = SimulatedGallery.of(simulator.keys.scheme, faces)
    found = trips_of(simulator, "enrol", simulator.encrypt(faces[0]), gallery, gallery.places, None, unless_known=True)
    searched = trips_of(
        simulator, "known", simulator.encrypt(faces[0]), gallery, gallery.places, None, unless_known=True
    )
    assert max(found) == max(searched) + 3 == 15


def test_larger_parameters_are_exact_too() -> None:
    parameters = ParameterSet(dimension=24, scale=16, clip=5, modulus_bits=1024)
    keys = keys_of("stand-in", parameters)
    rng = np.random.default_rng(28)
    templates = unit_vectors(rng, parameters.slots + 1, parameters)
    gallery = SimulatedGallery.of(keys.scheme, templates)
    simulator = PairSimulator(keys)
    for probe, known in ((templates[-1], 1), (-templates[-1], None)):
        threshold = min(int(probe @ probe), parameters.threshold_max)
        expected = int((templates @ probe).max() >= threshold)
        assert known is None or expected == known
        plus, minus = simulator.run(
            simulator.request("enrol", threshold, unless_known=True), simulator.encrypt(probe), gallery, gallery.places
        )
        assert (plus.valid ^ minus.valid).tolist() == [1, expected]
