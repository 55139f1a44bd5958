"""One installation whose daemons can be made to die at the n-th message of a request; what came of it.

`Faults.query` and `Faults.enrolment` do one request, kill one party in the middle of it, start the party again, and
check everything that must hold then: no wrong decision before or after, both matchers agree, what was acknowledged is
there, what was not can be repeated under its token and is there once.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.world import ENVIRONMENT, EVERYBODY, KEY_HOLDERS, World, hold_ceremony, settle, unit
from tests.faults.inside import environment
from veilmatch.client import device
from veilmatch.client.capture.quantiser import quantise
from veilmatch.client.client import Client
from veilmatch.client.wire.signing import new_token
from veilmatch.crypto.errors import ServerDeviationError, VeilmatchError
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.server.supervisor import Supervisor

PARAMETERS = ParameterSet(modulus_bits=1024)
#: More messages than any request has: counts them without a kill.
NEVER = 10**9
#: What the device waits for an answer. Parties wait less for each other (VEILMATCH_PEER_TIMEOUT_S).
DEVICE_TIMEOUT_S, PEER_TIMEOUT_S = 8.0, 2.0
#: The last one: an enrolment of a vector that is none.
OPERATIONS = ("verify", "enrol", "refused")
#: Those that take part in a request, unless one of them is down: key holder c deals.
PARTIES = tuple(party for party in EVERYBODY if party != "keyholder-c")


@dataclass(frozen=True)
class Outcome:
    """Of one request during which a party died. at: the message it died at; answered: the device got its answer."""

    party: str
    operation: str
    at: str
    died: bool
    answered: bool


class Faults:
    """See the module. Everybody is enrolled under the number of their face."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world = world
        self._folder = folder
        self._rng = np.random.default_rng(11)
        self._known, self._stranger = unit(self._rng, 2, PARAMETERS.dimension)
        self._enrolled = self._armings = 0
        with self.client() as client:
            client.enrol_embedding("known", self._known, model="toy")

    def client(self) -> Client:
        """A device with a short time-out; it tries other pairs by itself."""
        return self.world.client(timeout_s=DEVICE_TIMEOUT_S)

    def face(self, *, genuine: bool) -> np.ndarray:
        """The face that is enrolled as "known", or a stranger's."""
        return self._known if genuine else self._stranger

    def messages(self, party: str, operation: str) -> int:
        """How many messages of such a request this party receives or answers."""
        return len(self.names(party, operation))

    def names(self, party: str, operation: str) -> list[str]:
        """What each of them is, in order."""
        self._arm(party, NEVER)
        self._do(operation, lambda: self._disarm(party))
        named = self._folder / f"{party}.names"
        found = named.read_text().split() if self._seen(party) else []
        return found

    def kill_during(self, party: str, operation: str, at: int) -> Outcome:
        """Do a request while the party dies at its message number `at`; restart it and check what must hold."""
        self._arm(party, at)
        where = "not reached"

        def recover() -> None:
            nonlocal where
            self._disarm(party)
            seen = self._seen(party)
            if seen and int(seen.split()[0]) == at:
                where = seen
                self._restart(party)

        answered = self._do(operation, recover)
        return Outcome(party, operation, where, where != "not reached", answered)

    def kill_dealer_during(self, operation: str, after_s: float) -> Outcome:
        """The same for the key holder outside the pair, which takes no part in a request: it dies at a time."""
        dealer = "keyholder-c"
        timer = threading.Timer(after_s, os.killpg, (self.world.parties.pid(dealer), signal.SIGKILL))
        timer.start()

        def recover() -> None:
            timer.join()
            self._restart(dealer)

        answered = self._do(operation, recover)
        return Outcome(dealer, operation, f"after {after_s:.3f} s", True, answered)

    # -- requests ---------------------------------------------------------------------------------

    def _do(self, operation: str, recover: Callable[[], None]) -> bool:
        """Do a request, recover, check with a device that has just started; return whether it was answered."""
        return {"verify": self._verify, "enrol": self._enrol, "refused": self._enrol_invalid}[operation](recover)

    def _verify(self, recover: Callable[[], None]) -> bool:
        genuine, answered = bool(self._rng.integers(2)), True
        with self.client() as client:
            try:
                decision = client.verify_embedding("known", self.face(genuine=genuine), model="toy").decision
                assert decision == genuine, "a wrong decision"
            except VeilmatchError:
                answered = False
        recover()
        with self.client() as client:
            self._check(client)
        return answered

    def _enrol(self, recover: Callable[[], None]) -> bool:
        name, face, token = f"p{self._enrolled}", unit(self._rng, 1, PARAMETERS.dimension)[0], new_token()
        self._enrolled += 1
        acknowledged = True
        with self.client() as client:
            try:
                client.enrol_embedding(name, face, model="toy", token=token)
            except VeilmatchError:
                acknowledged = False
        recover()
        with self.client() as client:
            if acknowledged:
                assert name in self._subjects(client), "an acknowledged enrolment is lost"
            else:
                client.enrol_embedding(name, face, model="toy", token=token)
            assert self._subjects(client)[name] == 1, "enrolled twice"
            assert client.verify_embedding(name, face, model="toy").decision
            assert not client.verify_embedding(name, self._stranger, model="toy").decision
            assert client.erase(name).templates == 1
            self._check(client)
        return acknowledged

    def _enrol_invalid(self, recover: Callable[[], None]) -> bool:
        """Enrol a vector that is none, as a device with another quantiser would: only the device learns of it."""
        name, face, token, told = f"p{self._enrolled}", unit(self._rng, 1, PARAMETERS.dimension)[0], new_token(), False
        self._enrolled += 1
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(device, "quantise", lambda x, parameters: 10 * quantise(x, parameters))
            with self.client() as client:
                try:
                    client.enrol_embedding(name, face, model="toy", token=token)
                    raise AssertionError("an invalid vector was enrolled")
                except ServerDeviationError:
                    told = True
                except VeilmatchError:
                    pass
            recover()
            with self.client() as client, pytest.raises(ServerDeviationError):
                client.enrol_embedding(name, face, model="toy", token=token)
        with self.client() as client:
            assert self._subjects(client)[name] == 1, "one empty template, however often it was asked for"
            assert not client.verify_embedding(name, face, model="toy").decision
            assert client.take_back(name, token).templates == 1
            assert name not in self._subjects(client)
            self._check(client)
        return told

    def _check(self, client: Client) -> None:
        assert client.verify_embedding("known", self._known, model="toy").decision
        assert not client.verify_embedding("known", self._stranger, model="toy").decision

    @staticmethod
    def _subjects(client: Client) -> dict[str, int]:
        return {entry.subject: entry.templates for entry in client.subjects()}

    # -- killing ----------------------------------------------------------------------------------

    def _arm(self, party: str, at: int) -> None:
        partial = self._folder / f"{party}.arming"
        self._armings += 1
        partial.write_text(f"{at} arming-{self._armings}")
        partial.rename(self._folder / f"{party}.armed")

    def _disarm(self, party: str) -> None:
        (self._folder / f"{party}.armed").unlink(missing_ok=True)

    def _seen(self, party: str) -> str:
        """Number, direction and kind of the last message since it was armed; "" for none."""
        counted = self._folder / f"{party}.count"
        text = counted.read_text() if counted.exists() else ""
        counted.unlink(missing_ok=True)
        return text

    def _restart(self, party: str) -> None:
        while self.world.parties.alive(party):  # it was killed, and has still to go
            time.sleep(0.01)
        self.world.restart()

    # -- stock ------------------------------------------------------------------------------------

    def reserved(self) -> int:
        """Return how many ranges of stock were handed out; asserts that no index was, twice, at any key holder."""
        total = 0
        for party in KEY_HOLDERS:
            spans: dict[tuple[str, ...], list[tuple[int, int]]] = defaultdict(list)
            for line in (self._folder / f"{party}.reserved").read_text().splitlines():
                *stock, start, stop = line.split()
                spans[tuple(stock)].append((int(start), int(stop)))
            for stock, found in spans.items():
                total += len(found)
                for (_, stop), (start, _) in pairwise(sorted(found)):
                    assert stop <= start, f"{party} handed out index {start} of {stock} twice"
        return total


@contextmanager
def faults(directory: Path, **more: str) -> Iterator[Faults]:
    """Run an installation that can be killed, with one subject. more: of the daemons' environment."""
    hold_ceremony(directory, PARAMETERS)
    folder = directory.parent / "faults"
    patience = {"VEILMATCH_PEER_TIMEOUT_S": str(PEER_TIMEOUT_S)}
    with Supervisor(directory, ENVIRONMENT | patience | environment(folder) | more) as parties:
        parties.start()
        parties.wait_ready()
        world = World(directory, PARAMETERS, parties)
        settle(world)
        yield Faults(world, folder)


def moments(messages: int, runs: int) -> list[int]:
    """Return `runs` message numbers from 1 to `messages`, evenly: each of them if there are enough runs."""
    return [1 + i * messages // runs for i in range(runs)]
