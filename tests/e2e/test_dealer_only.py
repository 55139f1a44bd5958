"""An installation without a matcher c: organisation c deals, and pair ab serves alone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from tests.e2e.world import World, running, unit
from veilmatch.crypto.errors import UnavailableError, VeilmatchError
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.server.config import KeyHolderSettings

TOY = ParameterSet(modulus_bits=1024)
ADA, BEN = unit(np.random.default_rng(5), 2, TOY.dimension)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with running(tmp_path_factory.mktemp("dealer") / "installation", TOY, 1, "--dealer-only", "c") as world:
        yield world


def test_two_matchers_and_three_key_holders_serve(world: World) -> None:
    assert set(world.parties.names) == {"keyholder-a", "keyholder-b", "keyholder-c", "matcher-a", "matcher-b"}
    with world.client() as client:
        client.enrol_embedding("ada", ADA, model="toy")
        assert client.verify_embedding("ada", ADA, model="toy")
        assert not client.verify_embedding("ada", BEN, model="toy")
        assert client.candidates_embedding(ADA, model="toy").subjects == ("ada",)
        client.erase("ada")


def test_no_stock_is_kept_for_pairs_that_never_serve(world: World) -> None:
    for party, pairs in (("a", ("ab",)), ("b", ("ab",)), ("c", ())):
        assert KeyHolderSettings.load(world.parties.config(f"keyholder-{party}")).pairs == pairs
        log = world.log(f"keyholder-{party}")
        assert all((f'"pair": "{pair}"' in log) is (pair in pairs) for pair in ("ab", "ac", "bc"))


def test_an_organisation_that_is_down_is_named_and_no_other_pair_is_offered(world: World) -> None:
    with world.client(timeout_s=8.0) as client:
        client.enrol_embedding("ben", BEN, model="toy")
        world.parties.stop("keyholder-b")
        with pytest.raises(UnavailableError) as caught:
            client.verify_embedding("ben", BEN, model="toy")
        assert (caught.value.party, caught.value.alternatives) == ("keyholder-b", ())
    world.restart()


def test_a_pair_without_a_matcher_is_refused(world: World) -> None:
    with pytest.raises(VeilmatchError) as caught, world.client(pairs=["ac"]) as client:
        client.verify_embedding("ben", BEN, model="toy")
    assert not isinstance(caught.value, UnavailableError) or caught.value.alternatives == ()
