"""What a lying organisation hands over in a meeting: it costs what it weighs, and is read once two have signed it."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.matcher.galleries import KEY_ID, ORGANISATIONS, signers
from veilmatch.crypto.errors import IntegrityError, ProtocolError
from veilmatch.protos.v1 import matcher_pb2 as pb
from veilmatch.server.matcher.agreement import handing_over
from veilmatch.server.matcher.agreement.acceptor import GalleryState
from veilmatch.server.matcher.agreement.ballots import Ballot
from veilmatch.server.matcher.agreement.certificates import Certificate, Scope, Vote
from veilmatch.server.matcher.agreement.handing_over import MEETING_CHANGES, Taking
from veilmatch.server.matcher.gallery import changes as changes_module
from veilmatch.server.matcher.gallery.body import digest_of
from veilmatch.server.matcher.gallery.changes import Change, check_changes
from veilmatch.server.matcher.gallery.mutation import next_chain


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
