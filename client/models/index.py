"""Which package index is asked, and how: what the user has configured for pip, or for uv, holds here too.

pip itself is not needed. Read, the later over the earlier: pip's configuration files (for all users, of the user, of
the environment, PIP_CONFIG_FILE), sections `global` and `download`; then UV_DEFAULT_INDEX or UV_INDEX_URL, UV_INDEX or
UV_EXTRA_INDEX_URL, UV_FIND_LINKS and UV_NO_INDEX; then PIP_INDEX_URL and the other variables of pip. Of pip's options
these count: index-url, extra-index-url, no-index, find-links, trusted-host, cert, client-cert, proxy and timeout.
Credentials in an index's address, in netrc and in a keyring, and the variables for proxies, are left to the libraries
that connect.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from configparser import Error as ConfigParserError
from configparser import RawConfigParser
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from platformdirs import site_config_dir, user_config_dir

from veilmatch.crypto.errors import ConfigurationError

DEFAULT_INDEX = "https://pypi.org/simple"
_TIMEOUT_S = 15.0
_SECTIONS = ("global", "download")
_OPTIONS = (
    "index-url",
    "extra-index-url",
    "no-index",
    "find-links",
    "trusted-host",
    "cert",
    "client-cert",
    "proxy",
    "timeout",
)
#: Options of pip by the variables of uv that mean the same; the later goes before the earlier.
_UV = {
    "UV_INDEX_URL": "index-url",
    "UV_DEFAULT_INDEX": "index-url",
    "UV_EXTRA_INDEX_URL": "extra-index-url",
    "UV_INDEX": "extra-index-url",
    "UV_FIND_LINKS": "find-links",
    "UV_NO_INDEX": "no-index",
}


@dataclass(frozen=True)
class Source:
    """An index, by its address, or what pip calls find-links: a folder, a file, or a page of links."""

    place: str
    is_index: bool


@dataclass(frozen=True)
class IndexSettings:
    """Where packages come from. sources: asked one after the other, what is near first.

    cert: a file of authorities in place of the system's; client_cert: a PEM file; timeout_s: of each step of a call.
    """

    sources: tuple[Source, ...]
    trusted_hosts: tuple[str, ...]
    cert: str | None
    client_cert: str | None
    proxy: str | None
    timeout_s: float

    @classmethod
    def read(cls) -> IndexSettings:
        """Return what is configured. Raises ConfigurationError, naming file or option, for what cannot be read."""
        options: dict[str, str] = {}
        for path in _files(os.environ):
            options |= _options(path)
        options |= _of_uv(os.environ)
        options |= _of_pip(os.environ)
        offline = options.get("no-index", "").strip().lower() in ("1", "true", "yes", "on", "y", "t")
        indexes = [options.get("index-url", "").strip() or DEFAULT_INDEX, *options.get("extra-index-url", "").split()]
        return cls(
            sources=(
                *(Source(_path(link) or link, is_index=False) for link in options.get("find-links", "").split()),
                *(() if offline else (Source(index, is_index=True) for index in indexes)),
            ),
            trusted_hosts=tuple(options.get("trusted-host", "").split()),
            cert=_path(options.get("cert")),
            client_cert=_path(options.get("client-cert")),
            proxy=options.get("proxy", "").strip() or None,
            timeout_s=_seconds(options.get("timeout")),
        )


def _files(environment: Mapping[str, str]) -> list[Path]:
    """Return pip's configuration files, whether they exist or not, the strongest last."""
    own = environment.get("PIP_CONFIG_FILE")
    if own == os.devnull:
        return []
    files = [Path(folder, "pip.conf") for folder in reversed(site_config_dir("pip", multipath=True).split(os.pathsep))]
    files.append(Path("/etc/pip.conf"))
    if not (own and Path(own).exists()):
        with suppress(RuntimeError):  # there is no home
            files += [Path.home() / ".pip" / "pip.conf", Path(user_config_dir("pip"), "pip.conf")]
    files.append(Path(sys.prefix, "pip.conf"))
    return [*files, Path(own)] if own else files


def _options(path: Path) -> dict[str, str]:
    parser = RawConfigParser()
    try:
        parser.read_string(path.read_text(encoding="utf-8-sig"))
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return {}
    except (OSError, UnicodeDecodeError, ConfigParserError) as error:
        # The text of a parser's error quotes lines, in which there may be a password.
        raise ConfigurationError(
            "pip's configuration file cannot be read", got=f"{path}: {type(error).__name__}"
        ) from None
    found: dict[str, str] = {}
    for section in _SECTIONS:
        if parser.has_section(section):
            found |= {_option(name): value for name, value in parser.items(section)}
    return {name: value for name, value in found.items() if name in _OPTIONS}


def _of_uv(environment: Mapping[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for variable, option in _UV.items():
        if value := environment.get(variable, "").strip():
            found[option] = value.replace(",", " ") if option == "find-links" else value
    for option in ("index-url", "extra-index-url"):
        if option in found:  # uv lets an index have a name: NAME=ADDRESS
            found[option] = " ".join(re.sub(r"^[\w.-]+=(?=\w+://|/|\.)", "", word) for word in found[option].split())
    return found


def _of_pip(environment: Mapping[str, str]) -> dict[str, str]:
    found = {}
    for variable, value in environment.items():
        option = _option(variable.removeprefix("PIP_")) if variable.startswith("PIP_") else ""
        if value and option in _OPTIONS:
            found[option] = value
    return found


def _option(name: str) -> str:
    name = name.lower().replace("_", "-").removeprefix("--")
    return "timeout" if name == "default-timeout" else name


def _path(value: str | None) -> str | None:
    return os.path.expanduser(value.strip()) if value and value.strip() else None  # noqa: PTH111


def _seconds(value: str | None) -> float:
    if not value:
        return _TIMEOUT_S
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ConfigurationError("pip's time-out is no number of seconds", got=value[:40], expected="> 0")
    return seconds
