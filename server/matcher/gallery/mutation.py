"""What changes a gallery, and the hash chain that organisations compare and sign.

A mutation is its body (`body.Body`) with the contents that the body names by leaves. It is accepted (durable, not
visible) and then committed, or gives way to another one. Number `sequence` of a gallery has the chain value
next_chain(previous chain value, sequence, digest of the body), so equal chain values mean equal histories.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from veilmatch.crypto.errors import IntegrityError, ModelMismatchError
from veilmatch.crypto.gallery_change import chained
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.crypto.terms import Terms
from veilmatch.server.matcher.agreement.acceptor import Accepted, GalleryState
from veilmatch.server.matcher.gallery.body import Added, Body, Kind, pack_leaf, template_leaf

__all__ = ["Accepted", "GalleryState", "Kind", "LogEntry", "Mutation", "Record", "Template"]


@dataclass(frozen=True)
class Template:
    """One template at its place.

    record: its lane ciphertexts joined, lane_ciphertexts * ciphertext_bytes bytes; the record of truth. by_device: a
    device encrypted it (bulk enrolment), so that it is gated wherever it is converted; otherwise the matchers made
    it, and it is a valid vector or zero by construction. terms: encoded (crypto/terms.py), b"" where nothing is known.
    """

    pack: int
    slot: int
    subject: str
    record: bytes = field(repr=False)
    by_device: bool
    terms: bytes = field(default=b"", repr=False)

    @property
    def leaf(self) -> bytes:
        """What a body names it by, 32 bytes."""
        return template_leaf(self.subject, self.record, self.terms)


@dataclass(frozen=True)
class Mutation:
    """One change of a gallery.

    token: chosen by the client, names the mutation for retries; request_digest: of the request that
    carried the token. packs: new whole content of every changed pack, D ciphertexts joined
    (dimension * ciphertext_bytes bytes). added and removed: every (pack, slot) lies in one of `packs`. retired: those
    of the removed ones whose column stays in the pack; their slots are never used again.
    result: JSON that a retry with the same token is answered with. model: names the embedding model of
    what is added; "" where nothing is. device: whose request it was. made_s: when its device signed it, whole seconds
    since 1970, 0 if it is not to say; of one that says it, `token` is the digest of the token (`body.Body`).
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
    made_s: int = 0

    @cached_property
    def body(self) -> Body:
        """What the log keeps of it: contents as leaves, all lists in order."""
        return Body(
            self.kind,
            self.token,
            self.request_digest,
            self.result,
            self.model,
            self.device,
            tuple((number, pack_leaf(content)) for number, content in sorted(self.packs.items())),
            tuple(
                sorted(
                    Added(t.pack, t.slot, template_leaf(t.subject, t.record, t.terms), t.by_device) for t in self.added
                )
            ),
            tuple(sorted(self.removed)),
            tuple(sorted(self.retired)),
            self.made_s,
        )

    @property
    def size(self) -> int:
        """How many bytes of packs and records it brings."""
        return sum(map(len, self.packs.values())) + sum(len(t.record) for t in self.added)

    def digest(self) -> bytes:
        """Return the digest of the body, 32 bytes; it covers every content by its leaf."""
        return self.body.digest()

    def check(self, parameters: ParameterSet) -> None:
        """Raise IntegrityError if the mutation contradicts itself or the sizes of `parameters`."""
        pack_bytes = parameters.dimension * parameters.ciphertext_bytes
        record_bytes = parameters.lane_ciphertexts * parameters.ciphertext_bytes
        for wrong, message in (
            (any(len(c) != pack_bytes for c in self.packs.values()), "a pack of the wrong size"),
            (any(len(t.record) != record_bytes for t in self.added), "a record of the wrong size"),
            (any(not t.subject for t in self.added), "a template without a subject"),
            (any(bool(t.terms) and not Terms.decode(t.terms) for t in self.added), "a template with wrong terms"),
        ):
            if wrong:
                raise IntegrityError(message)
        self.body.check(parameters)


@dataclass(frozen=True)
class LogEntry:
    """A committed mutation as a retry with its token sees it."""

    sequence: int
    kind: str
    request_digest: bytes
    result: str
    device: str


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
    """Return the chain value (32 bytes) of a gallery without any mutation; `gallery_change.next_chain` goes on."""
    return chained(b"veilmatch gallery v1", gallery.encode(), key_id, parameters.name.encode())
