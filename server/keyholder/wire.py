"""Session messages to and from protobuf: the only place where both are known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from google.protobuf.message import DecodeError

from veilmatch.crypto.dealing import Kind
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

#: A turn has about half as many.
TURN_MESSAGES = 16
#: What is said in a turn goes in one message up to this size, and in pieces of this size beyond it: small ones, as
#: sessions share a link (transport/standing/strand.py `MESSAGE_BYTES`).
PIECE_BYTES = 28 << 10
#: Most that a turn has in a session of few packs, and more of each pack that is converted: its opening, two residues
#: mod N, and what one layer of gates opens of its slots.
TURN_BYTES, PACK_BYTES = 16 << 20, 1 << 12

KIND_TO_WIRE: dict[Kind, pb.StockKind.ValueType] = {
    "triples": pb.STOCK_KIND_TRIPLES,
    "bits": pb.STOCK_KIND_BITS,
    "products": pb.STOCK_KIND_PRODUCTS,
}
_KIND_FROM_WIRE = {value: kind for kind, value in KIND_TO_WIRE.items()}


def kind_from_wire(value: int) -> Kind:
    """Return the kind of stock. Raises ProtocolError for an unknown one."""
    for wire, kind in _KIND_FROM_WIRE.items():
        if wire == value:
            return kind
    raise ProtocolError("an unknown kind of stock", got=value)


def to_wire(envelope: Envelope) -> pb.PairMessage:
    """Return the protobuf message of an envelope."""
    wire = pb.PairMessage()
    _fill(wire, envelope)
    return wire


def _fill(wire: pb.PairMessage, envelope: Envelope) -> None:
    wire.session_id, wire.number = envelope.session_id, envelope.number
    message = envelope.message
    if isinstance(message, Hello):
        wire.hello.context, wire.hello.nonce = message.context, message.nonce
        wire.hello.triples_floor, wire.hello.bits_floor = message.triples_floor, message.bits_floor
        wire.hello.products_floor, wire.hello.mask_secret = message.products_floor, message.mask_secret
        wire.hello.triples_start, wire.hello.bits_start = message.triples_start, message.bits_start
        wire.hello.products_start = message.products_start
        wire.hello.ciphertexts, wire.hello.fingerprints = message.ciphertexts, message.fingerprints
        wire.hello.standing = message.standing
    elif isinstance(message, Agreement):
        wire.agreement.ciphertexts, wire.agreement.fingerprints = message.ciphertexts, message.fingerprints
    elif isinstance(message, Allocation):
        wire.allocation.kind, wire.allocation.start = KIND_TO_WIRE[message.kind], message.start
    elif isinstance(message, Openings):
        wire.openings = message.values
    elif isinstance(message, LastMask):
        wire.last_mask = message.seed
    elif isinstance(message, Coins):
        wire.coins = message.coins
    elif isinstance(message, SafetyProof):
        wire.safety_proof = message.proof
    else:
        wire.gate_layer = message.payload


def payload_bytes(envelope: Envelope) -> int:
    """Return how large an envelope is, but for the little that is in every message."""
    match envelope.message:
        case Openings(values):
            return len(values)
        case GateLayer(payload):
            return len(payload)
        case Agreement(_, fingerprints):
            return len(fingerprints)
        case Hello():
            return len(envelope.message.context)
        case _:
            return 0


def turn_to_wire(turn: Sequence[Envelope]) -> pb.PairMessage:
    """Return one protobuf message of all that is said in a turn, at least one envelope."""
    wire = to_wire(turn[0])
    for envelope in turn[1:]:
        _fill(wire.then.add(), envelope)
    return wire


def turn_from_wire(wire: pb.PairMessage) -> list[Envelope]:
    """Return the envelopes of a turn. Raises ProtocolError if it is none."""
    if len(wire.then) >= TURN_MESSAGES or any(one.then for one in wire.then):
        raise ProtocolError("not a turn of a session", got=1 + len(wire.then), expected=f"<= {TURN_MESSAGES}")
    return [from_wire(one) for one in (wire, *wire.then)]


def in_pieces(turn: pb.PairMessage) -> Iterator[pb.PairMessage]:
    """Yield the messages that a turn goes in: itself, or its pieces."""
    if turn.ByteSize() <= PIECE_BYTES:
        yield turn
        return
    data = turn.SerializeToString()
    for end in range(PIECE_BYTES, len(data) + PIECE_BYTES, PIECE_BYTES):
        yield pb.PairMessage(piece=pb.PairPiece(data=data[end - PIECE_BYTES : end], more=end < len(data)))


class Joined:
    """A turn as it comes in. most: bytes that it may have."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._pieces: list[bytes] = []
        self._size = 0

    def take(self, message: pb.PairMessage) -> pb.PairMessage | None:
        """Return the turn that a message completes, None if more has to come. Raises ProtocolError if it is none."""
        if message.WhichOneof("content") != "piece":
            if self._pieces:
                raise ProtocolError("a turn that breaks off", got=message.WhichOneof("content"), expected="a piece")
            return message
        data, more = message.piece.data, message.piece.more
        beside = message.session_id or message.number or message.then
        if beside or len(data) > PIECE_BYTES or (more and len(data) < PIECE_BYTES):
            raise ProtocolError("not a piece of a turn", got=len(data), expected=f"{PIECE_BYTES} bytes")
        self._pieces.append(data)
        self._size += len(data)
        if self._size > self._most:
            expected = f"<= {self._most} bytes"
            raise ProtocolError("a turn larger than any of its session", got=self._size, expected=expected)
        if more:
            return None
        try:
            return pb.PairMessage.FromString(b"".join(self._pieces))
        except DecodeError:
            raise ProtocolError("pieces that are no turn", got=f"{self._size} bytes") from None


def from_wire(wire: pb.PairMessage) -> Envelope:
    """Return the envelope of a protobuf message. Raises ProtocolError if it holds no session message."""
    return Envelope(wire.session_id, wire.number, _message(wire))


def _message(wire: pb.PairMessage) -> Message:
    match wire.WhichOneof("content"):
        case "hello":
            hello = wire.hello
            return Hello(
                hello.context, hello.nonce, hello.mask_secret,
                hello.triples_floor, hello.bits_floor, hello.products_floor,
                hello.triples_start, hello.bits_start, hello.products_start,
                hello.ciphertexts, hello.fingerprints, hello.standing,
            )  # fmt: skip
        case "agreement":
            return Agreement(wire.agreement.ciphertexts, wire.agreement.fingerprints)
        case "allocation":
            return Allocation(kind_from_wire(wire.allocation.kind), wire.allocation.start)
        case "openings":
            return Openings(wire.openings)
        case "gate_layer":
            return GateLayer(wire.gate_layer)
        case "last_mask":
            return LastMask(wire.last_mask)
        case "coins":
            return Coins(wire.coins)
        case "safety_proof":
            return SafetyProof(wire.safety_proof)
        case other:
            raise ProtocolError("not a message of a session", got=other)
