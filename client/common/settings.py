"""Loading a configuration: a TOML file with the environment on top, and what is wrong with it in plain words.

    class DeviceSettings(Settings, file="device.toml"): ...
    settings = DeviceSettings.load(Path("device.toml"))

A field may be set from the environment instead: VEILMATCH_THRESHOLD, VEILMATCH_TLS__KEY and so on; a table there adds
to the one in the file. Relative paths, wherever they come from, are relative to the folder of the TOML file; ~ is the
home directory.
"""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from veilmatch.common.known_fields import PREFIX, kind_of, require_known_variables
from veilmatch.common.toml_file import read_toml
from veilmatch.common.wording import what_is_wrong
from veilmatch.crypto.errors import ConfigurationError

_ADDRESS = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")
_M = TypeVar("_M", bound=BaseModel)
#: Who reads a file, for the error about a file of another kind.
_READERS = {
    "device.toml": "a device: `veilmatch verify`, `enrol` and the like",
    "keyholder.toml": "a key holder: `veilmatch keyholder`, `reseal`, `device certify`",
    "ceremony.toml": "a key ceremony: `veilmatch ceremony join`",
    "matcher.toml": "a matcher: `veilmatch matcher`",
}


def _address(value: str) -> str:
    found = _ADDRESS.fullmatch(value)
    if found is None or int(found[1]) > 65535:
        raise ValueError("must be host:port")
    return value


def _composed(value: str) -> str:
    return unicodedata.normalize("NFC", value)


#: host:port; IPv6 addresses stand in brackets.
Address = Annotated[str, AfterValidator(_address)]
#: In NFC, however the file has it: file systems and keyboards also give the same name decomposed.
Name = Annotated[str, AfterValidator(_composed), StringConstraints(min_length=1, max_length=64)]


class TlsSettings(BaseModel):
    """PEM files: the authority's certificate, this party's or device's certificate and its key."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    authority: Path
    certificate: Path
    key: Path


class Settings(BaseSettings):
    """What every kind of configuration has in common. Use `load` of one of them."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True)

    #: The usual name of such a file.
    usual_name: ClassVar[str]

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
        path = _at_home(path)
        require_known_variables()
        try:
            fields, text = read_toml(path)
        except ConfigurationError as error:
            if error.expected is None:
                error.expected = f"a {cls.usual_name}"
            raise
        kind = kind_of(fields)
        if kind is not None and kind != cls.usual_name and not set(fields) <= set(cls.model_fields):
            raise ConfigurationError(
                f"{path} is the configuration of {_READERS[kind]}",
                got=f"a {kind}",
                expected=f"a {cls.usual_name}, the configuration of {_READERS[cls.usual_name]}",
            )
        # The constructor takes options of such names beside the fields.
        if options := [name for name in fields if name.startswith("_")]:
            raise ConfigurationError(f"{path}: {options[0]}: no such field")
        try:
            return _located(cls(**fields), path.absolute().parent)
        except ValidationError as error:
            raise ConfigurationError(what_is_wrong(error, cls, path, text)) from None
        except SettingsError as error:
            # A table or list in a variable; the error's own text names the field and no value.
            found = re.search(r'field "(\w+)"', str(error))
            name = found[1] if found else "?"
            raise ConfigurationError(
                f"the environment: {PREFIX}{name.upper()}: {name}: must be JSON", expected='["a"] or {"a": "b"}'
            ) from None


def _at_home(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError:  # nobody knows where that home is
        return path


def _located(settings: _M, folder: Path) -> _M:
    """Return the settings with every relative path made one of `folder`. Raises ConfigurationError."""
    changed: dict[str, Any] = {}
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, Path):
            if "\0" in str(value):
                raise ConfigurationError(f"{name}: not a path", expected="no NUL in it")
            changed[name] = folder / _at_home(value)
        elif isinstance(value, BaseModel):
            changed[name] = _located(value, folder)
    return settings.model_copy(update=changed)
