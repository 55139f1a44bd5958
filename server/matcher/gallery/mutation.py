"""What changes a gallery, and the hash chain that two matchers compare.

A mutation is prepared (durable, not visible) and then committed or discarded. Number `sequence` of
a gallery has the chain value next_chain(previous chain value, sequence, digest of the mutation), so
equal chain values mean equal histories. Made by the matcher's service; kept by `store.Store`;
compared by `agreement.reconcile`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from veilmatch.crypto.errors import IntegrityError, ModelMismatchError
from veilmatch.crypto.parameters import ParameterSet

#: rotate: a step of a rotation, in the gallery under the new key; rotated: its last one.
Kind = Literal["enrol", "erase", "bulk", "rotate", "rotated"]
KINDS: tuple[str, ...] = get_args(Kind)

#: Size of a chain value and of a digest: SHA-256.
CHAIN_BYTES = 32
#: No gallery has as many packs; a larger number is a mistake, not a size.
_PACKS_MAX = 1 << 31


@dataclass(frozen=True)
class Template:
    """One template at its place.

    record: its lane ciphertexts joined, lane_ciphertexts * ciphertext_bytes bytes; the record of truth. by_device: a
    device encrypted it (bulk enrolment), so that it is gated wherever it is converted; otherwise the matchers made
    it, and it is a valid vector or zero by construction.
    """

    pack: int
    slot: int
    subject: str
    record: bytes = field(repr=False)
    by_device: bool


@dataclass(frozen=True)
class Mutation:
    """One change of a gallery.

    token: chosen by the client, names the mutation for retries; request_digest: of the request that
    carried the token. packs: new whole content of every changed pack, D ciphertexts joined
    (dimension * ciphertext_bytes bytes). added and removed: every (pack, slot) lies in one of `packs`. retired: those
    of the removed ones whose column stays in the pack; their slots are never used again.
    result: JSON that a retry with the same token is answered with. model: names the embedding model of
    what is added; "" where nothing is. device: whose request it was.
    """

    kind: Kind
    token: bytes
    request_digest: bytes
    packs: Mapping[int, bytes] = field(repr=False)
    added: Sequence[Template] = field(repr=False)
    removed: Sequence[tuple[int, int]] = field(repr=False)
    result: str
    model: str
    device: str
    retired: Sequence[tuple[int, int]] = field(default=(), repr=False)

    def digest(self) -> bytes:
        """Return SHA-256 (32 bytes) over an unambiguous encoding of every field.

        The order of packs, added, removed and retired has no meaning and does not change the digest.
        """
        h = hashlib.sha256(b"veilmatch mutation v4\0")
        texts = (self.kind, self.result, self.model, self.device)
        for part in (self.token, self.request_digest, *(text.encode() for text in texts)):
            _update(h, part)
        _update(h, _number(len(self.packs)))
        for pack in sorted(self.packs):
            _update(h, _number(pack))
            _update(h, self.packs[pack])
        _update(h, _number(len(self.added)))
        for t in sorted(self.added, key=lambda t: (t.pack, t.slot)):
            for part in (_number(t.pack), _number(t.slot), t.subject.encode(), t.record, _number(t.by_device)):
                _update(h, part)
        _update(h, _number(len(self.removed)))
        _update(h, _number(len(self.retired)))
        for places in (self.removed, self.retired):
            for pack, slot in sorted(places):
                _update(h, _number(pack))
                _update(h, _number(slot))
        return h.digest()

    def check(self, parameters: ParameterSet) -> None:
        """Raise IntegrityError if the mutation contradicts itself or the sizes of `parameters`."""
        pack_bytes = parameters.dimension * parameters.ciphertext_bytes
        record_bytes = parameters.lane_ciphertexts * parameters.ciphertext_bytes
        added = {(t.pack, t.slot) for t in self.added}
        removed = set(self.removed)
        touched = added | removed
        for wrong, message in (
            (self.kind not in KINDS, "a mutation of unknown kind"),
            (not self.token or not self.request_digest, "a mutation without token or request digest"),
            (bool(self.model) != bool(self.added), "a mutation that names no model, or one for nothing"),
            (any(len(c) != pack_bytes for c in self.packs.values()), "a pack of the wrong size"),
            (any(len(t.record) != record_bytes for t in self.added), "a record of the wrong size"),
            (not all(0 <= pack < _PACKS_MAX for pack in self.packs), "a pack out of range"),
            (not all(0 <= slot < parameters.slots for _, slot in touched), "a slot out of range"),
            (any(not t.subject for t in self.added), "a template without a subject"),
            (not self.device, "a mutation of no device"),
            (len(added) != len(self.added), "a mutation fills a slot twice"),
            (len(removed) != len(self.removed), "a mutation empties a slot twice"),
            (not set(self.retired) <= removed - added, "a slot is given up that is not emptied"),
            (len(set(self.retired)) != len(self.retired), "a mutation gives a slot up twice"),
            (any(pack not in self.packs for pack, _ in touched), "a changed slot in an unchanged pack"),
        ):
            if wrong:
                raise IntegrityError(message)


@dataclass(frozen=True)
class GalleryState:
    """What two matchers compare: mutations committed, chain value of the last one and of the pending one."""

    sequence: int
    chain: bytes
    pending_chain: bytes | None = None

    def __str__(self) -> str:
        pending = f", pending {self.pending_chain.hex()[:8]}" if self.pending_chain is not None else ""
        return f"sequence {self.sequence}, chain {self.chain.hex()[:8]}{pending}"


@dataclass(frozen=True)
class LogEntry:
    """A committed mutation as a retry with its token sees it.

    valid_share: what this matcher keeps for the device, its XOR share of whether the vector was valid; b"" for none.
    """

    sequence: int
    kind: str
    request_digest: bytes
    result: str
    device: str
    valid_share: bytes = field(repr=False)


@dataclass(frozen=True)
class Record:
    """The record of a template: its lane ciphertexts joined, and whether a device encrypted it; see Template."""

    ciphertexts: bytes = field(repr=False)
    by_device: bool


def require_same_model(present: str | None, model: str) -> None:
    """Raise ModelMismatchError unless embeddings of `model` can stand beside those present (None: there are none)."""
    if present is not None and model != present:
        raise ModelMismatchError("the gallery holds embeddings of another model", got=model, expected=present)


def initial_chain(gallery: str, key_id: bytes, parameters: ParameterSet) -> bytes:
    """Return the chain value (32 bytes) of a gallery without any mutation."""
    h = hashlib.sha256()
    for part in (b"veilmatch gallery v1", gallery.encode(), key_id, parameters.name.encode()):
        _update(h, part)
    return h.digest()


def next_chain(chain: bytes, sequence: int, digest: bytes) -> bytes:
    """Return the chain value (32 bytes) after mutation number `sequence` (from 1) with this digest."""
    h = hashlib.sha256()
    for part in (b"veilmatch gallery chain v1", chain, _number(sequence), digest):
        _update(h, part)
    return h.digest()


def _number(value: int) -> bytes:
    return value.to_bytes(8, "big", signed=True)


def _update(h: hashlib._Hash, part: bytes) -> None:
    """Length first, so that no two lists of parts have one encoding."""
    h.update(len(part).to_bytes(8, "big"))
    h.update(part)
