"""What one deviating server with a device gets in spite of every check, in as many queries as the documents say."""

from __future__ import annotations

import numpy as np
import pytest

from tests.crypto.toys import SCHEMES, TOY, keys_of
from tests.hostile.alone import faces
from tests.hostile.together import GateInputsOfItsChoice, LanesOfItsChoice, ResultsOfItsChoice, flipped_answer
from tests.simulator import Keys, SimulatedGallery

TEMPLATES, KNOWN, STRANGER = faces(TOY)


@pytest.fixture(params=SCHEMES)
def keys(request: pytest.FixtureRequest) -> Keys:
    return keys_of(request.param)


def test_a_matcher_that_chooses_the_results_reads_the_gallery_a_bit_of_every_slot_a_query(keys: Keys) -> None:
    gallery = SimulatedGallery.of(keys.scheme, TEMPLATES[: TOY.slots])
    matcher = ResultsOfItsChoice(keys, gallery, own=STRANGER)
    assert np.array_equal(matcher.read(), TEMPLATES[: TOY.slots])
    assert matcher.queries <= TOY.dimension * (2 * TOY.clip).bit_length()


def test_a_key_holder_that_chooses_gate_inputs_reads_scores_of_its_own_probes(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery = SimulatedGallery.of(keys.scheme, TEMPLATES)
    holder = GateInputsOfItsChoice(keys, gallery, monkeypatch)
    assert np.array_equal(holder.scores(STRANGER), TEMPLATES @ STRANGER)
    assert holder.queries <= TOY.ring_bits


def test_a_key_holder_that_chooses_its_lanes_reads_a_template_that_its_device_verifies(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery = SimulatedGallery.of(keys.scheme, TEMPLATES[:3])
    holder = LanesOfItsChoice(keys, gallery, STRANGER, monkeypatch)
    assert np.array_equal(holder.read((0, 1)), TEMPLATES[1])
    assert holder.queries <= TOY.dimension * (2 * TOY.clip).bit_length()


def test_a_server_that_flips_its_share_turns_a_refusal_into_an_acceptance(keys: Keys) -> None:
    gallery = SimulatedGallery.of(keys.scheme, TEMPLATES[:1])
    assert TEMPLATES[0] @ STRANGER < 1
    assert flipped_answer(keys, gallery, STRANGER, threshold=1)
