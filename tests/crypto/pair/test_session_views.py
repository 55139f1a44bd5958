"""Several views of a face as one probe, in whole sessions: what plain integers say of the best of them, and no more."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.crypto.pair.trips import trips_of
from tests.crypto.toys import TOY, keys_of
from tests.simulator import PLUS, Keys, PairSimulator, SimulatedGallery, unit_vectors
from veilmatch.crypto.errors import CiphertextError, ProtocolError, ServerDeviationError
from veilmatch.crypto.packing.fields import Array
from veilmatch.crypto.pair.messages import DecisionShare, Results
from veilmatch.crypto.pair.request import MAX_TEMPLATES, Operation
from veilmatch.crypto.requests import MAX_VIEWS

SEARCHES: tuple[Operation, ...] = ("known", "candidates", "identify")


def expected(operation: Operation, views: Array, templates: Array, threshold: int) -> list[int]:
    """Answer bits by plain integers: of a slot the best score of all views counts, and of equal slots the lower."""
    best = (templates @ views.T).max(axis=1)
    if operation == "candidates":
        return [int(score >= threshold) for score in best]
    if operation == "identify":
        number = int(np.argmax(best)) + 1 if best.max() >= threshold else 0
        return [number >> i & 1 for i in range(len(templates).bit_length())]
    return [int(best.max() >= threshold)]


def answered(
    keys: Keys,
    operation: Operation,
    views: Array,
    gallery: SimulatedGallery,
    threshold: int,
    templates: int | None = None,
) -> list[int]:
    places = gallery.places[:templates]
    return [int(b) for b in PairSimulator(keys, views=len(views)).decide(operation, views, gallery, threshold, places)]


@pytest.mark.parametrize("operation", SEARCHES)
@pytest.mark.parametrize("count", [1, 2, TOY.slots, 2 * TOY.slots + 3])
@pytest.mark.parametrize("views", [2, 3, 4])
def test_search_is_about_the_best_view_of_each_slot(keys: Keys, operation: Operation, count: int, views: int) -> None:
    rng = np.random.default_rng(100 * count + views)
    templates, probes = unit_vectors(rng, count, TOY), unit_vectors(rng, views, TOY)
    gallery = SimulatedGallery.of(keys.scheme, templates)
    top = max(1, int((templates @ probes.T).max()))
    for threshold in {max(1, top - 1), top, min(top + 1, TOY.threshold_max)}:
        assert answered(keys, operation, probes, gallery, threshold) == expected(
            operation, probes, templates, threshold
        )


@pytest.mark.parametrize("operation", ["known", "candidates", "identify", "verify"])
def test_each_view_counts_whichever_place_it_has(keys: Keys, operation: Operation) -> None:
    rng = np.random.default_rng(3)
    face, *others = unit_vectors(rng, 4, TOY)
    gallery = SimulatedGallery.of(keys.scheme, np.array([-face, face]))
    threshold = min(int(face @ face), TOY.threshold_max)
    strangers = [other for other in others if other @ face < threshold][:2] or [-face, -face]
    for at in range(len(strangers) + 1):
        probes = np.array([*strangers[:at], face, *strangers[at:]])
        found = answered(keys, operation, probes, gallery, threshold)
        assert found == ([1] if operation == "verify" else expected(operation, probes, gallery.templates, threshold))
        assert any(found)
    assert not any(answered(keys, operation, np.array([-face] * 3), gallery, threshold, 2)[1:])


def test_ties_between_slots_go_to_the_lower_one_whatever_the_view(keys: Keys) -> None:
    """The higher slot reaches the score with the first view, the lower one with the last."""
    first, last = unit_vectors(np.random.default_rng(5), 2, TOY)
    last = np.roll(first, 1)
    gallery = SimulatedGallery.of(keys.scheme, np.array([last, first]))
    assert first @ first == last @ last
    threshold = min(int(first @ first), TOY.threshold_max)
    for probes in (np.array([first, last]), np.array([last, first]), np.array([first, first, last])):
        assert answered(keys, "identify", probes, gallery, threshold) == [1, 0]


@pytest.mark.parametrize("by_device", [False, True])
@pytest.mark.parametrize(("templates", "views"), [(1, 2), (1, 4), (3, 2), (3, 4), (9, 3)])
def test_verification_is_about_any_view_with_any_template(
    keys: Keys, templates: int, views: int, by_device: bool
) -> None:
    rng = np.random.default_rng(10 * templates + views)
    records, probes = unit_vectors(rng, templates, TOY), unit_vectors(rng, views, TOY)
    gallery = SimulatedGallery.of(keys.scheme, records)
    top = max(1, int((records @ probes.T).max()))
    simulator = PairSimulator(keys, views=views)
    for threshold in {max(1, top - 1), top, min(top + 1, TOY.threshold_max)}:
        request, probe = simulator.request("verify", threshold), simulator.encrypt(probes)
        plus, minus = simulator.run(request, probe, gallery, gallery.places, [by_device])
        assert plus.valid != minus.valid
        assert int(plus.bits[0] ^ minus.bits[0]) == int((records @ probes.T).max() >= threshold)


def test_most_templates_with_most_views_are_compared_exactly() -> None:
    keys = keys_of("stand-in")
    rng = np.random.default_rng(8)
    records, probes = unit_vectors(rng, MAX_TEMPLATES, TOY), unit_vectors(rng, MAX_VIEWS, TOY)
    gallery = SimulatedGallery.of(keys.scheme, records)
    top = int((records @ probes.T).max())
    for threshold in (top, top + 1):
        assert answered(keys, "verify", probes, gallery, threshold) == [int(top >= threshold)]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, MAX_VIEWS), st.integers(1, 20), st.sampled_from(SEARCHES))
def test_any_faces_are_searched_for_exactly(seed: int, views: int, count: int, operation: Operation) -> None:
    keys, rng = keys_of("stand-in"), np.random.default_rng(seed)
    templates, probes = unit_vectors(rng, count, TOY), unit_vectors(rng, views, TOY)
    gallery = SimulatedGallery.of(keys.scheme, templates)
    threshold = int(rng.integers(1, TOY.threshold_max + 1))
    assert answered(keys, operation, probes, gallery, threshold) == expected(operation, probes, templates, threshold)


@pytest.mark.parametrize("operation", ["known", "candidates", "identify", "verify"])
@pytest.mark.parametrize("at", [0, 1, 2])
def test_one_invalid_view_is_refused_at_the_device_and_answers_nothing(
    keys: Keys, operation: Operation, at: int
) -> None:
    face = unit_vectors(np.random.default_rng(9), 1, TOY)[0]
    gallery = SimulatedGallery.of(keys.scheme, face[None])
    simulator = PairSimulator(keys, views=3)
    for wrong in (0 * face, 2 * face):
        probes = np.array([face] * 3)
        probes[at] = wrong
        with pytest.raises(ServerDeviationError):
            simulator.decide(operation, probes, gallery, 1)
        plus, minus = simulator.run(simulator.request(operation, 1), simulator.encrypt(probes), gallery, gallery.places)
        assert plus.valid == minus.valid and not (plus.bits ^ minus.bits).any()


@pytest.mark.parametrize("operation", ["known", "candidates", "identify", "verify"])
def test_answer_is_as_large_as_that_of_one_view(operation: Operation) -> None:
    keys = keys_of("stand-in")
    faces = unit_vectors(np.random.default_rng(11), 7, TOY)
    gallery = SimulatedGallery.of(keys.scheme, faces)
    sizes = {len(answered(keys, operation, faces[:views], gallery, 1)) for views in range(1, MAX_VIEWS + 1)}
    assert len(sizes) == 1


def test_shares_of_an_answer_say_nothing_alone(keys: Keys) -> None:
    faces = unit_vectors(np.random.default_rng(12), 3, TOY)
    gallery = SimulatedGallery.of(keys.scheme, faces)
    simulator = PairSimulator(keys, views=3)
    shares: list[DecisionShare] = []
    for _ in range(40):
        request = simulator.request("known", 1)
        shares.append(simulator.run(request, simulator.encrypt(faces), gallery, gallery.places)[PLUS])
    assert 5 < sum(int(share.bits[0]) for share in shares) < 35
    assert 5 < sum(share.valid for share in shares) < 35


@pytest.mark.parametrize("operation", SEARCHES)
def test_other_slots_of_one_view_than_of_another_are_refused(operation: Operation) -> None:
    """Both matchers together could otherwise have another slot answered for by each view."""
    keys = keys_of("stand-in")
    faces = unit_vectors(np.random.default_rng(13), 4, TOY)
    gallery = SimulatedGallery.of(keys.scheme, faces)

    def shifted(_holder: int, results: Results) -> Results:
        wanted = results.wanted.copy()
        wanted[1] = np.roll(wanted[1], 1)
        return Results(results.ciphertexts, wanted)

    def fewer(_holder: int, results: Results) -> Results:
        return Results(results.ciphertexts[:-1], results.wanted[:-1])

    for changed in (shifted, fewer):
        simulator = PairSimulator(keys, views=2, results_for=changed)
        with pytest.raises(ProtocolError):
            simulator.decide(operation, faces[:2], gallery, 1)


@pytest.mark.parametrize(
    ("operation", "views", "given_"),
    [("known", 5, 5), ("known", 2, 1), ("known", 1, 2), ("candidates", 0, 1), ("enrol", 2, 2), ("verify", 5, 5)],
)
def test_as_many_vectors_as_views_and_four_at_most(operation: Operation, views: int, given_: int) -> None:
    keys = keys_of("stand-in")
    faces = unit_vectors(np.random.default_rng(14), 5, TOY)
    gallery = SimulatedGallery.of(keys.scheme, faces[:1])
    simulator = PairSimulator(keys, views=views)
    request = simulator.request(operation, 1)
    with pytest.raises((CiphertextError, ProtocolError)):
        simulator.run(request, simulator.encrypt(faces[:given_]), gallery, gallery.places)


@pytest.mark.parametrize(("operation", "more"), [("candidates", 1), ("known", 0), ("verify", 0), ("identify", 5)])
def test_views_take_hardly_more_trips(operation: Operation, more: int) -> None:
    faces = unit_vectors(np.random.default_rng(15), 9, TOY)
    taken: Sequence[int] = [
        max(_trips(operation, faces[:views], SimulatedGallery.of(keys_of("stand-in").scheme, faces)))
        for views in (1, 4)
    ]
    assert taken[1] - taken[0] == more


def _trips(operation: Operation, probes: Array, gallery: SimulatedGallery) -> tuple[int, int]:
    simulator = PairSimulator(keys_of("stand-in"), views=len(probes))
    wanted = gallery.places[:1] if operation == "verify" else gallery.places
    by_device = [True] if operation == "verify" else [True] * len(probes)
    return trips_of(simulator, operation, simulator.encrypt(probes), gallery, wanted, by_device)
