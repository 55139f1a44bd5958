"""Which matchers of a configuration give a sign of life: what `veilmatch doctor` says about the servers of a device.

Nothing is asked of them that counts in a budget, and nothing is said about key holders, which only requests reach.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from veilmatch.crypto.errors import UnavailableError
from veilmatch.crypto.keys.parties import PARTIES, Pair, Party

#: How long a matcher has for a sign of life.
SIGN_S = 2.0


@dataclass(frozen=True, slots=True)
class Servers:
    """The matchers of a device. matchers: whether each answers, None where none is configured; pairs: of those that
    are configured, whether both matchers answer."""

    matchers: dict[Party, bool | None]
    pairs: dict[Pair, bool]

    def require_a_pair(self) -> None:
        """Raise UnavailableError unless a pair has both its matchers."""
        if not any(self.pairs.values()):
            silent = [f"matcher-{party}" for party, answers in self.matchers.items() if answers is False]
            raise UnavailableError(
                "no pair of matchers can serve this device",
                available=f"no sign of life of {', '.join(silent)}",
                needed="the matchers of one pair: look at [matchers] and [tls] of device.toml, and whether they run",
            )


def servers_of(configuration: Path) -> Servers:
    """Ask every matcher of a device.toml for a sign of life. Raises ConfigurationError, KeyFileError."""
    return asyncio.run(_asked(configuration))


async def _asked(configuration: Path) -> Servers:
    from veilmatch.client.config import DeviceSettings
    from veilmatch.client.wire.transport import open_matchers

    settings = DeviceSettings.load(configuration)
    matchers = open_matchers(settings)
    try:
        signs = await asyncio.gather(*(matcher.alive(SIGN_S) for matcher in matchers.values()))
    finally:
        for matcher in matchers.values():
            await matcher.close()
    answering = dict(zip(matchers, signs, strict=True))
    return Servers(
        {party: answering.get(party) for party in PARTIES},
        {pair: all(answering.get(party, False) for party in PARTIES if party in pair) for pair in settings.pairs},
    )
