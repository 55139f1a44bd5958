"""How a key comes to be on the disks of all three key holders or of none, whenever one of them is killed.

Until all three have a key nobody writes anything. Then each writes its whole installation beside its place, *pending*,
and says so; who has heard so of both others gives it its place, *kept*. So while one has nothing nobody has kept
anything, and the pending ones can go; and if all three have it, pending or kept, whoever has it pending may keep it.
Which of the two it is they find out by beginning again: the first thing that key holders of a ceremony tell each other
is what they have (`decide`).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path

from veilmatch.crypto.errors import ConfigurationError, IntegrityError
from veilmatch.crypto.keys.parties import PARTIES, Party
from veilmatch.server.ceremony.meeting import Greeting, Standing
from veilmatch.server.ceremony.record import FILE, CeremonyRecord
from veilmatch.server.installation.files import appearing, sync_folder

#: In words.
STANDINGS = {
    Standing.NOTHING: "nothing",
    Standing.PENDING: "a key that not all three are known to have",
    Standing.KEPT: "an installation",
}


class Decision(Enum):
    """What the three do, given what they have."""

    HOLD = "hold a ceremony"
    FINISH = "finish the one before"


class Keeper:
    """The two places of one key holder. installation: where the result goes; pending: where it waits."""

    def __init__(self, installation: Path, pending: Path) -> None:
        self.installation, self._pending = installation, pending

    def greeting(self, agreement: bytes) -> Greeting:
        """Return what this key holder has. Raises ConfigurationError if its place is taken by something else."""
        for standing, folder in ((Standing.KEPT, self.installation), (Standing.PENDING, self._pending)):
            if (folder / FILE).exists():
                return Greeting(agreement, standing, CeremonyRecord.read(folder / FILE).session)
            if folder.is_dir() and any(folder.iterdir()):
                raise ConfigurationError(
                    "the place of the installation is taken", got=str(folder), expected="no folder, or an empty one"
                )
        return Greeting(agreement, Standing.NOTHING)

    def write_pending(self, write: Callable[[Path], None]) -> None:
        """Have an installation written; it appears complete or not at all. Raises ConfigurationError."""
        with appearing(self._pending) as partial:
            write(partial)

    def keep(self) -> None:
        """Give what is pending its place; nothing if it has it. Raises ConfigurationError."""
        if not (self._pending / FILE).exists():
            return
        try:
            self._pending.rename(self.installation)  # an empty folder there is replaced
            sync_folder(self.installation.parent)
        except OSError as error:
            raise ConfigurationError(
                "the installation cannot be given its place", got=f"{self.installation}: {error.strerror}",
                expected=f"the folder {self._pending.name} renamed to {self.installation.name}",
            ) from None  # fmt: skip

    def discard(self) -> bool:
        """Remove what is pending: not all three have it. Return whether there was anything. Raises ConfigurationError.

        The record goes first: without it nothing is taken for a key.
        """
        cut_off = list(self._pending.parent.glob(f".{self._pending.name}.*"))  # see files.appearing
        found = self._pending.exists()
        try:
            for folder in cut_off:
                shutil.rmtree(folder)
            if found:
                (self._pending / FILE).unlink(missing_ok=True)
                sync_folder(self._pending)
                shutil.rmtree(self._pending)
        except OSError as error:
            raise ConfigurationError(
                "what is left of an earlier ceremony cannot be removed", got=f"{self._pending}: {error.strerror}"
            ) from None
        return found or bool(cut_off)


def decide(greetings: Mapping[Party, Greeting]) -> Decision:
    """Return what to do, given what all three have: the same at all of them.

    Raises IntegrityError if one has kept a key that another one has nothing of: a disk was lost, or one of them lies.
    """
    sessions = {party: greeting.session for party, greeting in greetings.items()}
    if len(set(sessions.values())) == 1 and all(one.standing is not Standing.NOTHING for one in greetings.values()):
        return Decision.FINISH
    kept = [party for party in PARTIES if greetings[party].standing is Standing.KEPT]
    if not kept:
        return Decision.HOLD
    without = [party for party in PARTIES if sessions[party] != sessions[kept[0]]]
    raise IntegrityError(
        f"keyholder-{kept[0]} has kept a key that keyholder-{without[0]} does not have",
        party=f"keyholder-{without[0]}",
        expected="the same key at all three, or none",
        hint="If that installation was lost, restore it from its backup. If the key was never used, move the folder of"
        " the installation away at all that have one, and begin again at all three.",
    )  # fmt: skip
