"""Versions of the protocol: what a party speaks, and what two of them have in common.

Every call between two parties begins with a hello of each (common/speaking.py): the newest and the oldest version that
it speaks, its release, and its features. The newest version that both speak is spoken; there is always one between
neighbouring releases, because each speaks the version before its own as well. Without one the call ends with a
VersionError. A party that says no hello is of version 1, which had none. docs/upgrading.md says what is promised.

A format that changes is a feature: it has a name here, and what it stood for before is its fallback, which is used with
whoever does not have it. docs/decisions/0048-versions-in-every-call.md.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from veilmatch.crypto.errors import ProtocolError, VersionError
from veilmatch.crypto.keys.parties import PARTIES, Party, pairs_without

#: What this code speaks. NEWEST is one more in a release that changes what goes over the wire; OLDEST follows it.
NEWEST, OLDEST = 2, 1
#: The version of whoever says no hello.
WITHOUT_HELLO = 1
#: Of the metadata that a call begins with, and of those that its answer begins with: a hello.
HELLO_KEY = "veilmatch-speaks"
#: Of a hello.
_MOST_CHARACTERS = 2048
_HELLO = re.compile(
    r"(?P<newest>[1-9][0-9]{0,3}) (?P<oldest>[1-9][0-9]{0,3}) (?P<release>[0-9A-Za-z.+!-]{1,40})"
    r"(?P<features>( [a-z][a-z0-9-]{0,31}){0,48})"
)


class Feature(StrEnum):
    """Formats that not every party has that we speak with. Each says what is used with one that does not have it."""

    VERSION_ERROR = "version-error"
    """Knows the error `version`. Without it: the same words, as error `unavailable`."""
    DATED_CHANGES = "dated-changes"
    """Knows changes that say when they were made. Without it: undated ones, without receipts and consents."""
    CARDS = "cards"
    """Knows records that people carry. Without it none is issued, presented or revoked: VersionError."""
    VIEWS = "views"
    """Takes several views of a face as one probe. Without it: a VersionError, as fewer views are another question."""
    UNLESS_KNOWN = "unless-known"
    """Enrols unless a face is known. Without it: a VersionError, as nothing else does both in one."""
    LIVENESS_VERDICTS = "liveness-verdicts"
    """Knows verdicts of liveness in requests, and certificates that demand them. Without it: none is sent."""
    DEVICE_BUDGETS = "device-budgets"
    """Tells a device what is left of its budgets. Without it: the error `version`, for this question alone."""


@dataclass(frozen=True, slots=True)
class Hello:
    """What a party says that it speaks. release: of the package, empty if it was not said; features: names, maybe of
    some that are not known here. How it is written never changes, whatever the version.
    """

    newest: int
    oldest: int
    release: str = ""
    features: frozenset[str] = frozenset()

    def write(self) -> str:
        """Return it as metadata have it, in ASCII."""
        return " ".join([str(self.newest), str(self.oldest), self.release, *sorted(self.features)])

    @staticmethod
    def read(value: object) -> Hello:
        """Return the hello that metadata have. Raises ProtocolError for anything else, naming only its kind."""
        found = _HELLO.fullmatch(value) if isinstance(value, str) and len(value) <= _MOST_CHARACTERS else None
        if found is None or int(found["oldest"]) > int(found["newest"]):
            raise ProtocolError("a hello that cannot be read", expected="newest and oldest version, release, features")
        return Hello(int(found["newest"]), int(found["oldest"]), found["release"], frozenset(found["features"].split()))

    def has(self, feature: Feature) -> bool:
        """Whether the party has a feature."""
        return feature in self.features

    @property
    def spoken(self) -> str:
        """The versions in words."""
        if self.newest == self.oldest:
            return f"version {self.newest}"
        return f"versions {self.oldest} {'and' if self.newest == self.oldest + 1 else 'to'} {self.newest}"

    def __str__(self) -> str:
        return f"{self.spoken} (release {self.release})" if self.release else self.spoken


#: The hello that whoever says none would have said.
UNSAID = Hello(WITHOUT_HELLO, WITHOUT_HELLO)


def common(ours: Hello, theirs: Hello) -> int | None:
    """Return the newest version that both speak; None if there is none."""
    newest = min(ours.newest, theirs.newest)
    return newest if newest >= max(ours.oldest, theirs.oldest) else None


def require_common(name: str, ours: Hello, other: str, theirs: Hello) -> int:
    """Return the newest version that both speak. name, other: whose hellos these are.

    Raises VersionError if there is none: it says who has to be updated, and which pairs do without a server of the two.
    """
    found = common(ours, theirs)
    if found is not None:
        return found
    late = name if ours.newest < theirs.newest else other
    server = next((one for one in (late, other, name) if _organisation_of(one)), None)
    party = _organisation_of(server or "")
    raise VersionError(
        f"{name} and {other} speak no version of the protocol that both know: {late} has to be updated",
        got=f"{other}: {theirs}", expected=f"{name}: {ours}", party=server,
        alternatives=() if party is None else pairs_without(party),
    )  # fmt: skip


def remark(kind: str, speaks: Mapping[str, Hello]) -> str:
    """Say in words how far an upgrade is: who is behind, or which version nobody needs any more.

    kind: of server. speaks: what each of them has said, by its name; of those that answer.
    """
    if not speaks:
        return f"no {kind} says what it speaks"
    newest = max(one.newest for one in speaks.values())
    late = [name for name, one in sorted(speaks.items()) if one.newest < newest]
    if late:
        return f"version {newest} of the protocol is not spoken by {', '.join(late)}: to be updated (docs/upgrading.md)"
    if all(one.oldest == newest for one in speaks.values()):
        return f"each {kind} that answers speaks version {newest} of the protocol alone"
    return (
        f"each {kind} that answers speaks version {newest} of the protocol: none needs an earlier one any more, and the"
        " next upgrade may begin"
    )


def _organisation_of(name: str) -> Party | None:
    """Return the organisation whose server has this name; None for a device."""
    return next((one for one in PARTIES if name in (f"matcher-{one}", f"keyholder-{one}")), None)
