"""The configuration of a device: `device.toml`, every field checked, unknown ones refused.

A field may be set from the environment instead: VEILMATCH_THRESHOLD, VEILMATCH_TLS__KEY and so on.
Relative paths are relative to the folder of the TOML file.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from veilmatch.crypto.errors import ConfigurationError
from veilmatch.crypto.keys import Pair, Seat


class TlsSettings(BaseModel):
    """PEM files: the authority's certificate, this device's certificate and its key."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    authority: Path
    certificate: Path
    key: Path


class DeviceSettings(BaseSettings):
    """device.toml. Use `load`.

    matchers: address of both, by seat. threshold: cosine in (0, 1]. pairs: the key holders to ask, in
    order of preference. timeout_s: for a whole operation, embedding excluded.
    """

    model_config = SettingsConfigDict(
        env_prefix="VEILMATCH_", env_nested_delimiter="__", extra="forbid", frozen=True
    )

    device: str
    gallery: str = "main"
    matchers: dict[Seat, str]
    public_key: Path
    tls: TlsSettings
    signing_key: Path
    threshold: float = Field(default=0.40, gt=0, le=1)
    pairs: list[Pair] = Field(default=["ab", "ac", "bc"], min_length=1)
    timeout_s: float = Field(default=15.0, gt=0, le=3600)
    request_lifetime_s: float = Field(default=60.0, gt=0, le=120)

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
    def load(cls, path: Path) -> DeviceSettings:
        """Return the settings in a TOML file. Raises ConfigurationError naming the field that is wrong."""
        try:
            data: dict[str, Any] = tomllib.loads(path.read_text())
        except OSError as error:
            raise ConfigurationError("the configuration cannot be read", got=error.strerror, expected=str(path)) from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigurationError("the configuration is not TOML", got=error, expected=str(path)) from None
        tls = data.get("tls", {})
        for table, fields in ((data, ("public_key", "signing_key")), (tls, ("authority", "certificate", "key"))):
            for field in fields:
                if isinstance(table, dict) and isinstance(table.get(field), str):
                    table[field] = path.parent / table[field]
        try:
            return cls(**data)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            field = ".".join(map(str, first["loc"])) or "file"
            raise ConfigurationError(f"{path.name}: {field}: {first['msg']}", expected=str(path)) from None
