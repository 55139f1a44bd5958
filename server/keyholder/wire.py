"""Session messages to and from protobuf: the only place where both are known."""

from __future__ import annotations

from collections.abc import Sequence

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
    wire = pb.PairMessage(session_id=envelope.session_id, number=envelope.number)
    message = envelope.message
    if isinstance(message, Hello):
        wire.hello.context, wire.hello.nonce = message.context, message.nonce
        wire.hello.triples_floor, wire.hello.bits_floor = message.triples_floor, message.bits_floor
        wire.hello.products_floor, wire.hello.mask_secret = message.products_floor, message.mask_secret
        wire.hello.triples_start, wire.hello.bits_start = message.triples_start, message.bits_start
        wire.hello.products_start = message.products_start
        wire.hello.ciphertexts, wire.hello.fingerprints = message.ciphertexts, message.fingerprints
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
    return wire


def turn_to_wire(turn: Sequence[Envelope]) -> pb.PairMessage:
    """Return one protobuf message of all that is said in a turn, at least one envelope."""
    wire = to_wire(turn[0])
    wire.then.extend(map(to_wire, turn[1:]))
    return wire


def turn_from_wire(wire: pb.PairMessage) -> list[Envelope]:
    """Return the envelopes of a turn. Raises ProtocolError if it is none."""
    if len(wire.then) >= TURN_MESSAGES or any(one.then for one in wire.then):
        raise ProtocolError("not a turn of a session", got=1 + len(wire.then), expected=f"<= {TURN_MESSAGES}")
    return [from_wire(one) for one in (wire, *wire.then)]


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
                hello.ciphertexts, hello.fingerprints,
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
