"""A network that loses everything between some parties, in the middle of requests and for as long as it is cut.

`Partitions.during` cuts at a moment of an enrolment, a verification and an erasure that run side by side, and checks
what must hold: no wrong decision; what was not acknowledged can be repeated under its token, and everything is served,
while it is cut; and after it the three matchers come to hold the same, of which every pair gives the same answers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.relay import Relays
from tests.e2e.world import ENVIRONMENT, World, hold_ceremony, settle, supervised, unit
from tests.faults.harness import DEVICE_TIMEOUT_S, PARAMETERS, PEER_TIMEOUT_S
from tests.faults.level import wait_level
from veilmatch.client.client import Client
from veilmatch.client.wire.signing import new_token
from veilmatch.crypto.errors import UnknownSubjectError, VeilmatchError
from veilmatch.crypto.keys.parties import PAIRS, PARTIES

#: Who cannot reach whom: two matchers, two key holders, or an organisation nobody at all, the device included.
CUTS = (
    *(f"{kind} {pair[0]}|{pair[1]}" for kind in ("matcher", "keyholder") for pair in PAIRS),
    *(f"organisation {party}" for party in PARTIES),
)


def stock(blocks: int) -> dict[str, str]:
    """The settings of a stock: who is cut off from the dealer of a pair goes on with what there is."""
    return {
        "VEILMATCH_STOCK_TRIPLES": str(blocks * 1024),
        "VEILMATCH_STOCK_BYTES": str(2 * blocks << 17),
        "VEILMATCH_STOCK_PRODUCTS": str(blocks << 14),
    }


#: A few cuts, and many one after the other on a machine that has other work: the stock is not filled in between.
MANY_BLOCKS = 16
FEW, MANY = stock(4), stock(MANY_BLOCKS)
#: Until that is there.
FILLING_S = 600.0


@dataclass(frozen=True)
class Parted:
    """What came of it. errors: of the three requests during which it was cut. level_s: from its end on."""

    cut: str
    errors: tuple[str, ...]
    level_s: float

    @property
    def acknowledged(self) -> int:
        """How many of the three were."""
        return 3 - len(self.errors)


class Partitions:
    """See the module. One subject, "known", stays."""

    def __init__(self, world: World, relays: Relays) -> None:
        self._world, self._relays = world, relays
        self._rng = np.random.default_rng(12)
        self._known, self._stranger = unit(self._rng, 2, PARAMETERS.dimension)
        self._number = 0
        self._pairs = list(PAIRS)
        with self._client() as client:
            client.enrol_embedding("known", self._known, model="toy")

    def during(self, cut: str, after_s: float) -> Parted:
        """Cut so long after three requests have begun; check what must hold, heal, and check again."""
        # The pair that is cut apart is tried first, or one with the organisation that is alone.
        self._pairs = sorted(PAIRS, key=lambda pair: not set(cut.split()[1]) - {"|"} <= set(pair))
        new, old, newer = (f"{what}-{self._number}" for what in ("new", "old", "newer"))
        self._number += 1
        faces = dict(zip((new, old, newer), unit(self._rng, 3, PARAMETERS.dimension), strict=True))
        enrolment, erasure = new_token(), new_token()
        with self._client() as client:
            client.enrol_embedding(old, faces[old], model="toy")
        with self._client() as first, self._client() as second, self._client() as third, ThreadPoolExecutor(3) as pool:
            requests = [
                pool.submit(_tried, lambda: first.enrol_embedding(new, faces[new], model="toy", token=enrolment)),
                pool.submit(_tried, lambda: second.erase(old, token=erasure)),
                pool.submit(_tried, lambda: self._look(third)),
            ]
            time.sleep(after_s)
            self._cut(cut)
            try:
                errors = [request.result() for request in requests]
                enrolled, erased, _ = (error is None for error in errors)
                # A device that knows what it has lost, and one that has just started.
                self._serves(first, {new} if enrolled else set(), {old} if erased else set())
                with self._client() as client:
                    if not enrolled:
                        client.enrol_embedding(new, faces[new], model="toy", token=enrolment)
                    if not erased:
                        assert client.erase(old, token=erasure).templates == 1
                    client.enrol_embedding(newer, faces[newer], model="toy")
                    self._serves(client, {new, newer}, {old})
            finally:
                self._relays.heal()
        level_s = wait_level(self._world.directory)
        for pair in PAIRS:
            with self._client(pairs=[pair]) as client:
                self._serves(client, {new, newer}, {old})
                for name in (new, newer):
                    assert client.verify_embedding(name, faces[name], model="toy").decision
                    assert not client.verify_embedding(name, self._stranger, model="toy").decision
        self._pairs = list(PAIRS)
        with self._client() as client:
            for name in (new, newer):
                assert client.erase(name).templates == 1
        return Parted(cut, tuple(error for error in errors if error is not None), level_s)

    def _cut(self, cut: str) -> None:
        kind, who = cut.split()
        if kind == "organisation":
            self._relays.isolate([f"matcher-{who}", f"keyholder-{who}"])
        else:
            self._relays.cut(*(f"{kind}-{party}" for party in who.split("|")))

    def _serves(self, client: Client, there: set[str], gone: set[str]) -> None:
        self._look(client)
        subjects = {entry.subject: entry.templates for entry in client.subjects()}
        assert all(subjects.get(name) == 1 for name in there), "an acknowledged enrolment is lost, or there twice"
        assert not gone & set(subjects), "an acknowledged erasure is lost"
        for name in gone:
            try:
                client.verify_embedding(name, self._known, model="toy")
                raise AssertionError("somebody who was erased is compared with")
            except UnknownSubjectError:
                pass

    def _look(self, client: Client) -> None:
        assert client.verify_embedding("known", self._known, model="toy").decision, "a wrong decision"
        assert not client.verify_embedding("known", self._stranger, model="toy").decision, "a wrong decision"

    def _client(self, **changes: Any) -> Client:
        return self._world.client(**{"timeout_s": DEVICE_TIMEOUT_S, "pairs": self._pairs} | changes)


def _tried(ask: Callable[[], object]) -> str | None:
    """Return None if it was acknowledged, else the error."""
    try:
        ask()
    except VeilmatchError as error:
        return f"{error.code}: {error.claim}"
    return None


@contextmanager
def partitions(directory: Path, dealt: dict[str, str] = FEW) -> Iterator[Partitions]:
    """Run an installation whose network can be cut, with one subject. dealt: settings of its stock."""
    hold_ceremony(directory, PARAMETERS)
    patience = {"VEILMATCH_PEER_TIMEOUT_S": str(PEER_TIMEOUT_S)}
    with Relays(directory) as relays, supervised(directory, ENVIRONMENT | patience | dealt) as parties:
        parties.start()
        parties.wait_ready()
        world = World(directory, PARAMETERS, parties)
        settle(world, FILLING_S)
        yield Partitions(world, relays)
