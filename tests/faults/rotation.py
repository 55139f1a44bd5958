"""A rotation during which a party dies at the n-th message; whatever came of it, repeating it brings it to its end."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from tests.e2e.world import ENVIRONMENT, MATCHERS, World, hold_ceremony, settle, supervised
from tests.faults.harness import PARAMETERS, PEER_TIMEOUT_S, Faults, Outcome
from tests.faults.inside import environment
from tests.faults.level import LEVEL_S, wait_level
from veilmatch.crypto.encryption.public_key_format import PublicFile
from veilmatch.crypto.errors import VeilmatchError
from veilmatch.server.installation.plan import config_of, folder_of


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

    def finish_rotation(self) -> int:
        """Rotate to the end; return how many templates are there."""
        return self._rotate("matcher-a")

    def kill_during_rotation(self, party: str, at: int) -> Outcome:
        """Rotate while the party dies at its message number `at`, and check what must hold; then `give_up`."""
        self.arm(party, at)
        answered, where = False, "not reached"
        with suppress(VeilmatchError):
            self._rotate(party)
            answered = True
        self.disarm(party)
        seen = self.seen(party)
        if seen and int(seen.split()[0]) == at:
            where = seen
            self.restart(party)
        with self.client() as client:
            self._check(client)
        assert self.finish_rotation() == 1
        wait_level(self._new)
        deadline = time.monotonic() + LEVEL_S
        # Who follows marks its file as complete a moment after the last change.
        while any(self._state(matcher)[2] != b"veil" for matcher in MATCHERS) and time.monotonic() < deadline:
            time.sleep(0.05)
        for matcher in MATCHERS:
            sequence, accepted, owner, templates = self._state(matcher)
            assert (sequence, accepted) == (2, None), "a step was done twice, or it is not finished"
            assert (owner, templates) == (b"veil", 1), (
                f"{matcher}: {owner!r}, {templates} templates; {party} at {where}"
            )
        return Outcome(party, "rotate", where, where != "not reached", answered)

    def give_up(self) -> None:
        """Delete the new galleries; the old one can be changed again."""
        for party in MATCHERS:
            self.world.parties.stop(party)
            shutil.rmtree(self._new / folder_of(party) / "data")
        self.world.restart()

    def _rotate(self, party: str) -> int:
        with self.client_of(party) as client:
            return client.rotate(self._key_id, timeout_s=8.0).templates

    def _state(self, party: str) -> tuple[int, bytes | None, bytes, int]:
        """Sequence number, what is accepted, whose file it is, and number of templates."""
        with closing(sqlite3.connect(self._new / folder_of(party) / "data" / "gallery.db")) as database:
            ((sequence, accepted),) = database.execute("SELECT sequence, accepted_chain FROM galleries").fetchall()
            ((application_id,),) = database.execute("PRAGMA application_id").fetchall()
            ((templates,),) = database.execute("SELECT count(*) FROM templates").fetchall()
            return sequence, accepted, application_id.to_bytes(4, "big"), templates


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
