"""What the steps of a session are made of: numbered messages to the peer, stock used up by both alike, circuits.

A step is a generator of actions (messages.Action), resumed with the outcome of each. It does no I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, TypeVar

from veilmatch.crypto.dealing import STOCK_KINDS, BitTriples, Kind, Products
from veilmatch.crypto.encryption.scheme import Scheme
from veilmatch.crypto.errors import ProtocolError
from veilmatch.crypto.gates.boolean import Evaluator
from veilmatch.crypto.pair.mask import SEED_BYTES, SessionMask, draw_seed
from veilmatch.crypto.pair.messages import (
    Action,
    Allocation,
    Envelope,
    GateLayer,
    LastMask,
    Message,
    Receive,
    Reserve,
    Reserved,
    Send,
)
from veilmatch.crypto.secret_access import SecretHolder

_M = TypeVar("_M", bound=Message)
_T = TypeVar("_T")
#: A step that returns a T. Resumed with whatever its actions ask for, hence Any.
Steps = Generator[Action, Any, _T]


class Exchange(SecretHolder):
    """One holder's end of a session, from its first message on.

    session_id, floors and mask are set by the hello (converting.py).
    """

    def __init__(self, scheme: Scheme, floors: tuple[int, int, int], *, is_plus: bool) -> None:
        """floors: first stock index of each kind that this holder may still use."""
        self.scheme = scheme
        self.is_plus = is_plus
        self.session_id = b""
        self.floors: dict[Kind, int] = dict(zip(STOCK_KINDS, floors, strict=True))
        self._mask: SessionMask | None = None
        self._sent = self._received = 0

    @property
    def mask(self) -> SessionMask:
        """The common mask of the session. Raises ProtocolError before the hello."""
        if self._mask is None:
            raise ProtocolError("a share before both holders have said hello")
        return self._mask

    @mask.setter
    def mask(self, mask: SessionMask) -> None:
        self._mask = mask

    def send(self, message: Message) -> Steps[None]:
        """Send a message: the next number of this holder."""
        number, self._sent = 2 * self._sent + (not self.is_plus), self._sent + 1
        yield Send(Envelope(self.session_id, number, message))

    def receive(self, kind: type[_M]) -> Steps[_M]:
        """Return the peer's next message. Raises ProtocolError for another kind, number or session."""
        envelope = yield Receive()
        number, self._received = 2 * self._received + self.is_plus, self._received + 1
        if not isinstance(envelope, Envelope) or not isinstance(envelope.message, kind):
            raise ProtocolError("a message of the wrong kind from the peer", expected=kind.__name__)
        if envelope.session_id != self.session_id or envelope.number != number:
            raise ProtocolError("a message of another session or out of order", got=envelope.number, expected=number)
        return envelope.message

    def dealt(self, kind: Kind, count: int, material: type[_T]) -> Steps[_T]:
        """Use up `count` units of stock, the same at both holders, and return this holder's part of them."""
        reserved = yield from self._reserve(kind, count)
        if not isinstance(reserved.material, material):
            raise ProtocolError("reserved stock of the wrong kind", expected=kind)
        return reserved.material

    def evaluator(self, triple_bytes: int) -> Steps[Evaluator]:
        """Return an evaluator with fresh bit triples."""
        triples = yield from self.dealt("bits", triple_bytes, BitTriples)
        return Evaluator(triples, is_plus=self.is_plus)

    def products(self, count: int) -> Steps[Products]:
        """Return fresh products mod 2^64."""
        return (yield from self.dealt("products", count, Products))

    def last_mask(self, is_safe: Callable[[bytes], bool]) -> Steps[bytes]:
        """Return the seed of a last mask (mask.py). is_safe: asked of the minus holder's own shares under a seed."""
        if not self.is_plus:
            seed = draw_seed(is_safe)
            yield from self.send(LastMask(seed))
            return seed
        seed = (yield from self.receive(LastMask)).seed
        if len(seed) != SEED_BYTES:
            raise ProtocolError("a mask seed of the wrong size", got=len(seed), expected=SEED_BYTES)
        return seed

    def run(self, circuit: Generator[bytes, bytes, _T]) -> Steps[_T]:
        """Run a circuit: each of its layers is one message of each holder."""
        try:
            payload = next(circuit)
            while True:
                yield from self.send(GateLayer(payload))
                received = yield from self.receive(GateLayer)
                payload = circuit.send(received.payload)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]

    def _reserve(self, kind: Kind, count: int) -> Steps[Reserved]:
        """Plus holder allocates and says where; minus holder reserves the same range."""
        floor = self.floors[kind]
        if self.is_plus:
            reserved: Reserved = yield Reserve(kind, count, floor, None)
            yield from self.send(Allocation(kind, reserved.start))
            return reserved
        allocation = yield from self.receive(Allocation)
        if allocation.kind != kind or allocation.start < floor:
            raise ProtocolError("stock allocated where it may not be", got=allocation.start, expected=f">= {floor}")
        reserved = yield Reserve(kind, count, floor, allocation.start)
        return reserved
