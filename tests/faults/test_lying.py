"""One server lies about answers, each of the six in turn: a plain answer is wrong then, an assured one never.

Real daemons over gRPC, each with a switch that makes it flip, garble or withhold its share (lying.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.world import ENVIRONMENT, EVERYBODY, World, hold_ceremony, settle, supervised, unit
from tests.faults.lying import LIES, environment, lie
from veilmatch.client.client import Client
from veilmatch.crypto.errors import DisagreementError, IntegrityError, VeilmatchError
from veilmatch.crypto.parameters import ParameterSet

PARAMETERS = ParameterSet(modulus_bits=1024)
MODEL = "toy"
KNOWN, OTHER, STRANGER = unit(np.random.default_rng(5), 3, PARAMETERS.dimension)


@pytest.fixture(scope="module")
def lies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, Path]]:
    directory = tmp_path_factory.mktemp("lying") / "installation"
    hold_ceremony(directory, PARAMETERS)
    folder = directory.parent / "lies"
    with supervised(directory, ENVIRONMENT | environment(folder)) as parties:
        parties.start()
        parties.wait_ready()
        world = World(directory, PARAMETERS, parties)
        settle(world)
        with world.client() as client:
            client.enrol_embedding("known", KNOWN, model=MODEL)
            client.enrol_embedding("other", OTHER, model=MODEL)
        yield world, folder


def asked(client: Client, face: np.ndarray, *, assured: bool) -> list[object]:
    """Return what verify, identify and candidates say of a face."""
    answers: list[object] = []
    for ask in (
        lambda: client.verify_embedding("known", face, model=MODEL, assured=assured).decision,
        lambda: client.identify_embedding(face, model=MODEL, assured=assured).subject,
        lambda: client.candidates_embedding(face, model=MODEL, assured=assured).subjects,
    ):
        try:
            answers.append(ask())
        except VeilmatchError as error:
            answers.append(error)
    return answers


TRUTH = {"known": (KNOWN, [True, "known", ("known",)]), "stranger": (STRANGER, [False, None, ()])}


@pytest.mark.parametrize("how", LIES)
@pytest.mark.parametrize("party", EVERYBODY)
def test_no_assured_answer_is_wrong_whichever_server_lies(lies: tuple[World, Path], party: str, how: str) -> None:
    world, folder = lies
    lie(folder, party, how)
    try:
        with world.client() as client:
            for face, truth in TRUTH.values():
                answers = asked(client, face, assured=True)
                said = [
                    (a if isinstance(a, VeilmatchError) else _plain(a), b) for a, b in zip(answers, truth, strict=True)
                ]
                assert all(isinstance(a, VeilmatchError) or a == b for a, b in said)
                if how == "flips":
                    verified, identified, found = (a for a, _ in said)
                    assert isinstance(verified, DisagreementError) and isinstance(found, DisagreementError)
                    # A disagreement, too; or the number with every bit flipped is that of no place.
                    assert isinstance(identified, (DisagreementError, IntegrityError)), identified
    finally:
        lie(folder, party, None)


@pytest.mark.parametrize("party", ["matcher-a", "keyholder-b"])
def test_a_plain_answer_is_what_a_liar_makes_of_it(lies: tuple[World, Path], party: str) -> None:
    world, folder = lies
    lie(folder, party, "flips")
    try:
        with world.client(pairs=["ab"]) as client:
            assert client.verify_embedding("known", STRANGER, model=MODEL).decision, "a refusal becomes an acceptance"
            assert not client.verify_embedding("known", KNOWN, model=MODEL).decision
    finally:
        lie(folder, party, None)


def test_honest_servers_give_assured_answers(lies: tuple[World, Path]) -> None:
    with lies[0].client() as client:
        for face, truth in TRUTH.values():
            assert [_plain(answer) for answer in asked(client, face, assured=True)] == truth


def _plain(answer: object) -> object:
    return tuple(answer) if isinstance(answer, (list, set, frozenset)) else answer
