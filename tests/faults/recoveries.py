"""New shares of the key while one of the three dies at the n-th message: all three have them, or nobody uses any.

A run: the daemons of the key holders are stopped, c's machine is lost (or nobody's: `--renew`), the command begins at
all three, and one is killed. Whoever goes on says what came of it. Then the same command at all three finishes it, the
daemons are started, and every pair serves.
"""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.recovering import all_begun
from tests.e2e.world import ENVIRONMENT, KEY_HOLDERS, PASSPHRASE, World, hold_ceremony, settle, supervised
from tests.faults.harness import NEVER, PARAMETERS, PEER_TIMEOUT_S, Faults, Outcome
from tests.faults.inside import environment
from veilmatch.common.public_file import read_public_file
from veilmatch.crypto.keys.parties import PAIRS
from veilmatch.server.ceremony.meeting import Standing
from veilmatch.server.config import KeyHolderSettings
from veilmatch.server.installation.tls.renewing import renew
from veilmatch.server.recovery.keeping import FILE, Keeper
from veilmatch.server.recovery.recovering import keeper_of

#: What is done, and whether c has lost its machine.
KINDS = {"recover": True, "renew": False}
_DONE, _UNAVAILABLE = 0, 6
#: How long the other two wait for one that died before all three had met.
_WAIT_S = 30.0
_IN_USE = (Standing.KEPT, Standing.SETTLED)


class RecoveryFaults(Faults):
    """An installation whose key holders get new shares again and again."""

    def __init__(self, world: World, folder: Path, inside: dict[str, str]) -> None:
        super().__init__(world, folder)
        self._inside = dict.fromkeys(KEY_HOLDERS, inside)

    def messages_of(self, party: str, kind: str) -> int:
        """How many messages of such a recovery this key holder receives or sends as the one that is called."""
        self._stopped(kind)
        self.arm(party, NEVER)
        self._finished(kind)
        self.disarm(party)
        count = len(self.named(party))
        self._require_served()
        return count

    def kill_during_recovery(self, party: str, kind: str, at: int) -> Outcome:
        """Have one die at its message number `at`; check what must hold, finish it and check that all pairs serve.

        The outcome is answered if the other two have ended well all the same.
        """
        self._stopped(kind)
        before = max(self._epochs())
        self.arm(party, at)
        begun = all_begun(self.world, self._inside, lost=KINDS[kind], wait_s=_WAIT_S)
        ended = {name: one.ended() for name, one in begun.items()}
        self.disarm(party)
        seen, died = self.seen(party), ended[party][0] == -signal.SIGKILL
        where = seen if died else "not reached"
        standings = {name: self._standing(name, since=before) for name in KEY_HOLDERS}
        in_use = {name for name, one in standings.items() if one in _IN_USE}
        assert not in_use or Standing.NOTHING not in standings.values(), f"{party} at {where}: {standings}"
        others = {name: one for name, one in ended.items() if name != party or not died}
        for name, (status, document) in others.items():
            assert (status == _DONE) == (name in in_use), f"{party} at {where}: {name} ended with {status}, {standings}"
            if status != _DONE:
                error = document["error"]
                assert status == _UNAVAILABLE and error["message"], f"{party} at {where}: {name} ended with {document}"
                if standings[name] is not Standing.NOTHING:
                    assert "again at all three" in error["hint"], f"{party} at {where}: {error}"
        whole = all(status == _DONE and not document["unconfirmed"] for status, document in ended.values())
        if not whole:
            self._finished(kind)
        self._require_served()
        return Outcome(party, kind, where, died, all(status == _DONE for status, _ in others.values()))

    def _finished(self, kind: str) -> None:
        """Run it to its end, at all three."""
        ended = {
            name: one.ended() for name, one in all_begun(self.world, self._inside, lost=KINDS[kind]).items()
        }  # fmt: skip
        assert all(status == _DONE and not found["unconfirmed"] for status, found in ended.values()), ended

    def _stopped(self, kind: str) -> None:
        """Stop the key holders, and lose c's machine: another one has its files, but for share, data and TLS key."""
        for party in KEY_HOLDERS:
            self.world.parties.stop(party)
        if not KINDS[kind]:
            return
        folder = self.world.folder("keyholder-c")
        for path in (*folder.glob("share.key*"), *folder.glob(f"{FILE}*")):
            path.unlink()
        shutil.rmtree(folder / "data")
        (folder / "data").mkdir(mode=0o700)
        renew(self.world.directory, ["keyholder-c"], PASSPHRASE)

    def _require_served(self) -> None:
        """Start the daemons; all use one epoch, nothing is left to be finished, and each pair decides rightly."""
        self.world.restart()
        assert len(set(self._epochs())) == 1
        assert all(self._standing(party, since=0) is Standing.SETTLED for party in KEY_HOLDERS)
        for pair in PAIRS:
            with self.world.client(timeout_s=60.0, pairs=[pair]) as client:
                self._check(client)

    def _keeper(self, party: str) -> Keeper:
        settings = KeyHolderSettings.load(self.world.parties.config(party))
        return keeper_of(settings, read_public_file(settings.public_key))

    def _standing(self, party: str, *, since: int) -> Standing:
        """What a key holder has of a recovery after that epoch."""
        keeper = self._keeper(party)
        return Standing.NOTHING if keeper.seen is Standing.SETTLED and keeper.epoch <= since else keeper.seen

    def _epochs(self) -> list[int]:
        """The epochs of the shares in use."""
        return [self._keeper(party).epoch for party in KEY_HOLDERS]


@contextmanager
def recovery_faults(directory: Path) -> Iterator[RecoveryFaults]:
    """Run an installation whose key holders can be killed while they get new shares."""
    hold_ceremony(directory, PARAMETERS)
    folder = directory.parent / "faults"
    inside = environment(folder)
    patience = {"VEILMATCH_PEER_TIMEOUT_S": str(PEER_TIMEOUT_S)}
    with supervised(directory, ENVIRONMENT | patience | inside) as parties:
        parties.start()
        parties.wait_ready()
        world = World(directory, PARAMETERS, parties)
        settle(world)
        yield RecoveryFaults(world, folder, inside)
