"""Session messages survive protobuf, and nothing else becomes one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given
from hypothesis import strategies as st

from veilmatch.crypto.dealing import STOCK_KINDS
from veilmatch.crypto.errors import ProtocolError
from veilmatch.crypto.pair.messages import (
    Agreement,
    Allocation,
    Coins,
    Envelope,
    GateLayer,
    Hello,
    LastMask,
    Message,
    Openings,
    SafetyProof,
)
from veilmatch.protos.v1 import keyholder_pb2 as pb
from veilmatch.server.keyholder import wire
from veilmatch.server.keyholder.wire import (
    KIND_TO_WIRE,
    PACK_BYTES,
    TURN_BYTES,
    TURN_MESSAGES,
    Joined,
    from_wire,
    in_pieces,
    kind_from_wire,
    to_wire,
    turn_from_wire,
    turn_to_wire,
)
from veilmatch.server.transport.limits import PEER_MESSAGE_BYTES

bytes_ = st.binary(max_size=80)
index = st.integers(0, (1 << 64) - 1)
MESSAGES: dict[type, st.SearchStrategy[Message]] = {
    Hello: st.builds(Hello, bytes_, bytes_, bytes_, *[index] * 6, bytes_, bytes_),
    Agreement: st.builds(Agreement, bytes_, bytes_),
    Allocation: st.builds(Allocation, st.sampled_from(STOCK_KINDS), index),
    Openings: st.builds(Openings, bytes_),
    LastMask: st.builds(LastMask, bytes_),
    GateLayer: st.builds(GateLayer, bytes_),
    Coins: st.builds(Coins, bytes_),
    SafetyProof: st.builds(SafetyProof, bytes_),
}
envelopes = st.builds(Envelope, bytes_, st.integers(0, (1 << 32) - 1), st.one_of(*MESSAGES.values()))


def test_every_kind_of_message_is_tried() -> None:
    assert set(MESSAGES) == set(Message.__args__)


@given(envelopes)
@example(Envelope(b"", 0, Openings(b"")))
@example(Envelope(b"", 0, GateLayer(b"")))
@example(Envelope(b"", 0, Hello(b"", b"", b"", 0, 0, 0, 0, 0, 0, b"", b"")))
@example(Envelope(b"", 0, Agreement(b"", b"")))
@example(Envelope(b"", 0, LastMask(b"")))
@example(Envelope(b"", 0, Coins(b"")))
@example(Envelope(b"", 0, SafetyProof(b"")))
def test_every_message_survives_the_wire(envelope: Envelope) -> None:
    again = from_wire(pb.PairMessage.FromString(to_wire(envelope).SerializeToString()))
    assert again == envelope
    assert type(again.message) is type(envelope.message)


@given(st.lists(envelopes, min_size=1, max_size=TURN_MESSAGES))
def test_every_turn_survives_the_wire(turn: list[Envelope]) -> None:
    again = turn_from_wire(pb.PairMessage.FromString(turn_to_wire(turn).SerializeToString()))
    assert again == turn


def test_a_turn_of_too_many_messages_or_within_another_is_refused() -> None:
    one = Envelope(b"", 0, Openings(b""))
    with pytest.raises(ProtocolError):
        turn_from_wire(turn_to_wire([one] * (TURN_MESSAGES + 1)))
    turn = turn_to_wire([one, one])
    turn.then[0].then.append(to_wire(one))
    with pytest.raises(ProtocolError):
        turn_from_wire(turn)


@pytest.mark.parametrize("wire", [pb.PairMessage(), pb.PairMessage(session_id=b"x", number=3)])
def test_a_message_without_content_is_refused(wire: pb.PairMessage) -> None:
    with pytest.raises(ProtocolError):
        from_wire(wire)


def test_a_rendezvous_is_not_a_message_of_a_session() -> None:
    with pytest.raises(ProtocolError) as caught:
        from_wire(pb.PairMessage(rendezvous=pb.PairRendezvous(subject_matter=[bytes(32)])))
    assert caught.value.got == "rendezvous"


@pytest.mark.parametrize("kind", [0, 4, 77, -1])
def test_an_unknown_kind_of_stock_is_refused(kind: int) -> None:
    with pytest.raises(ProtocolError):
        kind_from_wire(kind)
    wire = pb.PairMessage.FromString(pb.PairMessage(allocation=pb.AllocationMessage(start=5)).SerializeToString())
    wire.allocation.kind = kind  # type: ignore[assignment]
    with pytest.raises(ProtocolError):
        from_wire(wire)


def test_kinds_of_stock_survive_the_wire() -> None:
    assert {kind: kind_from_wire(wire) for kind, wire in KIND_TO_WIRE.items()} == {kind: kind for kind in STOCK_KINDS}


@given(st.binary(max_size=200) | envelopes.map(lambda e: to_wire(e).SerializeToString()).flatmap(
    lambda data: st.integers(0, len(data)).map(lambda cut: data[:cut])))  # fmt: skip
def test_no_bytes_become_anything_but_a_message_or_a_typed_error(data: bytes) -> None:
    try:
        wire = pb.PairMessage.FromString(data)
    except DecodeError:
        return
    try:
        envelope = from_wire(wire)
    except ProtocolError:
        return
    assert isinstance(envelope.message, Message)
    assert from_wire(to_wire(envelope)) == envelope


@given(envelopes)
def test_no_message_shows_its_content(envelope: Envelope) -> None:
    message = envelope.message
    if isinstance(message, Hello | Allocation):
        return  # public: digests, nonces and indices
    assert repr(message) == f"<{type(message).__name__}>"


# -- turns that are too large for one message --------------------------------------------------------


def joined(pieces: Iterable[pb.PairMessage], most: int = 1 << 20) -> pb.PairMessage | None:
    """Return the turn that pieces are, None if they have no end."""
    whole, found = Joined(most), None
    for piece in pieces:
        assert found is None
        found = whole.take(pb.PairMessage.FromString(piece.SerializeToString()))
    return found


@given(st.lists(envelopes, min_size=1, max_size=TURN_MESSAGES), st.integers(1, 60))
def test_a_turn_in_pieces_is_the_turn(turn: list[Envelope], size: int) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(wire, "PIECE_BYTES", size)
        pieces = list(in_pieces(turn_to_wire(turn)))
        assert all(len(piece.piece.data) <= size for piece in pieces)
        again = joined(pieces)
    assert again is not None and turn_from_wire(again) == turn


def test_the_openings_of_ten_million_templates_are_said_in_messages_that_are_taken() -> None:
    turn = turn_to_wire([Envelope(b"s" * 32, 4, Openings(bytes(768 * 90_091)))])
    pieces = list(in_pieces(turn))
    assert all(piece.ByteSize() <= PEER_MESSAGE_BYTES for piece in pieces)
    assert joined(pieces, TURN_BYTES + PACK_BYTES * 90_091) == turn


def test_what_goes_in_one_message_is_not_cut() -> None:
    turn = turn_to_wire([Envelope(b"s" * 32, 4, Openings(b"x"))])
    assert list(in_pieces(turn)) == [turn]


def piece(data: bytes, *, more: bool, **beside: Any) -> pb.PairMessage:
    return pb.PairMessage(piece=pb.PairPiece(data=data, more=more), **beside)


@pytest.mark.parametrize(
    "pieces",
    [
        [piece(b"ab", more=True)],
        [piece(b"", more=True)],
        [piece(b"abcde", more=False)],
        [piece(b"abcd", more=True), pb.PairMessage(openings=b"x")],
        [piece(b"abcd", more=True)] * 3,
        [piece(b"\xff", more=False)],
        [piece(b"abcd", more=True, session_id=b"s")],
        [piece(b"abcd", more=True, number=1)],
        [piece(b"abcd", more=True, then=[pb.PairMessage()])],
    ],
)
def test_pieces_that_are_no_turn_are_refused(pieces: list[pb.PairMessage], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "PIECE_BYTES", 4)
    with pytest.raises(ProtocolError):
        joined(pieces, most=11)


def test_pieces_within_pieces_are_no_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    inner = piece(b"abcd", more=False).SerializeToString()
    found = joined([piece(inner, more=False)])
    assert found is not None
    with pytest.raises(ProtocolError):
        turn_from_wire(found)
