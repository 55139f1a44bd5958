"""What goes to an actor and comes back: bytes. Ray passes bytes on as they are, and would pickle anything else.

An answer is one letter and a body: what was asked for, or a typed error. No exception of an actor reaches Ray, which
would pickle it, and write its text into its logs.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from veilmatch.crypto.errors import IntegrityError, VeilmatchError
from veilmatch.server.matcher.cluster.shard import State

_HEAD = struct.Struct(">HQ32s")  # gallery, sequence, chain
_ITEM = struct.Struct(">QQ")  # number, length
_RESULT, _ERROR = b"r", b"e"


def head(gallery: int, state: State) -> bytes:
    """Return what every message begins with: a gallery, and the state that is to be served."""
    return _HEAD.pack(gallery, *state)


def parse_head(data: bytes) -> tuple[int, State]:
    """Return what `head` was made of."""
    gallery, sequence, chain = _HEAD.unpack(data)
    return gallery, State(sequence, chain)


def join(items: Sequence[tuple[int, bytes]]) -> bytes:
    """Return numbered contents as one message."""
    return b"".join(part for number, content in items for part in (_ITEM.pack(number, len(content)), content))


def split(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield what `join` was given."""
    at = 0
    while at < len(data):
        number, length = _ITEM.unpack_from(data, at)
        at += _ITEM.size + length
        yield number, data[at - length : at]


@dataclass(frozen=True)
class Status:
    """Where an actor stands. missing: the first of the packs that it lacks. why: it could not read the file, "" if so.

    packs: how many it has of the gallery. node, pid: where it runs.
    """

    state: State
    missing: tuple[int, ...]
    packs: int
    node: str
    pid: int
    why: str

    def encode(self) -> bytes:
        """Return it as JSON."""
        fields = {
            "sequence": self.state.sequence, "chain": self.state.chain.hex(), "missing": self.missing,
            "packs": self.packs, "node": self.node, "pid": self.pid, "why": self.why,
        }  # fmt: skip
        return json.dumps(fields).encode()

    @staticmethod
    def decode(data: bytes) -> Status:
        """Return what `encode` was called on."""
        fields = json.loads(data)
        state = State(fields["sequence"], bytes.fromhex(fields["chain"]))
        return Status(
            state, tuple(fields["missing"]), fields["packs"], fields["node"], fields["pid"], fields["why"]
        )  # fmt: skip


def answer(body: bytes) -> bytes:
    """Return an answer."""
    return _RESULT + body


def failure(error: Exception) -> bytes:
    """Return an error as an answer. The text of an unforeseen one may quote a secret, its class does not."""
    if not isinstance(error, VeilmatchError):
        error = IntegrityError("a shard failed", got=type(error).__name__)
    return _ERROR + json.dumps(error.fields()).encode()


def opened(data: bytes) -> bytes:
    """Return the body of an answer. Raises the error that it is."""
    if data[:1] == _ERROR:
        raise VeilmatchError.from_fields(json.loads(data[1:]))
    return data[1:]
