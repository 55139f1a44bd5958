"""The configuration of a device: `device.toml`, every field checked, unknown ones refused.

    settings = DeviceSettings.load(Path("device.toml"))

See `veilmatch.common.settings` for the environment and for paths.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from veilmatch.common.settings import Address, Name, Settings, TlsSettings
from veilmatch.crypto.keys.shares import SEATS, Pair, Seat
from veilmatch.crypto.requests import MIN_LIFETIME_S


class DeviceSettings(Settings):
    """device.toml. Use `load`.

    matchers: address of both, by seat. certificate: what organisations have signed about this device, if it is to
    know what it may ask. threshold: cosine in (0, 1]. pairs: the key holders to ask, in order of preference.
    timeout_s: for a whole operation, embedding excluded. proxy: "environment" to reach the matchers through the HTTP
    proxy of the variables grpc_proxy, https_proxy and http_proxy; they are reached directly otherwise.
    """

    usual_name = "device.toml"

    device: Name
    gallery: Name = "main"
    matchers: dict[Seat, Address]
    public_key: Path
    tls: TlsSettings
    signing_key: Path
    certificate: Path | None = None
    threshold: float = Field(default=0.40, gt=0, le=1)
    pairs: list[Pair] = Field(default=["ab", "ac", "bc"], min_length=1)
    timeout_s: float = Field(default=15.0, gt=0, le=3600)
    request_lifetime_s: float = Field(default=60.0, ge=MIN_LIFETIME_S, le=120)
    proxy: Literal["none", "environment"] = "none"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if set(self.matchers) != set(SEATS):
            raise ValueError("matchers must name a and b")
        if len(set(self.pairs)) != len(self.pairs):
            raise ValueError("pairs must be different")
        return self
