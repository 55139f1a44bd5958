"""A rotation during which a party dies at the n-th message; whatever came of it, repeating it brings it to its end."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from tests.e2e.world import ENVIRONMENT, World, hold_ceremony, settle
from tests.faults.harness import NEVER, PARAMETERS, PEER_TIMEOUT_S, Faults, Outcome
from tests.faults.inside import environment
from veilmatch.crypto.encryption.public_key_format import PublicFile
from veilmatch.crypto.errors import VeilmatchError
from veilmatch.server.supervisor import Supervisor

MATCHERS = ("matcher-a", "matcher-b")


class RotationFaults(Faults):
    """A gallery of one template, and a second ceremony to rotate it to, again and again."""

    def __init__(self, world: World, folder: Path, new: Path) -> None:
        super().__init__(world, folder)
        self._new = new
        self._key_id = PublicFile.decode((new / "public.json").read_bytes()).public_key.key_id

    def messages_of_a_rotation(self, party: str) -> int:
        """How many messages of a whole rotation this party receives or answers."""
        self._arm(party, NEVER)
        self._rotate()
        self._disarm(party)
        seen = self._seen(party)
        self.give_up()
        return int(seen.split()[0])

    def names_of_a_rotation(self, party: str) -> list[str]:
        """What each message of a whole rotation is that this party receives or answers, in order."""
        self._arm(party, NEVER)
        self._rotate()
        self._disarm(party)
        self._seen(party)
        self.give_up()
        return (self._folder / f"{party}.names").read_text().split()

    def kill_in_rotation(self, party: str, at: int) -> bool:
        """Rotate while the party dies at its message number `at`, and start it again; return whether it died."""
        self._arm(party, at)
        with suppress(VeilmatchError):
            self._rotate()
        self._disarm(party)
        died = self._seen(party).startswith(f"{at} ")
        self._restart(party)
        return died

    def finish_rotation(self) -> int:
        """Rotate to the end; return how many templates are there."""
        return self._rotate()

    def kill_during_rotation(self, party: str, at: int) -> Outcome:
        """Rotate while the party dies at its message number `at`, and check what must hold; then `give_up`."""
        self._arm(party, at)
        answered, where = False, "not reached"
        with suppress(VeilmatchError):
            self._rotate()
            answered = True
        self._disarm(party)
        seen = self._seen(party)
        if seen and int(seen.split()[0]) == at:
            where = seen
            self._restart(party)
        with self.client() as client:
            self._check(client)
        assert self._rotate() == 1
        states = [self._state(party) for party in MATCHERS]
        assert states[0] == states[1], "two galleries under the new key"
        assert states[0][0] == 2 and states[0][3:] == (b"veil", 1), "a step was done twice, or it is not finished"
        return Outcome(party, "rotate", where, where != "not reached", answered)

    def give_up(self) -> None:
        """Delete the new galleries; the old one can be changed again."""
        for party in MATCHERS:
            self.world.parties.stop(party)
            shutil.rmtree(self._new / party / "data")
        self.world.restart()

    def _rotate(self) -> int:
        with self.client() as client:
            return client.rotate(self._key_id, timeout_s=8.0).templates

    def _state(self, party: str) -> tuple[object, ...]:
        """Sequence number, chain, what is pending, whose file it is, and number of templates."""
        with closing(sqlite3.connect(self._new / party / "data" / "gallery.db")) as database:
            (gallery,) = database.execute("SELECT sequence, chain, pending_chain FROM galleries").fetchall()
            ((application_id,),) = database.execute("PRAGMA application_id").fetchall()
            ((templates,),) = database.execute("SELECT count(*) FROM templates").fetchall()
            return (*gallery, application_id.to_bytes(4, "big"), templates)


@contextmanager
def rotation_faults(directory: Path) -> Iterator[RotationFaults]:
    """Run an installation that can be killed, configured to rotate to a second one."""
    hold_ceremony(directory / "old", PARAMETERS)
    hold_ceremony(directory / "new", PARAMETERS)
    for party in MATCHERS:
        new = directory / "new" / party
        config = directory / "old" / party / "matcher.toml"
        rotation = f'\n[rotation]\npublic_key = "{new / "public.json"}"\ndata_dir = "{new / "data"}"\n'
        config.write_text(config.read_text() + rotation)
    folder = directory / "faults"
    patience = {"VEILMATCH_PEER_TIMEOUT_S": str(PEER_TIMEOUT_S)}
    with Supervisor(directory / "old", ENVIRONMENT | patience | environment(folder)) as parties:
        parties.start()
        parties.wait_ready()
        world = World(directory / "old", PARAMETERS, parties)
        settle(world)
        yield RotationFaults(world, folder, directory / "new")
