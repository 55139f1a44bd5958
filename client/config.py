"""The configuration of a device: `device.toml`, every field checked, unknown ones refused.

    settings = DeviceSettings.load(Path("device.toml"))

See `veilmatch.common.settings` for the environment and for paths.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from veilmatch.client.capture.settings import CaptureSettings
from veilmatch.client.liveness.settings import LivenessSettings
from veilmatch.common.settings import Address, Name, Settings, TlsSettings
from veilmatch.crypto.keys.parties import PAIRS, PARTIES, Pair, Party, pairs_among
from veilmatch.crypto.requests import MIN_LIFETIME_S

#: How many organisations can serve at all, and how many an assured answer takes.
_SERVING, _ALL = 2, len(PARTIES)


class DeviceSettings(Settings):
    """device.toml. Use `load`.

    matchers: address of each, by organisation; one of the three may have none. certificate: what organisations have
    signed about this device, if it is to know what it may ask. threshold: cosine in (0, 1]. pairs: the organisations to
    ask, in order of preference; default: every pair whose two matchers are there. hedge: whether a query that is slow
    asks a second pair as well, which counts twice in budgets. assurance: "all-pairs" to take an answer of a query only
    from all three pairs alike, which counts three times. timeout_s: for a whole operation, embedding excluded. proxy:
    "environment" to reach the matchers through the HTTP proxy of the variables grpc_proxy, https_proxy and http_proxy;
    they are reached directly otherwise. capture: of photos, see CaptureSettings. liveness:
    a check that every photo has to pass, see LivenessSettings; none without it.
    """

    usual_name = "device.toml"

    device: Name
    gallery: Name = "main"
    matchers: dict[Party, Address]
    public_key: Path
    tls: TlsSettings
    signing_key: Path
    certificate: Path | None = None
    threshold: float = Field(default=0.40, gt=0, le=1)
    pairs: list[Pair] = Field(default=list(PAIRS), min_length=1)
    hedge: bool = False
    assurance: Literal["one-pair", "all-pairs"] = "one-pair"
    timeout_s: float = Field(default=15.0, gt=0, le=3600)
    request_lifetime_s: float = Field(default=60.0, ge=MIN_LIFETIME_S, le=120)
    proxy: Literal["none", "environment"] = "none"
    capture: CaptureSettings = CaptureSettings()
    liveness: LivenessSettings | None = None

    @model_validator(mode="before")
    @classmethod
    def _with_pairs(cls, fields: Any) -> Any:
        matchers = fields.get("matchers") if isinstance(fields, Mapping) else None
        if isinstance(matchers, Mapping) and "pairs" not in fields:
            # Where too few are named, that is what is wrong, and nothing about pairs.
            return dict(fields) | {"pairs": list(pairs_among(list(matchers))) or list(PAIRS)}
        return fields

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(self.matchers) < _SERVING:
            raise ValueError("matchers must name at least two of a, b and c")
        if len(set(self.pairs)) != len(self.pairs):
            raise ValueError("pairs must be different")
        for pair in self.pairs:
            if lacking := [party for party in pair if party not in self.matchers]:
                raise ValueError(f"pairs must do without {lacking[0]}, which matchers does not name: not {pair}")
        if self.assurance == "all-pairs" and len(self.matchers) < _ALL:
            raise ValueError("assurance must be one-pair unless matchers names all three of a, b and c")
        return self
