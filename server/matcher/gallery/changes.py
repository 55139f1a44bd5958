"""Changes as organisations hand them to each other: bodies with certificates, and the contents that are still there.

Whoever is behind takes several at once. Contents that a later one of them overwrites or erases are not sent: what
counts is that every body is in the chain, that every number has its certificate, and that what is there in the end is
what the bodies name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, get_args

from veilmatch.crypto.errors import IntegrityError
from veilmatch.crypto.gallery_change import next_chain
from veilmatch.server.matcher.agreement.acceptor import GalleryState, commit
from veilmatch.server.matcher.agreement.certificates import Certificate, Scope, Signers
from veilmatch.server.matcher.gallery.body import Body, Kind, digest_of, pack_leaf, template_leaf
from veilmatch.server.matcher.gallery.mutation import Mutation, Template


class Change(NamedTuple):
    """A committed change: its number, its encoded body, and its encoded certificate."""

    sequence: int
    body: bytes
    certificate: bytes


@dataclass(frozen=True, slots=True)
class Content:
    """A pack (`subject` is "") or the subject, record and encoded terms of a template."""

    subject: str = field(repr=False)
    data: bytes = field(repr=False)
    terms: bytes = field(default=b"", repr=False)

    @property
    def leaf(self) -> bytes:
        """The leaf, 32 bytes, that a body names it by."""
        return template_leaf(self.subject, self.data, self.terms) if self.subject else pack_leaf(self.data)


class Contents(Protocol):
    """Contents by leaf: a dictionary, or whatever reads them from where they were put."""

    def get(self, leaf: bytes, /) -> Content | None:
        """Return the content with this leaf, or None."""


def by_leaf(contents: Iterable[Content]) -> dict[bytes, Content]:
    """Return contents by the leaves that they have, whatever anybody says of them."""
    return {content.leaf: content for content in contents}


def chained(state: GalleryState, changes: Sequence[Change]) -> Iterator[tuple[Change, Body, Certificate, bytes]]:
    """Yield each change after `state` with its body, its certificate and the chain value that it leads to.

    Raises IntegrityError or ProtocolError where numbers, bodies, chain and certificates do not go together. Signatures
    are not looked at.
    """
    for change, certificate, chain in _linked(state, changes):
        yield change, Body.decode(change.body), certificate, chain


def _linked(state: GalleryState, changes: Sequence[Change]) -> Iterator[tuple[Change, Certificate, bytes]]:
    """The same without bodies: those are only hashed."""
    sequence, chain = state.sequence, state.chain
    for change in changes:
        if change.sequence != sequence + 1:
            raise IntegrityError("a change is missing", got=change.sequence, expected=sequence + 1)
        sequence, chain = change.sequence, next_chain(chain, change.sequence, digest_of(change.body))
        certificate = Certificate.decode(change.certificate)
        if (certificate.vote.sequence, certificate.vote.chain) != (sequence, chain):
            raise IntegrityError("the certificate of a change is that of another one", got=sequence)
        yield change, certificate, chain


def check_changes(state: GalleryState, changes: Sequence[Change], scope: Scope, signers: Signers) -> GalleryState:
    """Return the state that these changes lead to; chain and certificates are right, signatures included.

    Raises IntegrityError or ProtocolError otherwise. A body is read only after two organisations are known to have
    signed it: to read what one of them made up may cost as much as it likes.
    """
    for change, certificate, after in _linked(state, changes):
        certificate.check(scope, signers)
        Body.decode(change.body)
        state = commit(state, change.sequence, after, certificate.vote.ballot)
    return state


def mutation_of(body: Body, contents: Contents) -> Mutation:
    """Return a change with all that it brings. Raises IntegrityError if a content is not there, or the kind unknown."""
    packs = {number: found(contents, leaf).data for number, leaf in body.packs}
    added = []
    for at in body.added:
        content = found(contents, at.leaf)
        added.append(Template(at.pack, at.slot, content.subject, content.data, at.by_device, content.terms))
    kind = next((kind for kind in get_args(Kind) if kind == body.kind), None)
    if kind is None:
        raise IntegrityError("a mutation of unknown kind", got=body.kind[:60])
    return Mutation(
        kind=kind,
        token=body.token,
        request_digest=body.request_digest,
        packs=packs,
        added=added,
        removed=body.removed,
        result=body.result,
        model=body.model,
        device=body.device,
        retired=body.retired,
        made_s=body.made_s,
    )


def contents_of(mutation: Mutation) -> Iterator[Content]:
    """Yield all that a change brings."""
    for _, data in sorted(mutation.packs.items()):
        yield Content("", data)
    for template in mutation.added:
        yield Content(template.subject, template.record, template.terms)


def found(contents: Contents, leaf: bytes) -> Content:
    """Return the content with this leaf. Raises IntegrityError if there is none, or one with another."""
    content = contents.get(leaf)
    if content is None or content.leaf != leaf:
        raise IntegrityError("a content that a change names is not there", expected=leaf.hex()[:16])
    return content
