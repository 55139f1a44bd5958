"""What a lying organisation hands over in a meeting: it costs what it weighs, and is read once two have signed it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import pytest

from tests.matcher.agreement.organisations import nth
from tests.matcher.galleries import KEY_ID, ORGANISATIONS, signers
from veilmatch.crypto.errors import IntegrityError, ProtocolError
from veilmatch.crypto.gallery_change import next_chain
from veilmatch.protos.v1 import matcher_pb2 as pb
from veilmatch.server.matcher.agreement import handing_over
from veilmatch.server.matcher.agreement.acceptor import GalleryState
from veilmatch.server.matcher.agreement.ballots import Ballot
from veilmatch.server.matcher.agreement.certificates import Certificate, Scope, Vote
from veilmatch.server.matcher.agreement.handing_over import MEETING_CHANGES, Taking
from veilmatch.server.matcher.gallery import changes as changes_module
from veilmatch.server.matcher.gallery.body import Body, digest_of
from veilmatch.server.matcher.gallery.changes import Change, by_leaf, check_changes, contents_of


def piece(body: bytes, *, more: bool = True) -> pb.ChangesChunk:
    chunk = pb.ChangesChunk()
    chunk.changes.add(sequence=1, body=body, more=more)
    return chunk


def test_pieces_of_a_body_cost_what_they_weigh() -> None:
    """Read in the event loop of the daemon: one-byte pieces of a large body must not stop it."""
    taking = Taking()
    for _ in range(16):
        taking.take(piece(bytes(2 << 20)))
    small = pb.ChangesChunk()
    for _ in range(200):
        small.changes.add(sequence=1, body=b"x", more=True)
    started = time.process_time()
    taking.take(small)
    assert time.process_time() - started < 0.2
    taking.take(piece(b"end", more=False))
    assert taking.changes[0].body == bytes(32 << 20) + b"x" * 200 + b"end"


@pytest.mark.parametrize("more", [True, False])
def test_a_body_has_a_largest_size(monkeypatch: pytest.MonkeyPatch, more: bool) -> None:
    monkeypatch.setattr(handing_over, "BODY_BYTES_MAX", 10)
    taking = Taking()
    taking.take(piece(bytes(10)))
    with pytest.raises(ProtocolError, match="too large"):
        taking.take(piece(b"x", more=more))


def test_no_more_changes_than_a_meeting_hands_over() -> None:
    taking = Taking()
    for _ in range(MEETING_CHANGES):
        taking.take(piece(b"x", more=False))
    with pytest.raises(ProtocolError, match="more changes"):
        taking.take(piece(b"x", more=False))


def test_a_body_is_read_once_two_have_signed_it(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[bytes] = []

    class Reader:
        @staticmethod
        def decode(data: bytes) -> Any:
            read.append(data)
            raise IntegrityError("not a body")

    monkeypatch.setattr(changes_module, "Body", Reader)
    scope, start, body = Scope("staff", KEY_ID), GalleryState(0, bytes(32)), b"costly"
    vote = Vote(1, next_chain(start.chain, 1, digest_of(body)), Ballot(1, "bc"))
    alone = Certificate.of(vote, {"b": vote.sign("gallery change v1", scope, ORGANISATIONS["b"]), "c": bytes(64)})
    both = Certificate.signed(vote, scope, ORGANISATIONS["b"], ORGANISATIONS["c"])
    for certificate, expected in ((alone, []), (both, [body])):
        with pytest.raises(IntegrityError):
            check_changes(start, [Change(1, body, certificate.encode())], scope, signers)
        assert read == expected


def test_contents_that_no_change_brings_are_not_taken() -> None:
    """They would be kept, and hashed, with the gallery held."""
    change = nth(1)
    ends = piece(change.body.encode(), more=False)
    contents = list(contents_of(change))
    for content in contents:
        ends.contents.add(subject=content.subject, data=content.data)
    taking = Taking()
    taking.take(ends)
    taking.take_contents(ends, lambda _: [change.body])
    assert taking.contents == by_leaf(contents)
    again, strange = pb.ChangesChunk(), pb.ChangesChunk()
    again.contents.add(subject=contents[0].subject, data=contents[0].data)
    strange.contents.add(data=b"made up")
    for chunk in (again, strange):
        with pytest.raises(ProtocolError, match="no change brings"):
            taking.take_contents(chunk, lambda _: [])
    with pytest.raises(ProtocolError, match="after the contents"):
        taking.take(ends)


def test_contents_wait_for_what_two_have_signed() -> None:
    chunk = piece(b"body", more=False)
    chunk.contents.add(data=b"made up")
    taking = Taking()
    taking.take(chunk)

    def look(changes: Sequence[Change]) -> list[Body]:
        raise IntegrityError("nobody has signed it", got=changes[0].sequence)

    with pytest.raises(IntegrityError, match="nobody has signed"):
        taking.take_contents(chunk, look)
    assert not taking.contents
    nothing = pb.ChangesChunk(last=True)
    with pytest.raises(ProtocolError, match="no changes"):
        Taking().take_contents(nothing, look)
