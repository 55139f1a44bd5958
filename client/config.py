"""The configuration of a device: `device.toml`, every field checked, unknown ones refused.

    settings = DeviceSettings.load(Path("device.toml"))

A field may be set from the environment instead: VEILMATCH_THRESHOLD, VEILMATCH_TLS__KEY and so on; a table there adds
to the one in the file. Relative paths, wherever they come from, are relative to the folder of the TOML file.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from veilmatch.crypto.errors import ConfigurationError
from veilmatch.crypto.keys.shares import SEATS, Pair, Seat

_ADDRESS = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")
_M = TypeVar("_M", bound=BaseModel)


def _address(value: str) -> str:
    found = _ADDRESS.fullmatch(value)
    if found is None or int(found[1]) > 65535:
        raise ValueError("must be host:port")
    return value


#: host:port; IPv6 addresses stand in brackets.
Address = Annotated[str, AfterValidator(_address)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=64)]


class TlsSettings(BaseModel):
    """PEM files: the authority's certificate, this device's certificate and its key."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    authority: Path
    certificate: Path
    key: Path


class DeviceSettings(BaseSettings):
    """device.toml. Use `load`.

    matchers: address of both, by seat. certificate: what organisations have signed about this device, if it is to
    know what it may ask. threshold: cosine in (0, 1]. pairs: the key holders to ask, in order of preference.
    timeout_s: for a whole operation, embedding excluded. proxy: "environment" to reach the matchers through the HTTP
    proxy of the variables grpc_proxy, https_proxy and http_proxy; they are reached directly otherwise.
    """

    model_config = SettingsConfigDict(env_prefix="VEILMATCH_", env_nested_delimiter="__", extra="forbid", frozen=True)

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
    request_lifetime_s: float = Field(default=60.0, gt=0, le=120)
    proxy: Literal["none", "environment"] = "none"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if set(self.matchers) != set(SEATS):
            raise ValueError("matchers must name a and b")
        if len(set(self.pairs)) != len(self.pairs):
            raise ValueError("pairs must be different")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment goes before the file, whose fields `load` passes to the constructor."""
        return env_settings, init_settings

    @classmethod
    def load(cls, path: Path) -> Self:
        """Return the settings in a TOML file. Raises ConfigurationError naming every field that is wrong."""
        try:
            return _located(cls(**_fields(cls, path)), path.absolute().parent)
        except ValidationError as error:
            raise ConfigurationError(f"{path}: {_summary(error)}") from None
        except SettingsError as error:
            raise ConfigurationError(f"the environment does not configure {cls.__name__}: {error}") from None


# -- reading ----------------------------------------------------------------------------------


def _fields(kind: type[BaseSettings], path: Path) -> dict[str, Any]:
    """Return what the file holds. Raises ConfigurationError if it is not a TOML file."""
    try:
        # The source takes a missing file for an empty one.
        with path.open("rb"):
            fields = TomlConfigSettingsSource(kind, toml_file=path)()
    except OSError as error:
        raise ConfigurationError("the configuration cannot be read", got=f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # more digits than Python reads, or too many brackets, among them
        raise ConfigurationError("the configuration is not TOML", got=f"{path}: {error}") from None
    # The constructor takes options of such names beside the fields.
    if options := [name for name in fields if name.startswith("_")]:
        raise ConfigurationError(f"{path}: {options[0]}: no such field")
    return fields


def _located(settings: _M, folder: Path) -> _M:
    """Return the settings with every relative path made one of `folder`. Raises ConfigurationError."""
    changed: dict[str, Any] = {}
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, Path):
            if "\0" in str(value):
                raise ConfigurationError(f"{name}: not a path", expected="no NUL in it")
            changed[name] = folder / value
        elif isinstance(value, BaseModel):
            changed[name] = _located(value, folder)
    return settings.model_copy(update=changed)


def _summary(error: ValidationError) -> str:
    """Say what is wrong in every field, without the values found there."""
    found = error.errors(include_input=False, include_url=False, include_context=False)
    return "; ".join(f"{'.'.join(map(str, item['loc'])) or 'file'}: {item['msg']}" for item in found)
