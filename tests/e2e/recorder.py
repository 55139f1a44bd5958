"""Notes what every daemon receives over gRPC: who, which message, and how long each part of it is.

A word that tests give to subjects alone is looked for in every message as well. `recording(folder)` gives the
environment in which daemons start with the recorder in them; nothing else of them changes. Dealt randomness is noted
apart, because it is fetched ahead of time, whenever the stock is low.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from tests import hooks

FOLDER_VARIABLE = "RECORDED_MESSAGES"
#: Begins the name of a subject wherever a test wants to know who is told it.
SUBJECT = b"subject-that-is-looked-for"

#: What one party received or sent, by (party, direction and type): messages of one type come in order.
Traffic = dict[tuple[str, str], list[Any]]


def recording(folder: Path) -> dict[str, str]:
    """Return what to add to the environment of daemons, so that they note their messages in `folder`."""
    folder.mkdir()
    return hooks.starting_with("tests.e2e.recorder") | {FOLDER_VARIABLE: str(folder)}


def recorded(folder: Path) -> Traffic:
    """Return what was noted since the last call."""
    found: Traffic = {}
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_text().splitlines():
            what, content, _ = json.loads(line)
            found.setdefault((path.stem, what), []).append(content)
        os.truncate(path, 0)
    return found


def dealt(folder: Path) -> dict[str, set[str]]:
    """Return the fields of everything about dealt randomness that each party was sent since it started."""
    found: dict[str, set[str]] = {}
    for path in sorted(folder.glob("*.dealing")):
        for line in path.read_text().splitlines():
            what, content, _ = json.loads(line)
            way, kind = what.split()
            if way == "receives":
                found.setdefault(path.stem, set()).update(f"{kind}.{part}" for part in parts(content))
    return found


def told_of_subjects(folder: Path) -> set[tuple[str, str]]:
    """Return in which messages, as (party, direction and type), a name with `SUBJECT` in it was."""
    lines = ((path.stem, json.loads(line)) for path in folder.glob("*.jsonl") for line in path.open())
    return {(party, what) for party, (what, _, named) in lines if named}


def parts(shape: Any) -> set[str]:
    """Return the paths of the fields that are not empty in a noted message."""
    found = set()
    for name, content in shape.items():
        items = content if isinstance(content, list) else [content]
        for item in items:
            if isinstance(item, dict):
                found |= {f"{name}.{below}" for below in parts(item)}
            elif item:
                found.add(name)
    return found


def shape(message: Any) -> Any:
    """The names of a message's fields with the lengths of what is in them; of numbers, that there is one."""
    found: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if field.is_repeated:
            found[field.name] = [_size(item) for item in value]
        elif not field.has_presence or message.HasField(field.name):
            found[field.name] = _size(value)
    return found


def _size(value: Any) -> Any:
    if hasattr(value, "DESCRIPTOR"):
        return shape(value)
    return len(value) if isinstance(value, bytes | str) else "number"


def install() -> None:
    """Note what this process receives and answers from now on."""
    folder, party = Path(os.environ[FOLDER_VARIABLE]), hooks.party()
    flags = os.O_CREAT | os.O_APPEND | os.O_WRONLY
    requests, dealing = (os.open(folder / f"{party}.{kind}", flags) for kind in ("jsonl", "dealing"))

    def note(direction: str, message: Any) -> None:
        kind = type(message).__name__
        line = [f"{direction} {kind}", shape(message), SUBJECT in message.SerializeToString()]
        target = dealing if kind in hooks.NOT_OF_A_REQUEST else requests
        os.write(target, json.dumps(line).encode() + b"\n")

    hooks.on_every_message(note, dealing=True)
