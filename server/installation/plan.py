"""What the configuration files of a new installation say; the models that read them are in `config.py`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from veilmatch.crypto.errors import ConfigurationError
from veilmatch.crypto.keys.parties import PARTIES, Party

#: Names of the daemons, which are those in their certificates, and their ports above the base.
PORTS = {
    "matcher-a": 1, "matcher-b": 2, "matcher-c": 3, "keyholder-a": 11, "keyholder-b": 12, "keyholder-c": 13,
}  # fmt: skip
#: Where daemons answer scrapes and probes, on this machine alone; above the base, too.
METRICS_PORTS = {
    "matcher-a": 4, "matcher-b": 5, "matcher-c": 6, "keyholder-a": 14, "keyholder-b": 15, "keyholder-c": 16,
}  # fmt: skip
_HIGHEST_PORT = max(*PORTS.values(), *METRICS_PORTS.values())
#: Folder of the certificates of devices, in that of each daemon.
DEVICES_DIR = "devices"
#: Folder of the recipients that it refuses.
REVOKED_DIR = "revoked"
#: Cosine from which a new device takes two faces for one person's, and below which it may not ask unless said.
DEFAULT_THRESHOLD = 0.40
#: Names of the TLS files, and of what daemons have beside them; folder of the authority.
TLS = {"authority": "ca.pem", "certificate": "tls.pem", "key": "tls-key.pem"}
DAEMON_TLS = TLS | {"crl": "crl.pem"}
AUTHORITY = "authority"


@dataclass(frozen=True)
class Plan:
    """Where the daemons listen, and how many workers each has (0: one a core).

    dealer_only: an organisation without a matcher: the pair of the other two serves alone. places: host and base port
    of each organisation, where they are not the same for all. Raises ConfigurationError if a host cannot be one, or a
    port would leave 1..65535.
    """

    host: str = "127.0.0.1"
    base_port: int = 7400
    workers: int = 0
    dealer_only: Party | None = None
    places: Mapping[Party, tuple[str, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for host, base_port in ((self.host, self.base_port), *self.places.values()):
            allowed = ":." if ":" in host else "-._"
            if not host or not all(c.isascii() and (c.isalnum() or c in allowed) for c in host):
                raise ConfigurationError("not a host", got=ascii(host[:60]), expected="a name or an IP address")
            if not 0 <= base_port <= 65535 - _HIGHEST_PORT:
                raise ConfigurationError(
                    "no room for the ports", got=base_port, expected=f"a base port up to {65535 - _HIGHEST_PORT}"
                )
        if not 0 <= self.workers <= 1024:
            raise ConfigurationError("not a number of workers", got=self.workers, expected="0..1024")

    @property
    def matchers(self) -> tuple[Party, ...]:
        """The organisations that have a matcher."""
        return tuple(party for party in PARTIES if party != self.dealer_only)

    def address(self, party_name: str) -> str:
        """Return host:port of a daemon; an IPv6 address in brackets."""
        host, base_port = self._place(party_name)
        host = f"[{host}]" if ":" in host else host
        return f"{host}:{base_port + PORTS[party_name]}"

    def metrics_address(self, party_name: str) -> str:
        """Return where a daemon answers scrapes: this machine, whatever the host, unless an operator says otherwise."""
        return f"127.0.0.1:{self._place(party_name)[1] + METRICS_PORTS[party_name]}"

    def _place(self, party_name: str) -> tuple[str, int]:
        own = next(party for party in PARTIES if party_name.endswith(f"-{party}"))
        return self.places.get(own, (self.host, self.base_port))


def folder_of(daemon: str) -> Path:
    """Return the folder of a daemon within an installation: `organisation-a/matcher` of matcher-a."""
    kind, _, party = daemon.partition("-")
    return Path(f"organisation-{party}", kind)


def config_of(directory: Path, daemon: str) -> Path:
    """Return the configuration file of a daemon in an installation."""
    return directory / folder_of(daemon) / f"{daemon.split('-')[0]}.toml"


def matcher_fields(party: Party, plan: Plan) -> dict[str, Any]:
    """Return the content of matcher.toml."""
    return {
        "party": party,
        **_daemon(f"matcher-{party}", plan),
        "key_holder": plan.address(f"keyholder-{party}"),
        "galleries": ["main"],
        "peers": {other: plan.address(f"matcher-{other}") for other in plan.matchers if other != party},
        "tls": DAEMON_TLS,
        "metrics": {"listen": plan.metrics_address(f"matcher-{party}")},
    }


def key_holder_fields(party: Party, plan: Plan) -> dict[str, Any]:
    """Return the content of keyholder.toml."""
    return {
        "party": party,
        **_daemon(f"keyholder-{party}", plan),
        **({"dealer_only": plan.dealer_only} if plan.dealer_only else {}),
        "key_file": "share.key",
        "certifier_key": "certifier.key",
        "peers": {other: plan.address(f"keyholder-{other}") for other in PARTIES if other != party},
        "tls": DAEMON_TLS,
        "metrics": {"listen": plan.metrics_address(f"keyholder-{party}")},
    }


def device_fields(name: str, matchers: Mapping[str, str], certificate: str, threshold: float) -> dict[str, Any]:
    """Return the content of device.toml. matchers: address by letter. certificate: its file. threshold: a cosine."""
    return {
        "device": name,
        "public_key": "public.json",
        "signing_key": "signing.key",
        "certificate": certificate,
        "threshold": threshold,
        "matchers": matchers,
        "tls": TLS,
    }


def _daemon(name: str, plan: Plan) -> dict[str, Any]:
    return {
        "listen": plan.address(name),
        "data_dir": "data",
        "public_key": "public.json",
        "organisation_key": "organisation.key",
        "devices_dir": DEVICES_DIR,
        "revoked_dir": REVOKED_DIR,
        "workers": plan.workers,
    }
