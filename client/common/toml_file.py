"""Reading the TOML files that people write, in whatever editor."""

from __future__ import annotations

import codecs
import re
import tomllib
from pathlib import Path
from typing import Any

from veilmatch.crypto.errors import ConfigurationError

_OTHER_ENCODINGS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)


def read_toml(path: Path) -> tuple[dict[str, Any], str]:
    """Return what a TOML file holds, and its text. A byte-order mark of UTF-8 is no part of it.

    Raises ConfigurationError, naming the file, if it cannot be read or is not TOML in UTF-8.
    """
    text = read_text(path)
    try:
        return tomllib.loads(text), text
    except (ValueError, RecursionError) as error:  # more digits than Python reads, or too many brackets, among them
        raise ConfigurationError(
            "the configuration is not TOML", got=f"{path}: {error}", expected="TOML: name = value lines and [tables]"
        ) from None


def read_text(path: Path) -> str:
    """Return the text of a configuration file, without a byte-order mark. Raises ConfigurationError."""
    try:
        data = path.read_bytes()
    except IsADirectoryError:
        raise ConfigurationError(
            "the configuration cannot be read", got=f"{path}: a folder", expected=_in_folder(path)
        ) from None
    except (OSError, ValueError) as error:  # a NUL in its name
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigurationError(
            "the configuration cannot be read", got=f"{path}: {reason}", hint=_where_to_look(path, error)
        ) from None
    for mark, name in _OTHER_ENCODINGS:
        if data.startswith(mark):
            raise ConfigurationError(
                "the configuration is not TOML", got=f"{path}: text in {name}", expected="the file saved as UTF-8"
            )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigurationError(
            "the configuration is not TOML", got=f"{path}, line {line}: not UTF-8", expected="the file saved as UTF-8"
        ) from None


def line_of(text: str, place: tuple[str, ...]) -> int | None:
    """Return the line of a field, counted from 1; of its table if the field is not there; None for neither.

    place: names from the outermost table inwards. For messages alone: it knows tables and `name = value` lines.
    """
    inside: tuple[str, ...] = ()
    table = None
    for number, line in enumerate(text.splitlines(), 1):
        if found := re.match(r"\s*\[\s*([^\[\]]+?)\s*\]\s*(?:#.*)?$", line):
            inside = tuple(part.strip().strip("\"'") for part in found[1].split("."))
            if inside == place:
                return number
            if inside == place[:-1]:
                table = number
        elif found := re.match(r"\s*([A-Za-z0-9_.\-\"']+)\s*=", line):
            name = (*inside, *(part.strip("\"'") for part in found[1].split(".")))
            if name == place:
                return number
            if name == place[:-1]:  # an inline table
                table = number
    return table


def _in_folder(folder: Path) -> str:
    files = sorted(entry.name for entry in folder.glob("*.toml"))
    return " or ".join(str(folder / name) for name in files[:4]) or "a TOML file"


def _where_to_look(path: Path, error: OSError | ValueError) -> str:
    if not isinstance(error, FileNotFoundError | NotADirectoryError | ValueError):
        return f"Let this user read {path}, or run the command as the user that it belongs to."
    variable = " or VEILMATCH_CONFIG" if path.name == "device.toml" else ""
    owner = {"device.toml": "the device"}.get(path.name, "the party")
    return f"Go to the folder of {owner}, where its configuration is, or name the file: --config FILE{variable}."
