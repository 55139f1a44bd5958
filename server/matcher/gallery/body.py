"""What a change says, without what it brings: the part of it that the log keeps for ever and that organisations sign.

A body names packs and templates by leaves, which are digests of their contents. So a log can be verified when contents
were overwritten or erased since, and it holds no name of a subject: the leaf of a template hides it behind the record.

Bytes in and bytes out. One encoding only: `decode` accepts exactly what `encode` makes, byte for byte.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

from veilmatch.crypto.digests import digest
from veilmatch.crypto.errors import IntegrityError
from veilmatch.crypto.gallery_change import DATED_FORMAT
from veilmatch.crypto.parameters import ParameterSet

#: rotate: a step of a rotation, in the gallery under the new key; rotated: its last one; closed: the last change of
#: the gallery under the old key. moved: all of a gallery that was kept before changes had certificates. card, card
#: revoked: of records that nobody keeps here, see cards.py.
Kind = Literal["enrol", "erase", "bulk", "rotate", "rotated", "closed", "moved", "card", "card revoked"]
KINDS: tuple[str, ...] = get_args(Kind)

LEAF_BYTES = 32
#: An encoded body that is taken from another matcher: that of a bulk enrolment of millions.
BODY_BYTES_MAX = 1 << 28
#: No gallery has as many packs; a larger number is a mistake, not a size.
_PACKS_MAX = 1 << 31
_FORMAT = "veilmatch change 1"
#: Times are exact as numbers of JSON.
_LATEST_S = 1 << 53


class Added(NamedTuple):
    """A template that a change adds: its place, the leaf of subject and record, and whether a device encrypted it."""

    pack: int
    slot: int
    leaf: bytes
    by_device: bool


@dataclass(frozen=True)
class Body:
    """A change of a gallery; fields as in `mutation.Mutation`, with leaves for contents. All lists ascend.

    One that is dated (made_s is not 0) has a format of its own, and `token` is then the digest of what the device chose
    (`gallery_change.token_digest`): with the token beside it, `request_digest` would confirm a guessed subject.
    """

    kind: str
    token: bytes
    request_digest: bytes
    result: str
    model: str
    device: str
    packs: tuple[tuple[int, bytes], ...]
    added: tuple[Added, ...]
    removed: tuple[tuple[int, int], ...]
    retired: tuple[tuple[int, int], ...]
    made_s: int = 0

    def encode(self) -> bytes:
        """Return the one encoding of this body: JSON, for auditors."""
        fields: dict[str, Any] = {
            "format": DATED_FORMAT if self.made_s else _FORMAT,
            "kind": self.kind,
            "token": self.token.hex(),
            "request_digest": self.request_digest.hex(),
            "result": self.result,
            "model": self.model,
            "device": self.device,
            "packs": [[number, leaf.hex()] for number, leaf in self.packs],
            "added": [[t.pack, t.slot, t.leaf.hex(), t.by_device] for t in self.added],
            "removed": self.removed,
            "retired": self.retired,
        }
        if self.made_s:
            fields["made_s"] = self.made_s
        return json.dumps(fields, separators=(",", ":")).encode()

    @staticmethod
    def decode(data: bytes) -> Body:
        """Return the body. Raises IntegrityError unless `data` is exactly its encoding."""
        try:
            fields: dict[str, Any] = json.loads(data)
            added = [
                Added(_of(int, pack), _of(int, slot), bytes.fromhex(leaf), _of(bool, by_device))
                for pack, slot, leaf, by_device in fields["added"]
            ]
            body = Body(
                kind=_of(str, fields["kind"]),
                token=bytes.fromhex(fields["token"]),
                request_digest=bytes.fromhex(fields["request_digest"]),
                result=_of(str, fields["result"]),
                model=_of(str, fields["model"]),
                device=_of(str, fields["device"]),
                packs=tuple((_of(int, number), bytes.fromhex(leaf)) for number, leaf in fields["packs"]),
                added=tuple(added),
                removed=_places(fields["removed"]),
                retired=_places(fields["retired"]),
                made_s=_of(int, fields.get("made_s", 0)),
            )
            same = body.encode() == data
        except (ValueError, TypeError, KeyError, RecursionError):
            same = False
        if not same:
            raise IntegrityError("not the one encoding of a change", expected=f"{_FORMAT}, or {DATED_FORMAT}")
        return body

    def digest(self) -> bytes:
        """Return SHA-256 of the encoding, 32 bytes: what the chain of the gallery goes over."""
        return digest_of(self.encode())

    def check(self, parameters: ParameterSet) -> None:
        """Raise IntegrityError if the change contradicts itself."""
        packs = {number for number, _ in self.packs}
        added = {(t.pack, t.slot) for t in self.added}
        removed, retired = set(self.removed), set(self.retired)
        touched = added | removed | retired
        may_retire = self.kind == "moved" or retired <= removed
        leaves = [leaf for _, leaf in self.packs] + [t.leaf for t in self.added]
        for wrong, message in (
            (self.kind not in KINDS, "a mutation of unknown kind"),
            (self.kind in ("card", "card revoked") and bool(packs), "a change of a card that changes packs"),
            (not self.token or not self.request_digest, "a mutation without token or request digest"),
            (bool(self.model) != bool(self.added), "a mutation that names no model, or one for nothing"),
            (any(len(leaf) != LEAF_BYTES for leaf in leaves), "a leaf of the wrong size"),
            (not all(0 <= pack < _PACKS_MAX for pack in packs), "a pack out of range"),
            (not all(0 <= slot < parameters.slots for _, slot in touched), "a slot out of range"),
            (not self.device, "a mutation of no device"),
            (not 0 <= self.made_s <= _LATEST_S, "a mutation of no time"),
            (len(packs) != len(self.packs), "a mutation writes a pack twice"),
            (len(added) != len(self.added), "a mutation fills a slot twice"),
            (len(removed) != len(self.removed), "a mutation empties a slot twice"),
            (not may_retire or retired & added, "a slot is given up that is not emptied"),
            (len(retired) != len(self.retired), "a mutation gives a slot up twice"),
            (any(pack not in packs for pack, _ in touched), "a changed slot in an unchanged pack"),
            (any(list(items) != sorted(items) for items in self._lists()), "a change that is not in order"),
        ):
            if wrong:
                raise IntegrityError(message)

    def _lists(self) -> tuple[tuple[Any, ...], ...]:
        return self.packs, self.added, self.removed, self.retired


def pack_leaf(content: bytes) -> bytes:
    """Return the leaf (32 bytes) of a pack."""
    return hashlib.sha256(content).digest()


def template_leaf(subject: str, record: bytes, terms: bytes = b"") -> bytes:
    """Return the leaf (32 bytes) of a template: nobody guesses a subject from it who does not have the record.

    terms: encoded (crypto/terms.py), b"" for none.
    """
    if terms:
        return digest("template of a gallery with terms", subject, record, terms)
    return digest("template of a gallery", subject, record)


def digest_of(body: bytes) -> bytes:
    """Return the digest (32 bytes) of an encoded body."""
    return hashlib.sha256(body).digest()


def _of(kind: Callable[..., Any], value: Any) -> Any:
    if type(value) is not kind:
        raise TypeError
    return value


def _places(values: Any) -> tuple[tuple[int, int], ...]:
    return tuple((_of(int, pack), _of(int, slot)) for pack, slot in values)
