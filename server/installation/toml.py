"""Writing the few TOML files of an installation: the standard library only reads them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def to_toml(fields: Mapping[str, Any]) -> str:
    """Return TOML of strings, numbers, lists of strings, and one level of tables; tables last."""
    plain = {name: value for name, value in fields.items() if not isinstance(value, Mapping)}
    lines = [f"{name} = {_value(value)}" for name, value in plain.items()]
    for name, table in fields.items():
        if isinstance(table, Mapping):
            lines += ["", f"[{name}]", *(f"{_key(key)} = {_value(value)}" for key, value in table.items())]
    return "\n".join(lines) + "\n"


def _key(key: str) -> str:
    return key if key.replace("-", "").replace("_", "").isalnum() and key.isascii() else json.dumps(key)


def _value(value: Any) -> str:
    # JSON's strings, numbers, booleans and lists of them are TOML's as well.
    return json.dumps(value, ensure_ascii=True)
