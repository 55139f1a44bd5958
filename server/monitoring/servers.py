"""What `veilmatch status` asks for at a server: all servers of its kind, itself included, whether its daemon runs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from veilmatch.common.settings import TlsSettings
from veilmatch.crypto.errors import ConfigurationError
from veilmatch.crypto.health import Asked, Ending, Kind, Said
from veilmatch.crypto.keys.parties import Pair, Party, pairs_among
from veilmatch.server.check.party import load_configuration
from veilmatch.server.config import DaemonTls, MatcherSettings
from veilmatch.server.monitoring.neighbours import Neighbour
from veilmatch.server.transport.channels import channel_to
from veilmatch.server.transport.expiry import own_certificates

#: Addresses that are no host to call: the daemon listens at all addresses of this machine.
_ANY = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104  # nothing is bound here

#: What those of `own_certificates` are to whoever reads `status`, and what is done about their end.
_KINDS = {
    "this party": "TLS certificate",
    "authority": "authority's certificate",
    "revocation list": "revocation list",
}
_REMEDIES = {
    "this party": "veilmatch authority renew, where the authority is",
    "authority": "veilmatch authority replace, where it is",
    "revocation list": "whoever makes the lists of the authority has to make the next one",
}


def servers_of(path: Path) -> Asked:
    """Ask all servers of the kind that a configuration is of. Raises ConfigurationError, KeyFileError."""
    settings = load_configuration(path)
    host, _, port = settings.listen.rpartition(":")
    addresses: dict[Party, str] = {**settings.peers, settings.party: f"{_ANY.get(host, host)}:{port}"}
    kind: Kind = "matcher" if isinstance(settings, MatcherSettings) else "keyholder"
    served: tuple[Pair, ...] = (
        pairs_among(sorted(addresses)) if isinstance(settings, MatcherSettings) else settings.served
    )
    said = asyncio.run(_asked(kind, addresses, settings.tls))
    return Asked(kind, said, served, _certificates(settings.tls))


def _certificates(tls: DaemonTls) -> list[Ending]:
    """Return when the certificates that a daemon lives by end; what cannot be read is its daemon's to say."""
    try:
        own = list(own_certificates(tls, tls.crl))
    except ConfigurationError:
        return []
    return [Ending(_KINDS[one.of], str(one.file), one.end_s, _REMEDIES[one.of]) for one in own]


async def _asked(kind: Kind, addresses: Mapping[Party, str], tls: TlsSettings) -> dict[Party, Said | None]:
    channels = {party: channel_to(address, f"{kind}-{party}", tls) for party, address in sorted(addresses.items())}
    neighbours = {party: Neighbour(channel) for party, channel in channels.items()}
    try:
        await asyncio.gather(*(one.ask() for one in neighbours.values()))
    finally:
        for channel in channels.values():
            await channel.close()
    return {party: one.said for party, one in neighbours.items()}
