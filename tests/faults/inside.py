"""Inside a daemon: dies, or hangs, at the n-th message, and notes every range of stock that it hands out.

A file `PARTY.armed` holds an Arming. While it is there, messages are counted in `PARTY.count` and named in
`PARTY.names`, and at the n-th the whole process group is sent the signal: right after a message was received, or right
before one would be answered.
"""

from __future__ import annotations

import json
import os
import signal
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests import hooks

FOLDER_VARIABLE = "FAULTS_FOLDER"


@dataclass(frozen=True)
class Arming:
    """name: of this arming. at: number of the message, from 1. how: SIGKILL or SIGSTOP.

    following: counts the messages of a matcher that follows, and not those of requests. only: those of this name.
    """

    name: str
    at: int
    how: str = "SIGKILL"
    following: bool = False
    only: str = ""


def environment(folder: Path) -> dict[str, str]:
    """Return what to add to the environment of daemons that can be armed in `folder`."""
    folder.mkdir(parents=True)
    return hooks.starting_with("tests.faults.inside") | {FOLDER_VARIABLE: str(folder)}


def install() -> None:
    """Make this process one that can be armed."""
    folder, party = Path(os.environ[FOLDER_VARIABLE]), hooks.party()
    if party != "nobody":
        hooks.on_every_message(_Fuse(folder, party), dealing=True)
    if party.startswith("keyholder"):
        _note_reservations(folder / f"{party}.reserved")


class _Fuse:
    """Counts messages while it is armed."""

    def __init__(self, folder: Path, party: str) -> None:
        self._armed = folder / f"{party}.armed"
        self._count_file = folder / f"{party}.count"
        self._names_file = folder / f"{party}.names"
        self._arming: Arming | None = None
        self._count = 0

    def __call__(self, direction: str, message: Any) -> None:
        try:
            arming = read(self._armed)
        except FileNotFoundError:
            return
        if arming != self._arming:
            self._arming, self._count = arming, 0
            self._names_file.write_text("")
        kind = type(message).__name__
        if not (kind in hooks.FOLLOWING if arming.following else hooks.is_of_a_request(message)):
            return
        if arming.only and _name(message) != arming.only:
            return
        self._count += 1
        with self._names_file.open("a") as names:
            names.write(f"{_name(message)}\n")
        self._count_file.write_text(f"{self._count} {direction} {kind}")
        if self._count == arming.at:
            os.killpg(os.getpgrp(), signal.Signals[arming.how])


def write(file: Path, arming: Arming) -> None:
    """Arm the daemon whose file this is."""
    partial = file.with_suffix(".arming")
    partial.write_text(json.dumps(asdict(arming)))
    partial.rename(file)


def read(file: Path) -> Arming:
    """Return what is written there."""
    return Arming(**json.loads(file.read_text()))


def _name(message: Any) -> str:
    """What the message is: what it holds, of those that may hold one of several things."""
    choices = [oneof.name for oneof in message.DESCRIPTOR.oneofs]
    held = [message.WhichOneof(choice) for choice in choices if message.WhichOneof(choice)]
    return held[0] if held else type(message).__name__


def _note_reservations(path: Path) -> None:
    from veilmatch.server.keyholder.stock.shelf import Shelf

    target = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    plain = Shelf.reserve

    async def reserve(self: Any, wanted: Any) -> Any:
        reserved = await plain(self, wanted)
        span = f"{wanted.kind} {reserved.start} {reserved.start + wanted.count}"
        os.write(target, f"{self._name.pair} {self._name.stock.hex()} {span}\n".encode())
        return reserved

    Shelf.reserve = reserve  # type: ignore[method-assign]
