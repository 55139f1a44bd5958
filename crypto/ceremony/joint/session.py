"""One party's session of a joint ceremony (session.py): from nothing to a key."""

from __future__ import annotations

from veilmatch.crypto.ceremony.joint.sizes import Sizes
from veilmatch.crypto.ceremony.joint.steps import JointKey, ceremony_steps
from veilmatch.crypto.ceremony.seats import Reached
from veilmatch.crypto.ceremony.session import Session
from veilmatch.crypto.digests import digest
from veilmatch.crypto.keys.parties import Party
from veilmatch.crypto.parameters import ParameterSet

#: Grows with everything that makes parties of two versions not understand each other.
VERSION = 2


class CeremonySession(Session[JointKey]):
    """One party's side. What is told is compared before N is opened as well."""

    def __init__(self, party: Party, parameters: ParameterSet, reached: Reached | None = None) -> None:
        """reached: hears which part of the ceremony begins, for people who wait."""
        about = digest("ceremony", VERSION, parameters.name)
        super().__init__(party, about, lambda seat, told: ceremony_steps(seat, Sizes(parameters), told), reached)
