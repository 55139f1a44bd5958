"""ceremony.toml: what one organisation takes part in a key ceremony with. `veilmatch ceremony prepare` writes it."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from veilmatch.common.settings import Address, Settings
from veilmatch.crypto.errors import ParameterError
from veilmatch.crypto.keys.parties import PARTIES, Party
from veilmatch.crypto.parameters import SAFE_MODULUS_BITS, ParameterSet


class CeremonySettings(Settings):
    """ceremony.toml.

    keys: what `prepare` has made for this organisation. introductions: folder of organisation-a.json and so on.
    fingerprints: of the other two, as they have read them out. addresses: where their key holders are reached from
    here, if not as their introductions say. installation: where the result goes.
    """

    usual_name = "ceremony.toml"

    party: Party
    parameters: str
    #: Permits a modulus too small for real faces: for development.
    allow_unsafe: bool = False
    listen: Address
    keys: Path = Path("keys")
    introductions: Path = Path()
    fingerprints: dict[Party, str] = Field(default_factory=dict)
    addresses: dict[Party, Address] = Field(default_factory=dict)
    installation: Path = Path("installation")
    dealer_only: Party | None = None
    workers: int = Field(default=0, ge=0, le=1024)
    #: How long to wait for the other two, who begin at their own time.
    wait_s: float = Field(default=3600.0, gt=0, le=7 * 86400)
    #: How long another one may be silent once it has begun: the longest computation between two messages takes seconds.
    patience_s: float = Field(default=120.0, gt=0, le=3600)

    @property
    def name(self) -> str:
        """The name in this organisation's certificate."""
        return f"keyholder-{self.party}"

    @property
    def peers(self) -> tuple[Party, ...]:
        """The other two."""
        return tuple(party for party in PARTIES if party != self.party)

    @property
    def pending(self) -> Path:
        """Where the result is until all three are known to have it."""
        return self.installation.with_name(self.installation.name + ".pending")

    @property
    def parameter_set(self) -> ParameterSet:
        """The parameter set. Raises ParameterError if there is none of that name, or it is unsafe and not allowed."""
        return safe_parameters(self.parameters, allow_unsafe=self.allow_unsafe)

    @model_validator(mode="after")
    def _others(self) -> Self:
        if self.party in self.fingerprints:
            raise ValueError("fingerprints are of the other two organisations")
        if self.party in self.addresses:
            raise ValueError("addresses are of the other two organisations")
        if self.dealer_only not in (None, "c"):
            raise ValueError("dealer_only is c, or left out")
        return self


def safe_parameters(name: str, *, allow_unsafe: bool) -> ParameterSet:
    """Return the parameter set of a name. Raises ParameterError if there is none, or it is unsafe and not allowed."""
    chosen = ParameterSet.from_name(name)
    if chosen.modulus_bits not in SAFE_MODULUS_BITS and not allow_unsafe:
        raise ParameterError("an UNSAFE parameter set needs --allow-unsafe", got=chosen.name)
    return chosen
