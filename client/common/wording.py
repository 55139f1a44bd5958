"""What is wrong with a configuration, in plain words: every field, where it stands, and what belongs there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from veilmatch.common.known_fields import FIELDS, PREFIX, closest
from veilmatch.common.toml_file import line_of

#: By pydantic's type of error; braces are fields of its context, which hold limits and never what was found.
_WORDS = {
    "missing": "is missing",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "dict_type": "must be a table",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a whole number of fewer digits",
    "int_type": "must be a whole number",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "list_type": "must be a list in brackets",
    "literal_error": "must be {expected}",
    "model_type": "must be a table",
    "model_attributes_type": "must be a table",
    "path_type": "must be a path in quotes",
    "string_too_long": "must have at most {max_length} characters",
    "string_too_short": "must have at least {min_length} character",
    "string_type": "must be text in quotes",
    "string_unicode": "must be text",
    "too_long": "must have at most {max_length} entries",
    "too_short": "must have at least {min_length} entry",
    "value_error": "{error}",
}


#: Numbers beyond are not written out.
_LONG = 10**15


def what_is_wrong(error: ValidationError, kind: type[BaseModel], path: Path, text: str) -> str:
    """Say what is wrong in every field, and what is there: of texts only that they are. text: of the file at `path`."""
    return "; ".join(_one(item, kind, path, text) for item in error.errors(include_url=False))


def _one(item: ErrorDetails, kind: type[BaseModel], path: Path, text: str) -> str:
    is_key = item["loc"][-1:] == ("[key]",)
    place = tuple(str(part) for part in item["loc"] if part != "[key]")
    if not place:
        return f"{path}: {_words(item)}"
    if item["type"] == "extra_forbidden" or (is_key and item["type"] == "literal_error"):
        words = _unknown(place, kind, item)
    else:
        words = _words(item)
    return f"{_where(place, path, text)}: {'.'.join(place)}: {words}"


def _words(item: ErrorDetails) -> str:
    context = item.get("ctx", {})
    pattern = _WORDS.get(item["type"])
    words = item["msg"] if pattern is None else pattern.format(**context)
    # Of what is missing, of lengths and of what whole tables have in common, nothing more can be said.
    is_whole = item["type"] in ("missing", "too_long", "too_short", "string_too_long", "string_too_short")
    return words if is_whole or not item["loc"] else f"{words}, not {_found(item['input'])}"


def _found(value: object) -> str:
    """Describe a value. No text is quoted: it may be a passphrase, in the wrong place."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return f"{value:.10g}" if abs(value) < _LONG or value != value else "so large a number"
    if isinstance(value, str):
        return "this text" if value else "an empty text"
    return "a list" if isinstance(value, list) else "a table" if isinstance(value, dict) else "a date or time"


def _unknown(place: tuple[str, ...], kind: type[BaseModel], item: ErrorDetails) -> str:
    """Say that there is no such field, and which one was probably meant."""
    *outer, name = place
    known = _names(kind, tuple(outer))
    others = [file for file, fields in FIELDS.items() if not outer and name in fields]
    if others:
        return f"no such field here; it belongs in {' and '.join(others)}"
    if meant := closest(name, known):
        return f"no such field; did you mean {meant}?"
    if allowed := item.get("ctx", {}).get("expected"):
        return f"no such name here; it must be {allowed}"
    return f"no such field; there are {', '.join(sorted(known))}" if known and outer else "no such field"


def _names(kind: type[BaseModel], outer: tuple[str, ...]) -> list[str]:
    """Return the names in a table: of the model that describes it, or the keys that its type allows."""
    model: Any = kind
    for name in outer:
        field = model.model_fields.get(name) if isinstance(model, type) and issubclass(model, BaseModel) else None
        if field is None:
            return []
        model = field.annotation
        for part in get_args(model):  # X | None
            if isinstance(part, type) and issubclass(part, BaseModel):
                model = part
    if isinstance(model, type) and issubclass(model, BaseModel):
        return list(model.model_fields)
    if get_origin(model) is dict:
        return [key for key in get_args(get_args(model)[0]) if isinstance(key, str)]
    return []


def _where(place: tuple[str, ...], path: Path, text: str) -> str:
    """Name the variable of the environment, or the file and line, that a field was read from."""
    variables = {name.upper(): name for name in os.environ}
    for depth in range(len(place), 0, -1):
        if found := variables.get(PREFIX + "__".join(place[:depth]).upper()):
            return f"the environment: {found}"
    line = line_of(text, place)
    return f"{path}, line {line}" if line else str(path)
