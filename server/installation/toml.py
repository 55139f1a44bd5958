"""Writing the few TOML files of an installation: the standard library only reads them."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from typing import Any

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_TABLE = r"^[ \t]*\[[ \t]*{name}[ \t]*\][ \t]*(?:#[^\n]*)?\r?\n"


def to_toml(fields: Mapping[str, Any]) -> str:
    """Return TOML of strings, finite numbers, booleans, lists of these, and one level of tables; tables last."""
    lines = [_line(name, value) for name, value in fields.items() if not isinstance(value, Mapping)]
    for name, table in fields.items():
        if isinstance(table, Mapping):
            lines += ["", f"[{_key(name)}]", *(_line(key, value) for key, value in table.items())]
    return "\n".join(lines) + "\n"


def with_entry(text: str, table: str, key: str, value: str) -> str:
    """Return TOML `text` with `key = value` first in a table, its comments and order kept where possible.

    Where the line cannot simply be put in (the table is written inline, say), the whole is written anew, without
    comments. Raises ValueError or TypeError if the text is not TOML or holds what `to_toml` cannot write.
    """
    fields = tomllib.loads(text)
    wanted = fields | {table: {key: value} | fields.get(table, {})}
    header = re.search(_TABLE.format(name=re.escape(table)), text + "\n", re.MULTILINE)
    if header:
        edited = (text + "\n")[: header.end()] + _line(key, value) + "\n" + text[header.end() :]
        try:
            if tomllib.loads(edited) == wanted:
                return edited
        except tomllib.TOMLDecodeError:
            pass
    rewritten = to_toml(wanted)
    if tomllib.loads(rewritten) != wanted:
        raise ValueError("a value that this module does not write")
    return rewritten


def _line(key: str, value: Any) -> str:
    return f"{_key(key)} = {_value(value)}"


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _value(key)


def _value(value: Any) -> str:
    # JSON's strings, finite numbers, booleans and lists of them are TOML's as well, but for one character.
    return json.dumps(value, ensure_ascii=False, allow_nan=False).replace("\x7f", "\\u007f")
