"""One installation whose daemons can be made to die, or to hang, at the n-th message of a request; what came of it.

`Faults.kill_during` and `Faults.stop_during` do one request while one party dies, or hangs, in the middle of it, and
check everything that must hold then: no wrong decision before or after, what was acknowledged is there, what was not
can be repeated under its token and is done once, and the three matchers come to hold the same. Whoever hangs is missed
by nobody: all of it is so before it goes on.
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

from tests.e2e.world import ENVIRONMENT, EVERYBODY, KEY_HOLDERS, World, hold_ceremony, settle, supervised, unit
from tests.faults.inside import Arming, environment, write
from tests.faults.level import wait_level
from veilmatch.client.capture.quantiser import quantise
from veilmatch.client.client import Client
from veilmatch.client.operations import device
from veilmatch.client.wire.signing import new_token
from veilmatch.crypto.errors import ServerDeviationError, UnknownSubjectError, VeilmatchError
from veilmatch.crypto.keys.parties import PAIRS, Pair
from veilmatch.crypto.parameters import ParameterSet

PARAMETERS = ParameterSet(modulus_bits=1024)
#: More messages than any request has: counts them without a kill.
NEVER = 10**9
#: What the device waits for an answer. Parties wait less for each other (VEILMATCH_PEER_TIMEOUT_S).
DEVICE_TIMEOUT_S, PEER_TIMEOUT_S = 8.0, 2.0
#: Who was killed is gone by then.
GONE_S = 10.0
#: "refused" is an enrolment of a vector that is none.
OPERATIONS = ("verify", "enrol", "refused", "erase", "bulk")
#: Those that can be made to die: everybody.
PARTIES = EVERYBODY
#: The pairs that a device tries, in order, so that a party has a part in the request.
_ORDER: dict[str, list[Pair]] = {party: sorted(PAIRS, key=lambda pair: party[-1] not in pair) for party in PARTIES}


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
        self._pairs = list(PAIRS)
        with self.client() as client:
            client.enrol_embedding("known", self._known, model="toy")

    def client(self) -> Client:
        """A device with a short time-out; it tries other pairs by itself."""
        return self.world.client(timeout_s=DEVICE_TIMEOUT_S, pairs=self._pairs)

    def client_of(self, party: str) -> Client:
        """The same, which tries the pairs first that this party is in."""
        return self.world.client(timeout_s=DEVICE_TIMEOUT_S, pairs=_ORDER[party])

    def face(self, *, genuine: bool) -> np.ndarray:
        """The face that is enrolled as "known", or a stranger's."""
        return self._known if genuine else self._stranger

    def messages(self, party: str, operation: str) -> int:
        """How many messages of such a request this party receives or answers."""
        return len(self.names(party, operation))

    def names(self, party: str, operation: str) -> list[str]:
        """What each of them is, in order."""
        self._pairs = _ORDER[party]
        self._do(operation, lambda: self.arm(party, NEVER), lambda: self.disarm(party))
        return self.named(party)

    def kill_during(self, party: str, operation: str, at: int) -> Outcome:
        """Do a request while the party dies at its message number `at`; restart it and check what must hold."""
        where = "not reached"
        self._pairs = _ORDER[party]

        def recover() -> None:
            nonlocal where
            self.disarm(party)
            seen = self.seen(party)
            if seen and int(seen.split()[0]) == at:
                where = seen
                self.restart(party)

        answered = self._do(operation, lambda: self.arm(party, at), recover)
        wait_level(self.world.directory)
        return Outcome(party, operation, where, where != "not reached", answered)

    def stop_during(self, party: str, operation: str, at: int) -> Outcome:
        """Do a request while the party hangs at its message number `at`; check what must hold, and let it go on."""
        where = "not reached"
        self._pairs = _ORDER[party]

        def look() -> None:
            nonlocal where
            self.disarm(party)
            seen = self.seen(party)
            if seen and int(seen.split()[0]) == at:
                where = seen

        try:
            answered = self._do(operation, lambda: self.arm(party, at, how=signal.SIGSTOP), look)
        finally:
            self.disarm(party)
            os.killpg(self.world.parties.pid(party), signal.SIGCONT)
        wait_level(self.world.directory)
        with self.client() as client:
            self._check(client)
        return Outcome(party, operation, where, where != "not reached", answered)

    def kill_after(self, party: str, operation: str, after_s: float) -> Outcome:
        """The same as `kill_during` for one outside the first pair, which takes no part: it dies at a time."""
        self._pairs = list(PAIRS)
        timer = threading.Timer(after_s, os.killpg, (self.world.parties.pid(party), signal.SIGKILL))

        def recover() -> None:
            timer.join()
            self.restart(party)

        answered = self._do(operation, timer.start, recover)
        wait_level(self.world.directory)
        return Outcome(party, operation, f"after {after_s:.3f} s", True, answered)

    # -- requests ---------------------------------------------------------------------------------

    def _do(self, operation: str, arm: Callable[[], None], recover: Callable[[], None]) -> bool:
        """Do a request, recover, check with a device that has just started; return whether it was answered.

        arm: called right before the request.
        """
        doing = {
            "verify": self._verify, "enrol": self._enrol, "refused": self._enrol_invalid, "erase": self._erase,
            "bulk": self._bulk,
        }  # fmt: skip
        return doing[operation](arm, recover)

    def _verify(self, arm: Callable[[], None], recover: Callable[[], None]) -> bool:
        genuine, answered = bool(self._rng.integers(2)), True
        arm()
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

    def _enrol(self, arm: Callable[[], None], recover: Callable[[], None]) -> bool:
        (name,), (face,), token = *self._people(1), new_token()
        arm()
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

    def _enrol_invalid(self, arm: Callable[[], None], recover: Callable[[], None]) -> bool:
        """Enrol a vector that is none, as a device with another quantiser would: only the device learns of it."""
        (name,), (face,), token, told = *self._people(1), new_token(), False
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(device, "quantise", lambda x, parameters: 10 * quantise(x, parameters))
            arm()
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

    def _erase(self, arm: Callable[[], None], recover: Callable[[], None]) -> bool:
        (name,), (face,), token, acknowledged = *self._people(1), new_token(), True
        with self.client() as client:
            client.enrol_embedding(name, face, model="toy")
        arm()
        with self.client() as client:
            try:
                assert client.erase(name, token=token).templates == 1
            except VeilmatchError:
                acknowledged = False
        recover()
        with self.client() as client:
            if acknowledged:
                assert name not in self._subjects(client), "an acknowledged erasure is lost"
            else:
                assert client.erase(name, token=token).templates == 1
            with pytest.raises(UnknownSubjectError):
                client.verify_embedding(name, face, model="toy")
            self._check(client)
        return acknowledged

    def _bulk(self, arm: Callable[[], None], recover: Callable[[], None]) -> bool:
        names, faces, token, acknowledged = *self._people(2), new_token(), True
        people = list(zip(names, faces, strict=True))
        arm()
        with self.client() as client:
            try:
                client.enrol_many_embeddings(people, model="toy", token=token)
            except VeilmatchError:
                acknowledged = False
        recover()
        with self.client() as client:
            if not acknowledged:
                client.enrol_many_embeddings(people, model="toy", token=token)
            there = self._subjects(client)
            assert [there.get(name) for name in names] == [1, 1], "lost, or enrolled twice"
            assert client.verify_embedding(names[0], faces[0], model="toy").decision
            assert not client.verify_embedding(names[1], faces[0], model="toy").decision
            for name in names:
                assert client.erase(name).templates == 1
            self._check(client)
        return acknowledged

    def _people(self, count: int) -> tuple[list[str], np.ndarray]:
        """Names that nobody had before, and as many faces."""
        names = [f"p{self._enrolled + i}" for i in range(count)]
        self._enrolled += count
        return names, unit(self._rng, count, PARAMETERS.dimension)

    def _check(self, client: Client) -> None:
        assert client.verify_embedding("known", self._known, model="toy").decision
        assert not client.verify_embedding("known", self._stranger, model="toy").decision

    @staticmethod
    def _subjects(client: Client) -> dict[str, int]:
        return {entry.subject: entry.templates for entry in client.subjects()}

    # -- killing ----------------------------------------------------------------------------------

    def arm(
        self, party: str, at: int, *, how: signal.Signals = signal.SIGKILL, following: bool = False, only: str = ""
    ) -> None:
        """Let a party be sent a signal at its message number `at` from now on; see Arming for which are counted."""
        self._armings += 1
        write(self._folder / f"{party}.armed", Arming(f"arming-{self._armings}", at, how.name, following, only))

    def disarm(self, party: str) -> None:
        """Let nothing more be counted."""
        (self._folder / f"{party}.armed").unlink(missing_ok=True)

    def seen(self, party: str) -> str:
        """Number, direction and kind of the last message since it was armed; "" for none. It is said once."""
        counted = self._folder / f"{party}.count"
        text = counted.read_text() if counted.exists() else ""
        counted.unlink(missing_ok=True)
        return text

    def named(self, party: str) -> list[str]:
        """What the messages were that it has counted since it was armed."""
        return (self._folder / f"{party}.names").read_text().split() if self.seen(party) else []

    def restart(self, party: str) -> None:
        """Start a party that was killed, and wait until all is as before."""
        deadline = time.monotonic() + GONE_S
        while self.world.parties.alive(party):  # it was killed, and has still to go
            assert time.monotonic() < deadline, f"{party} was to be killed, and runs"
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
def faults(directory: Path, filling_s: float = 90.0, **more: str) -> Iterator[Faults]:
    """Run an installation that can be killed, with one subject. more: of the daemons' environment.

    filling_s: how long it may take until there is all stock that they are to keep.
    """
    hold_ceremony(directory, PARAMETERS)
    folder = directory.parent / "faults"
    patience = {"VEILMATCH_PEER_TIMEOUT_S": str(PEER_TIMEOUT_S)}
    with supervised(directory, ENVIRONMENT | patience | environment(folder) | more) as parties:
        parties.start()
        parties.wait_ready()
        world = World(directory, PARAMETERS, parties)
        settle(world, filling_s)
        yield Faults(world, folder)


def moments(messages: int, runs: int) -> list[int]:
    """Return `runs` message numbers from 1 to `messages`, evenly: each of them if there are enough runs."""
    return [1 + i * messages // runs for i in range(runs)]
