"""How much a daemon takes at once: [admission] and [connections] of its configuration. See docs/load.md."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

#: Verifications for each core, which are computed together: as many as one session of key holders takes.
_VERIFYING = 16
#: More of them make no session larger, however many cores there are.
_MOST_VERIFYING = 256
#: What a matcher takes of another one that leads, for each that it serves itself: that one may have a larger machine.
_FOLLOWED, _VERIFICATIONS_FOLLOWED = 4, 2
#: What a key holder takes for each core: all that an honest matcher sends, which leads some and follows two others.
_SESSIONS, _VERIFICATIONS = 32, 80


class AdmissionLimits(BaseModel):
    """How many requests of devices a matcher takes; see `veilmatch.server.matcher.turns`.

    in_progress: served at once; 0 is three for each core. verifying: verifications served at once, beside those; 0 is
    sixteen for each core, 256 at most. waiting: most that wait for their turn, of either; 0 is sixteen for each
    that is in progress. wait_s: how long one waits before it is told to come again. All matchers have the same.
    followed: most requests in progress that one other matcher leads, and most verifications; 0 is four for each that
    is in progress, and two for each verification.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    in_progress: int = Field(default=0, ge=0, le=10_000)
    verifying: int = Field(default=0, ge=0, le=10_000)
    waiting: int = Field(default=0, ge=0, le=100_000)
    wait_s: float = Field(default=2.0, gt=0, le=60)
    followed: int = Field(default=0, ge=0, le=100_000)

    def most_followed(self, cores: int) -> int:
        """Return how many requests of one leading matcher are in progress at most, on a machine with so many cores."""
        return self.followed or _FOLLOWED * self.resolved(cores)[0]

    def most_verifications_followed(self, cores: int) -> int:
        """Return how many verifications of one leading matcher there are at most beside those."""
        return self.followed or _VERIFICATIONS_FOLLOWED * self.verifying_at_once(cores)

    def verifying_at_once(self, cores: int) -> int:
        """Return how many verifications are served at once on a machine with so many cores."""
        return self.verifying or min(_VERIFYING * cores, _MOST_VERIFYING)

    def resolved(self, cores: int) -> tuple[int, int]:
        """Return how many others are served at once, and how many wait, on a machine with so many cores."""
        at_once = self.in_progress or 3 * cores
        return at_once, self.waiting or 16 * at_once


class SessionLimits(BaseModel):
    """How many requests a key holder takes; see `veilmatch.server.ground.at_once`.

    in_progress: at once, all pairs together; 0 is 32 for each core. verifying: on the link of the matcher, which brings
    verifications alone; 0 is 80 for each core, 1280 at most. What is beyond is refused: the matcher has a queue.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    in_progress: int = Field(default=0, ge=0, le=100_000)
    verifying: int = Field(default=0, ge=0, le=100_000)

    def resolved(self, cores: int) -> int:
        """Return how many there may be on a machine with so many cores."""
        return self.in_progress or _SESSIONS * cores

    def verifying_at_once(self, cores: int) -> int:
        """Return how many there may be on the link."""
        return self.verifying or min(_VERIFICATIONS * cores, _VERIFICATIONS * _MOST_VERIFYING // _VERIFYING)


class ConnectionLimits(BaseModel):
    """What a daemon bears of connections; see `veilmatch.server.transport.connections` and docs/load.md.

    all: of everybody together; 0 is three quarters of the files that the process may open. of_one: of one caller.
    handshake_s: to be encrypted, to show a certificate and to speak HTTP/2. first_call_s: then, to make a call.
    read_s: for the message that a call begins with to arrive. idle_s: without calls, before it is closed. ping_s: a
    quiet one is pinged after so long, and closed after pong_s more without an answer. pinged_s: who pings more often is
    closed; servers do every 2 s. frame_bytes: the largest HTTP/2 frame that is taken.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    all: int = Field(default=0, ge=0, le=1 << 24)
    of_one: int = Field(default=64, ge=2, le=1 << 16)
    handshake_s: float = Field(default=5.0, ge=0.1, le=600)
    first_call_s: float = Field(default=30.0, ge=1, le=86400)
    read_s: float = Field(default=10.0, gt=0, le=600)
    idle_s: float = Field(default=600.0, ge=1, le=86400)
    ping_s: float = Field(default=60.0, ge=1, le=86400)
    pong_s: float = Field(default=20.0, ge=1, le=600)
    pinged_s: float = Field(default=1.0, ge=0.1, le=1.5)
    frame_bytes: int = Field(default=1 << 14, ge=1 << 14, le=(1 << 24) - 1)


#: Where nothing is said.
USUAL = ConnectionLimits()
