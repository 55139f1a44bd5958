"""Inside a daemon: it lies to devices about answers while a file `PARTY.lies` says how.

flips: every bit of its share of an answer. garbles: its share is random. withholds: it answers with nothing in it. A
key holder does that to its matcher, a matcher to the device. Everything else it does as it should.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests import hooks

FOLDER_VARIABLE = "LIES_FOLDER"
LIES = ("flips", "garbles", "withholds")


def environment(folder: Path) -> dict[str, str]:
    """Return what to add to the environment of daemons that can be made to lie in `folder`."""
    folder.mkdir()
    return hooks.starting_with("tests.faults.lying") | {FOLDER_VARIABLE: str(folder)}


def lie(folder: Path, party: str, how: str | None) -> None:
    """Let a daemon lie from now on, or be honest again (None)."""
    file = folder / f"{party}.lies"
    if how is None:
        file.unlink(missing_ok=True)
    else:
        partial = file.with_suffix(".partial")
        partial.write_text(how)
        partial.rename(file)


def install() -> None:
    """Make this process one that can lie."""
    party = hooks.party()
    if party != "nobody":
        hooks.on_every_message(_Liar(Path(os.environ[FOLDER_VARIABLE]) / f"{party}.lies"))


class _Liar:
    def __init__(self, file: Path) -> None:
        self._file = file

    def __call__(self, direction: str, message: Any) -> None:
        answer = _answer(message) if direction == "answers" else None
        if answer is None or not answer.count or not self._file.exists():
            return
        match self._file.read_text():
            case "flips":
                answer.share = _changed(answer, lambda byte: byte ^ 0xFF)
            case "garbles":
                answer.share = _changed(answer, lambda _: secrets.randbits(8))
                answer.valid_share = bool(secrets.randbits(1))
            case "withholds":
                message.Clear()


def _answer(message: Any) -> Any:
    """Return what holds a share of an answer, or None."""
    kind = type(message).__name__
    if kind == "MatchReply":
        return message
    if kind == "KeyHolderToMatcher" and message.WhichOneof("content") == "decision_share":
        return message.decision_share
    return None


def _changed(answer: Any, change: Callable[[int], int]) -> bytes:
    """Return the share with every byte changed; bits behind the last answer stay 0, or it would be refused."""
    share = int.from_bytes(bytes(change(byte) for byte in answer.share), "little")
    return (share & ((1 << answer.count) - 1)).to_bytes(len(answer.share), "little")
