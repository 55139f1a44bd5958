"""A party that is stopped but not dead: it accepts connections and says nothing. SIGSTOP does that.

Whoever waits for it says so before the device's own deadline, and goes on without it where that is possible.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest

from tests.e2e.world import ENVIRONMENT, World, hold_ceremony, settle, stopped, supervised, unit
from veilmatch.crypto.errors import UnavailableError
from veilmatch.crypto.keys.parties import PAIRS, Pair, pairs_of, pairs_without
from veilmatch.crypto.parameters import ParameterSet

TOY = ParameterSet(modulus_bits=1024)
#: What each party waits for another, and what the device waits for all of them.
PEER_TIMEOUT_S, DEVICE_TIMEOUT_S = 2, 24.0
#: Daemons that were started again have found those that run.
FOUND_S = 1.5
KNOWN, OTHER = unit(np.random.default_rng(21), 2, TOY.dimension)


def stock(blocks: int) -> dict[str, str]:
    """Return what to add to the environment of key holders that keep so many blocks of each kind."""
    sizes = {"VEILMATCH_STOCK_TRIPLES": 1 << 8, "VEILMATCH_STOCK_BYTES": 1 << 17, "VEILMATCH_STOCK_PRODUCTS": 1 << 14}
    return {name: str(blocks * size) for name, size in sizes.items()}


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """An installation with short time-outs between its servers and one subject, "known".

    A check of dealt stock has a third of such a time-out, and a busy machine may need more: what all tests use is dealt
    before, and nobody wants more of it.
    """
    directory = tmp_path_factory.mktemp("stopped") / "installation"
    hold_ceremony(directory, TOY)
    with supervised(directory, ENVIRONMENT | stock(8)) as parties:
        parties.start()
        parties.wait_ready()
        settle(World(directory, TOY, parties))
    short = {"VEILMATCH_PEER_TIMEOUT_S": str(PEER_TIMEOUT_S)}
    with supervised(directory, ENVIRONMENT | stock(1) | short) as parties:
        parties.start()
        parties.wait_ready()
        world = World(directory, TOY, parties)
        settle(world)
        with world.client() as client:
            client.enrol_embedding("known", KNOWN, model="toy")
        yield world


def restart(world: World, *parties: str) -> None:
    """Kill and start these parties while another one is stopped, and wait for them alone."""
    before = {party: world.log(party).count('"serving"') for party in parties}
    for party in parties:
        world.parties.kill(party)
    world.parties.start(*parties)
    deadline = time.monotonic() + 60.0
    while any(world.log(party).count('"serving"') == count for party, count in before.items()):
        assert time.monotonic() < deadline, "the parties do not come back"
        time.sleep(0.05)


def serves(world: World, *pairs: Pair) -> bool:
    """Whether a device that may use these pairs gets right answers; by which of them does not matter."""
    with world.client(pairs=list(pairs), timeout_s=DEVICE_TIMEOUT_S) as client:
        answers = (
            client.verify_embedding("known", KNOWN, model="toy"),
            client.verify_embedding("known", OTHER, model="toy"),
        )
        return [answer.decision for answer in answers] == [True, False]


def error_of(world: World, **changes: object) -> UnavailableError:
    """The error of a query, which has to come before the device's deadline."""
    started = time.monotonic()
    with world.client(timeout_s=DEVICE_TIMEOUT_S, **changes) as client, pytest.raises(UnavailableError) as caught:
        client.candidates_embedding(KNOWN, model="toy")
    assert time.monotonic() - started < DEVICE_TIMEOUT_S
    return caught.value


@pytest.mark.parametrize("party", ["a", "b", "c"])
def test_a_stopped_key_holder_is_replaced_by_the_third_one(patient: World, party: str) -> None:
    with stopped(patient, f"keyholder-{party}"), patient.client(timeout_s=DEVICE_TIMEOUT_S) as client:
        answer = client.verify_embedding("known", KNOWN, model="toy")
        assert answer.decision
        assert answer.pair == pairs_without(party)[0]  # type: ignore[arg-type]
        client.enrol_embedding("new", OTHER, model="toy")
        assert client.erase("new").templates == 1
    assert all(serves(patient, pair) for pair in PAIRS)


@pytest.mark.parametrize("party", ["a", "b"])
def test_one_call_of_a_client_pays_for_a_stopped_key_holder_and_later_ones_do_not(patient: World, party: str) -> None:
    with patient.client(timeout_s=DEVICE_TIMEOUT_S) as client:
        client.verify_embedding("known", KNOWN, model="toy")
        with stopped(patient, f"keyholder-{party}"):
            took = []
            for _ in range(5):
                answer = client.verify_embedding("known", KNOWN, model="toy")
                assert answer.decision and answer.pair == pairs_without(party)[0]  # type: ignore[arg-type]
                took.append(answer.timings.total_s)
            assert took[0] > PEER_TIMEOUT_S > max(took[1:])
        assert client.verify_embedding("known", KNOWN, model="toy").decision
    assert serves(patient, "ab")


@pytest.mark.parametrize(("party", "pair"), [(party, pair) for party in "abc" for pair in pairs_of(party)])  # type: ignore[arg-type]
def test_the_error_names_the_stopped_key_holder_and_the_pair_that_could_serve(
    patient: World, party: str, pair: Pair
) -> None:
    with stopped(patient, f"keyholder-{party}"):
        error = error_of(patient, pairs=[pair])
        assert error.party == f"keyholder-{party}"
        assert error.alternatives == pairs_without(party)  # type: ignore[arg-type]
        assert serves(patient, pairs_without(party)[0])  # type: ignore[arg-type]
    assert serves(patient, pair)


@pytest.mark.parametrize("party", ["a", "b", "c"])
def test_daemons_that_never_spoke_to_the_stopped_key_holder_name_it_as_well(patient: World, party: str) -> None:
    """No connection is open yet: the stopped process accepts one, and never shows its certificate."""
    others = [f"keyholder-{p}" for p in "abc" if p != party] + ["matcher-a", "matcher-b"]
    with stopped(patient, f"keyholder-{party}"):
        restart(patient, *others)
        time.sleep(FOUND_S)
        for pair in pairs_of(party):  # type: ignore[arg-type]
            error = error_of(patient, pairs=[pair])
            assert (error.party, error.alternatives) == (f"keyholder-{party}", pairs_without(party))  # type: ignore[arg-type]
    settle(patient)
    assert all(serves(patient, pair) for pair in PAIRS)


@pytest.mark.parametrize("party", ["matcher-a", "matcher-b"])
def test_a_stopped_matcher_is_named(patient: World, party: str) -> None:
    with stopped(patient, party):
        assert error_of(patient, pairs=["ab"]).party == party
        assert serves(patient, *PAIRS), "another pair stands in for it"
    assert serves(patient, "ab")


def test_a_matcher_that_never_spoke_to_the_stopped_one_names_it_as_well(patient: World) -> None:
    with stopped(patient, "matcher-b"):
        restart(patient, "matcher-a")
        time.sleep(FOUND_S)
        assert error_of(patient, pairs=["ab"]).party == "matcher-b"
    settle(patient)
    assert serves(patient, "ab")
