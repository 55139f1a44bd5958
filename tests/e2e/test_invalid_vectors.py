"""Invalid vectors over real processes: refused as a template and as a probe, by one error, and nothing stays."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.world import World, running, unit
from veilmatch.client.capture import quantiser
from veilmatch.client.client import Client
from veilmatch.client.operations import device
from veilmatch.crypto.errors import ServerDeviationError
from veilmatch.crypto.packing.fields import Array
from veilmatch.crypto.parameters import ParameterSet

RNG = np.random.default_rng(53)
TOKEN = bytes(range(16))
FACES = unit(RNG, 3, 128)
#: What a dishonest device makes of an embedding, instead of what the quantiser makes of it.
DISHONEST: dict[str, Callable[[Array], Array]] = {
    "times 10": lambda x: 10 * x,
    "times 1000": lambda x: 1000 * x,
    "all +-127": lambda x: np.where(x >= 0, 127, -127),
    "zero": lambda x: 0 * x,
    "half": lambda x: x // 2,
    "hidden above 2^k": lambda x: x + (1 << 15),
    "hidden in the next slot": lambda x: x + (5 << 24),
}


def dishonest(patch: pytest.MonkeyPatch, change: Callable[[Array], Array]) -> None:
    """Make this process a device whose quantiser does that. The servers run as they are."""

    def quantise(embedding: object, parameters: ParameterSet) -> Array:
        return np.asarray(change(quantiser.quantise(embedding, parameters)), dtype=np.int64)  # type: ignore[arg-type]

    patch.setattr(device, "quantise", quantise)


def sequence(client: Client) -> int:
    return client.candidates_embedding(FACES[0], model="toy").sequence


@pytest.mark.parametrize("change", DISHONEST.values(), ids=DISHONEST)
def test_invalid_vectors_are_refused_and_leave_nothing(
    world: World, change: Callable[[Array], Array], monkeypatch: pytest.MonkeyPatch
) -> None:
    with world.client() as client:
        client.enrol_embedding("ada", FACES[0], model="toy")
        before, people, told = sequence(client), client.subjects(), set()
        with monkeypatch.context() as patch:
            dishonest(patch, change)
            with pytest.raises(ServerDeviationError) as caught:
                client.enrol_embedding("eve", FACES[1], model="toy")
            (token,) = caught.value.enrolments
            assert client.take_back("eve", bytes.fromhex(token)).templates == 1
            told.add(json.dumps(caught.value.fields() | {"enrolments": [], "request_id": ""}))
            for ask in (
                lambda: client.verify_embedding("ada", FACES[0], model="toy"),
                lambda: client.candidates_embedding(FACES[0], model="toy", threshold=0.01),
            ):
                with pytest.raises(ServerDeviationError) as caught:
                    ask()
                told.add(json.dumps(caught.value.fields() | {"request_id": ""}))
        assert len(told) == 1, "one refusal for all"
        assert sequence(client) == before + 2, "an empty template, and its erasure"
        assert client.subjects() == people
        assert client.verify_embedding("ada", FACES[0], model="toy")
        assert not client.verify_embedding("ada", FACES[1], model="toy")
        client.erase("ada")


@pytest.mark.parametrize("pair", ["ac", "bc"])
def test_every_pair_refuses_them(world: World, pair: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with world.client(pairs=[pair]) as client:
        client.enrol_embedding("ada", FACES[0], model="toy")
        with monkeypatch.context() as patch:
            dishonest(patch, DISHONEST["times 10"])
            with pytest.raises(ServerDeviationError):
                client.verify_embedding("ada", FACES[0], model="toy")
            with pytest.raises(ServerDeviationError):
                client.enrol_embedding("eve", FACES[1], model="toy")
        assert client.erase("eve").templates == 1
        client.erase("ada")


def test_an_empty_template_matches_nobody_and_is_erased_like_any_other(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with world.client() as client:
        client.enrol_embedding("ada", FACES[0], model="toy")
        with monkeypatch.context() as patch:
            dishonest(patch, DISHONEST["hidden in the next slot"])
            with pytest.raises(ServerDeviationError):
                client.enrol_embedding("eve", FACES[1], model="toy", token=TOKEN)
            with pytest.raises(ServerDeviationError):
                client.enrol_embedding("eve", FACES[1], model="toy", token=TOKEN)  # a retry is told the same
        assert {s.subject: s.templates for s in client.subjects()} == {"ada": 1, "eve": 1}
        for face in FACES:
            assert not client.verify_embedding("eve", face, model="toy", threshold=0.0001)
            assert "eve" not in client.candidates_embedding(face, model="toy", threshold=0.0001)
        assert client.verify_embedding("ada", FACES[0], model="toy")
        assert client.erase("eve").templates == 1
        assert client.erase("ada").templates == 1


def test_invalid_record_of_a_bulk_enrolment_is_erased_and_its_column_is_not_subtracted_from_the_slots_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its slot is given up for ever, after a restart as well: a world of its own."""
    with running(tmp_path / "installation", ParameterSet(modulus_bits=1024)) as world, world.client() as client:
        with monkeypatch.context() as patch:
            dishonest(patch, DISHONEST["times 10"])
            client.enrol_many_embeddings({"eve": FACES[1]}, model="toy")
        client.enrol_embedding("ada", FACES[0], model="toy")
        client.enrol_embedding("eve", FACES[2], model="toy")
        assert client.erase("eve").templates == 2
        assert client.candidates_embedding(FACES[1], model="toy", threshold=0.01).compared == 1
        for killed in (False, True):
            if killed:
                world.parties.kill("matcher-a")
                world.parties.kill("matcher-b")
                world.restart()
            client.enrol_embedding("bob", FACES[1], model="toy")
            assert client.verify_embedding("ada", FACES[0], model="toy") and client.verify_embedding(
                "bob", FACES[1], model="toy"
            )
            assert client.candidates_embedding(FACES[1], model="toy").subjects == ("bob",)
            client.erase("bob")
        assert client.erase("ada").templates == 1
