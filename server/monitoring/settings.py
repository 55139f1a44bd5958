"""`[metrics]` and `[traces]` of a daemon's configuration."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from veilmatch.common.settings import Address, Name, TlsSettings


class MetricsTls(TlsSettings):
    """The PEM files of the listener for metrics. crl: revocation lists of the authority; see docs/certificates.md."""

    crl: Path | None = None


class MetricsSettings(BaseModel):
    """Where a daemon answers `/metrics`, `/livez` and `/readyz`, by HTTP. See docs/monitoring.md.

    listen: an address of its own. token_file: holds the bearer token that whoever scrapes shows. tls: HTTPS, and only
    for clients whose certificate is of that authority and has one of `clients` as its common name. An address that is
    not this machine's alone takes one of the two.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    listen: Address
    token_file: Path | None = None
    tls: MetricsTls | None = None
    clients: list[Name] = []

    @property
    def host(self) -> str:
        """The host of `listen`, an IPv6 address without brackets."""
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """The port of `listen`."""
        return int(self.listen.rpartition(":")[2])

    @model_validator(mode="after")
    def _guarded(self) -> Self:
        if (self.tls is None) != (not self.clients):
            raise ValueError("tls and clients belong together: the names that may ask, in their certificates")
        if not is_loopback(self.host) and self.token_file is None and self.tls is None:
            raise ValueError(
                "listen must be an address of this machine alone (127.0.0.1), or metrics must have token_file, or tls"
                " and clients: anybody could read them"
            )
        return self


class TracesSettings(BaseModel):
    """Where a daemon sends its traces (extra `telemetry`). See docs/monitoring.md.

    endpoint: of OTLP over HTTP, with its path; None: as OTEL_EXPORTER_OTLP_ENDPOINT says. sample: the part of the
    requests that is traced, the same ones at all daemons with the same part.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    endpoint: str | None = Field(default=None, pattern="^https?://.+")
    sample: float = Field(default=1.0, gt=0, le=1)


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
