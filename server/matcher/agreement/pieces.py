"""One verification's place on the link of two matchers: what is too large for a message of a link goes in pieces.

Hardly anything is: changes, when one of the two is behind.
"""

from __future__ import annotations

from typing import TypeAlias

from google.protobuf.message import DecodeError

from veilmatch.crypto.errors import ProtocolError, VeilmatchError
from veilmatch.protos.v1 import matcher_pb2 as pb
from veilmatch.server.transport.limits import DEVICE_MESSAGE_BYTES
from veilmatch.server.transport.standing.strand import Strand

#: Smaller than the largest message of a link (transport/standing/strand.py `MESSAGE_BYTES`).
PIECE_BYTES = 28 << 10

MeetStrand: TypeAlias = Strand[pb.MatcherMessage, pb.MatcherMessage]


class InPieces:
    """A Link, and what Rendezvous is offered, over a session of a standing link."""

    def __init__(self, strand: MeetStrand) -> None:
        self._strand = strand
        self.peer, self.first = strand.peer, strand.first

    async def send(self, message: pb.MatcherMessage) -> None:
        """Send one message. Raises ProtocolError if it is larger than any that a matcher takes."""
        size = message.ByteSize()
        if size <= PIECE_BYTES:
            await self._strand.send(message)
            return
        if size > DEVICE_MESSAGE_BYTES:
            raise ProtocolError("a message too large to send", got=size, expected=f"<= {DEVICE_MESSAGE_BYTES}")
        data = message.SerializeToString()
        for end in range(PIECE_BYTES, size + PIECE_BYTES, PIECE_BYTES):
            piece = pb.MatcherPiece(data=data[end - PIECE_BYTES : end], more=end < size)
            await self._strand.send(pb.MatcherMessage(piece=piece))

    async def receive(self) -> pb.MatcherMessage:
        """Return the next message. Raises ProtocolError for pieces that are none, or what ended the session."""
        message = await self._strand.receive()
        if message.WhichOneof("content") != "piece":
            return message
        joined = bytearray()
        while True:
            joined += message.piece.data
            if len(joined) > DEVICE_MESSAGE_BYTES or (message.piece.more and len(message.piece.data) < PIECE_BYTES):
                raise ProtocolError("not a piece of a message", got=len(joined), expected=f"<= {DEVICE_MESSAGE_BYTES}")
            if not message.piece.more:
                break
            message = await self._strand.receive()
            if (found := message.WhichOneof("content")) != "piece":
                raise ProtocolError("a message that breaks off", got=found, expected="a piece")
        try:
            return pb.MatcherMessage.FromString(bytes(joined))
        except DecodeError:
            raise ProtocolError("pieces that are no message", got=len(joined)) from None

    def read_ahead(self) -> None:
        """See Offered."""
        self._strand.read_ahead()

    def end(self, error: VeilmatchError | None) -> None:
        """See Offered."""
        self._strand.end(error)
