"""A rotation during which a party dies, or hangs, at the n-th message; repeating it brings it to its end.

The two organisations that are left end it while one hangs; who hung has then to follow into the new gallery.
"""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from tests.e2e.world import ENVIRONMENT, MATCHERS, World, hold_ceremony, settle, supervised
from tests.faults.harness import NEVER, PARAMETERS, PEER_TIMEOUT_S, Faults, Outcome
from tests.faults.inside import environment
from tests.faults.level import LEVEL_S, wait_level
from veilmatch.crypto.encryption.public_key_format import PublicFile
from veilmatch.crypto.errors import VeilmatchError
from veilmatch.server.installation.plan import config_of, folder_of

_NOT_REACHED = "not reached"


class RotationFaults(Faults):
    """A gallery of one template, and a second ceremony to rotate it to, again and again."""

    def __init__(self, world: World, folder: Path, new: Path) -> None:
        super().__init__(world, folder)
        self._new = new
        self._key_id = PublicFile.decode((new / "public.json").read_bytes()).public_key.key_id

    def kill_in_rotation(self, party: str, at: int, only: str = "") -> bool:
        """Rotate while the party dies at message `at` of those named `only`, and start it again; whether it died."""
        self.arm(party, at, only=only)
        with suppress(VeilmatchError):
            self._rotate(party)
        self.disarm(party)
        died = self.seen(party).startswith(f"{at} ")
        if died:
            self.restart(party)
        return died

    def messages_of(self, party: str) -> int:
        """How many messages of a whole rotation this party receives or answers; then `give_up`."""
        self.arm(party, NEVER)
        self._rotate(party)
        self.disarm(party)
        return len(self.named(party))

    def finish_rotation(self, party: str = "matcher-a") -> int:
        """Rotate to the end, by a pair with this party first; return how many templates are there."""
        return self._rotate(party)

    def kill_during_rotation(self, party: str, at: int) -> Outcome:
        """Rotate while the party dies at its message number `at`, and check what must hold; then `give_up`."""
        answered, where = self._struck(party, at, signal.SIGKILL)
        if where != _NOT_REACHED:
            self.restart(party)
        self._check_finished(party, where, "matcher-a")
        return Outcome(party, "rotate", where, where != _NOT_REACHED, answered)

    def stop_during_rotation(self, party: str, at: int) -> Outcome:
        """The same while it hangs at that message: the others end the rotation before it goes on."""
        try:
            answered, where = self._struck(party, at, signal.SIGSTOP)
            left = [matcher for matcher in MATCHERS if matcher[-1] != party[-1]]
            self._check_finished(party, where, left[0], left)
        finally:
            self.disarm(party)
            os.killpg(self.world.parties.pid(party), signal.SIGCONT)
        self._check_level(party, where, MATCHERS)
        return Outcome(party, "rotate", where, where != _NOT_REACHED, answered)

    def _struck(self, party: str, at: int, how: signal.Signals) -> tuple[bool, str]:
        """Rotate while the party is sent a signal; return whether that was answered, and at which message."""
        self.arm(party, at, how=how)
        answered = False
        with suppress(VeilmatchError):
            self._rotate(party)
            answered = True
        self.disarm(party)
        seen = self.seen(party)
        return answered, seen if seen and int(seen.split()[0]) == at else _NOT_REACHED

    def _check_finished(self, party: str, where: str, by: str, matchers: Sequence[str] = MATCHERS) -> None:
        """Check that requests are answered, and that a pair with `by` brings the rotation to its end."""
        with self.client_of(by) as client:
            self._check(client)
        assert self.finish_rotation(by) == 1
        self._check_level(party, where, matchers)

    def _check_level(self, party: str, where: str, matchers: Sequence[str]) -> None:
        """Check that these matchers come to hold the new gallery, whole, with each step done once."""
        wait_level(self._new, matchers)
        deadline = time.monotonic() + LEVEL_S
        # Who follows marks its file as complete a moment after the last change.
        while any(self._state(matcher)[2] for matcher in matchers) and time.monotonic() < deadline:
            time.sleep(0.05)
        for matcher in matchers:
            sequence, accepted, rotating, templates = self._state(matcher)
            assert (sequence, accepted) == (2, None), "a step was done twice, or it is not finished"
            assert (rotating, templates) == (False, 1), (
                f"{matcher}: rotating {rotating}, {templates} templates; {party} at {where}"
            )

    def give_up(self) -> None:
        """Delete the new galleries; the old one can be changed again."""
        for party in MATCHERS:
            self.world.parties.stop(party)
            shutil.rmtree(self._new / folder_of(party) / "data")
        self.world.restart()

    def _rotate(self, party: str) -> int:
        with self.client_of(party) as client:
            return client.rotate(self._key_id, timeout_s=8.0).templates

    def _state(self, party: str) -> tuple[int, bytes | None, bool, int]:
        """Sequence number, what is accepted, whether it is still being filled, and number of templates."""
        with closing(sqlite3.connect(self._new / folder_of(party) / "data" / "gallery.db")) as database:
            ((sequence, accepted),) = database.execute("SELECT sequence, accepted_chain FROM galleries").fetchall()
            ((rotating,),) = database.execute("SELECT rotating FROM identity").fetchall()
            ((templates,),) = database.execute("SELECT count(*) FROM templates").fetchall()
            return sequence, accepted, bool(rotating), templates


@contextmanager
def rotation_faults(directory: Path) -> Iterator[RotationFaults]:
    """Run an installation that can be killed, configured to rotate to a second one."""
    hold_ceremony(directory / "old", PARAMETERS)
    hold_ceremony(directory / "new", PARAMETERS)
    for party in MATCHERS:
        new = directory / "new" / folder_of(party)
        config = config_of(directory / "old", party)
        rotation = f'\n[rotation]\npublic_key = "{new / "public.json"}"\ndata_dir = "{new / "data"}"\n'
        config.write_text(config.read_text() + rotation)
    folder = directory / "faults"
    patience = {"VEILMATCH_PEER_TIMEOUT_S": str(PEER_TIMEOUT_S)}
    with supervised(directory / "old", ENVIRONMENT | patience | environment(folder)) as parties:
        parties.start()
        parties.wait_ready()
        world = World(directory / "old", PARAMETERS, parties)
        settle(world)
        yield RotationFaults(world, folder, directory / "new")
