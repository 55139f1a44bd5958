"""The configuration of the daemons: one TOML file each, every field checked, unknown ones refused.

A field may be set from the environment instead: VEILMATCH_LISTEN, VEILMATCH_TLS__KEY and so on.
Relative paths are relative to the folder of the TOML file.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from veilmatch.crypto.errors import ConfigurationError
from veilmatch.crypto.keys import Party, Seat

Address = str


class TlsSettings(BaseModel):
    """PEM files: the authority's certificate, this party's certificate and its key."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    authority: Path
    certificate: Path
    key: Path


_S = TypeVar("_S", bound="DaemonSettings")


class DaemonSettings(BaseSettings):
    """What both kinds of daemon have. Use `load`."""

    model_config = SettingsConfigDict(
        env_prefix="VEILMATCH_", env_nested_delimiter="__", extra="forbid", frozen=True
    )
    #: Fields that name files or folders.
    paths: ClassVar[tuple[str, ...]] = ("data_dir", "public_key")

    listen: Address
    data_dir: Path
    public_key: Path
    tls: TlsSettings
    #: Ed25519 public key in hex, by device name.
    devices: dict[str, str]
    #: Worker processes; 0 is one per core.
    workers: int = Field(default=0, ge=0, le=1024)
    max_clock_skew_s: float = Field(default=30.0, ge=0, le=3600)
    max_request_lifetime_s: float = Field(default=120.0, gt=0, le=3600)
    peer_timeout_s: float = Field(default=10.0, gt=0, le=600)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment goes before the file."""
        return env_settings, init_settings

    @classmethod
    def load(cls, path: Path) -> Self:
        """Return the settings in a TOML file. Raises ConfigurationError naming the field that is wrong."""
        return load_settings(cls, path, cls.paths)


class KeyHolderSettings(DaemonSettings):
    """keyholder.toml. key_file: the sealed key. peers: address of the other two key holders, by letter."""

    paths = ("data_dir", "public_key", "key_file", "passphrase_file")

    party: Party
    key_file: Path
    passphrase_file: Path | None = None
    peers: dict[Party, Address]
    #: How much dealt stock to keep for each pair: triples mod N, and bytes of eight bit triples.
    stock_triples: int = Field(default=10240, ge=256)
    stock_bytes: int = Field(default=4 << 20, ge=1 << 16)

    @property
    def party_name(self) -> str:
        """The name in this daemon's certificate."""
        return f"keyholder-{self.party}"

    @model_validator(mode="after")
    def _two_peers(self) -> Self:
        if set(self.peers) != {"a", "b", "c"} - {self.party}:
            raise ValueError("peers must name the other two key holders")
        return self


class MatcherSettings(DaemonSettings):
    """matcher.toml. peer: the other matcher. key_holders: the one of this seat and key holder c, by letter."""

    seat: Seat
    peer: Address
    key_holders: dict[Party, Address]
    galleries: list[str] = ["main"]
    max_bulk_bytes: int = Field(default=1 << 28, ge=1 << 20)

    @property
    def party_name(self) -> str:
        """The name in this daemon's certificate."""
        return f"matcher-{self.seat}"

    @model_validator(mode="after")
    def _two_key_holders(self) -> Self:
        if set(self.key_holders) != {self.seat, "c"}:
            raise ValueError("key_holders must name that of this seat and c")
        return self


_Any = TypeVar("_Any", bound=BaseSettings)


def load_settings(kind: type[_Any], path: Path, path_fields: tuple[str, ...]) -> _Any:
    """Return settings of a TOML file with its relative paths resolved. Raises ConfigurationError."""
    try:
        data: dict[str, Any] = tomllib.loads(path.read_text())
    except OSError as error:
        raise ConfigurationError("the configuration cannot be read", got=error.strerror, expected=str(path)) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError("the configuration is not TOML", got=error, expected=str(path)) from None
    for table, fields in ((data, path_fields), (data.get("tls", {}), tuple(TlsSettings.model_fields))):
        for field in fields:
            if isinstance(table, dict) and isinstance(table.get(field), str):
                table[field] = path.parent / table[field]
    try:
        return kind(**data)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        field = ".".join(map(str, first["loc"])) or "file"
        raise ConfigurationError(f"{path.name}: {field}: {first['msg']}", expected=str(path)) from None
