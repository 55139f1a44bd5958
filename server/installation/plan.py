"""What the configuration files of a new installation say; the models that read them are in `config.py`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from veilmatch.crypto.errors import ConfigurationError
from veilmatch.crypto.keys.shares import PARTIES, SEATS, Party, Seat

#: Names of the daemons, which are those of their folders and in their certificates, and their ports above the base.
PORTS = {"matcher-a": 1, "matcher-b": 2, "keyholder-a": 11, "keyholder-b": 12, "keyholder-c": 13}
#: Folder of the certificates of devices, in that of each daemon.
DEVICES_DIR = "devices"
#: Cosine from which a new device takes two faces for one person's, and below which it may not ask unless said.
DEFAULT_THRESHOLD = 0.40
_TLS = {"authority": "ca.pem", "certificate": "tls.pem", "key": "tls-key.pem"}


@dataclass(frozen=True)
class Plan:
    """Where the daemons listen, and how many workers each has (0: one a core).

    Raises ConfigurationError if the host cannot be one, or a port would leave 1..65535.
    """

    host: str = "127.0.0.1"
    base_port: int = 7400
    workers: int = 0

    def __post_init__(self) -> None:
        allowed = ":." if ":" in self.host else "-._"
        if not self.host or not all(c.isascii() and (c.isalnum() or c in allowed) for c in self.host):
            raise ConfigurationError("not a host", got=ascii(self.host[:60]), expected="a name or an IP address")
        if not 0 <= self.base_port <= 65535 - max(PORTS.values()):
            raise ConfigurationError("no room for the ports", got=self.base_port, expected="a base port up to 65522")
        if not 0 <= self.workers <= 1024:
            raise ConfigurationError("not a number of workers", got=self.workers, expected="0..1024")

    def address(self, party_name: str) -> str:
        """Return host:port of a daemon; an IPv6 address in brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.base_port + PORTS[party_name]}"


def matcher_fields(seat: Seat, plan: Plan) -> dict[str, Any]:
    """Return the content of matcher.toml."""
    other = next(s for s in SEATS if s != seat)
    return {
        "seat": seat,
        **_daemon(f"matcher-{seat}", plan),
        "peer": plan.address(f"matcher-{other}"),
        "galleries": ["main"],
        "key_holders": {party: plan.address(f"keyholder-{party}") for party in (seat, "c")},
        "tls": _TLS,
    }


def key_holder_fields(party: Party, plan: Plan) -> dict[str, Any]:
    """Return the content of keyholder.toml."""
    return {
        "party": party,
        **_daemon(f"keyholder-{party}", plan),
        "key_file": "share.key",
        "certifier_key": "certifier.key",
        "peers": {other: plan.address(f"keyholder-{other}") for other in PARTIES if other != party},
        "tls": _TLS,
    }


def device_fields(name: str, matchers: Mapping[str, str], certificate: str, threshold: float) -> dict[str, Any]:
    """Return the content of device.toml. matchers: address by seat. certificate: its file. threshold: a cosine."""
    return {
        "device": name,
        "public_key": "public.json",
        "signing_key": "signing.key",
        "certificate": certificate,
        "threshold": threshold,
        "matchers": matchers,
        "tls": _TLS,
    }


def _daemon(name: str, plan: Plan) -> dict[str, Any]:
    return {
        "listen": plan.address(name),
        "data_dir": "data",
        "public_key": "public.json",
        "devices_dir": DEVICES_DIR,
        "workers": plan.workers,
    }
