"""What the steps of a session are made of: numbered messages to the peer, stock used up by both alike, circuits.

A step is a generator of actions (messages.Action), resumed with the outcome of each. It does no I/O.

What follows one another without a receipt in between travels together. So a step sends as soon as it can and receives
as late as it can: then the holders speak in turn, and each says in a turn all that what it has heard allows.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import Any, Generic, TypeVar

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
    Hello,
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
        #: What was reserved of each kind, and how much of that is taken.
        self._dealt: dict[Kind, object] = {}
        self._taken: dict[Kind, int] = dict.fromkeys(STOCK_KINDS, 0)
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
        message, session_id = yield from self._received_next(kind)
        if session_id != self.session_id:
            raise ProtocolError("a message of another session", expected=kind.__name__)
        return message

    def receive_hello(self) -> Steps[tuple[Hello, bytes]]:
        """Return the peer's hello and the session that it is of, which is for the caller to check: empty if none."""
        return (yield from self._received_next(Hello))

    def _received_next(self, kind: type[_M]) -> Steps[tuple[_M, bytes]]:
        envelope = yield Receive()
        number, self._received = 2 * self._received + self.is_plus, self._received + 1
        if not isinstance(envelope, Envelope) or not isinstance(envelope.message, kind):
            raise ProtocolError("a message of the wrong kind from the peer", expected=kind.__name__)
        if envelope.number != number:
            raise ProtocolError("a message out of order", got=envelope.number, expected=number)
        return envelope.message, envelope.session_id

    def allocate(self, counts: Mapping[Kind, int]) -> Steps[None]:
        """Use up so many units of each kind of stock, the same at both: the plus holder says where they are."""
        if self.is_plus:
            yield from self.tell((yield from self.reserve(counts)))
        else:
            yield from self.reserve(counts, (yield from self.told(counts)))

    def reserve(self, counts: Mapping[Kind, int], starts: Mapping[Kind, int] | None = None) -> Steps[dict[Kind, int]]:
        """Have stock reserved, for `triples`, `evaluator` and `products`; return where it begins.

        starts: at the minus holder, where. What was reserved before and not taken is never used.
        """
        found: dict[Kind, int] = {}
        for kind, count in counts.items():
            start = starts[kind] if starts is not None else None
            reserved: Reserved = yield Reserve(kind, count, self.floors[kind], start)
            found[kind], self._dealt[kind], self._taken[kind] = reserved.start, reserved.material, 0
        return found

    def tell(self, starts: Mapping[Kind, int]) -> Steps[None]:
        """Tell the minus holder where stock was reserved."""
        for kind, start in starts.items():
            yield from self.send(Allocation(kind, start))

    def told(self, counts: Mapping[Kind, int]) -> Steps[dict[Kind, int]]:
        """Return where the plus holder says that it has reserved stock. Raises ProtocolError for one below a floor."""
        starts: dict[Kind, int] = {}
        for kind in counts:
            said, floor = (yield from self.receive(Allocation)), self.floors[kind]
            if said.kind != kind or said.start < floor:
                raise ProtocolError("stock allocated where it may not be", got=said.start, expected=f">= {floor}")
            starts[kind] = said.start
        return starts

    def triples(self, count: int) -> list[Any]:
        """Return fresh triples mod N."""
        part, material = self._next("triples", count), self._dealt.get("triples")
        if not isinstance(material, list) or len(material) < part.stop:
            raise _not_reserved("triples", count)
        return material[part]

    def evaluator(self, triple_bytes: int) -> Evaluator:
        """Return an evaluator with fresh bit triples."""
        part, material = self._next("bits", triple_bytes), self._dealt.get("bits")
        if not isinstance(material, BitTriples) or len(material.a) < part.stop:
            raise _not_reserved("bits", triple_bytes)
        return Evaluator(BitTriples(material.a[part], material.b[part], material.c[part]), is_plus=self.is_plus)

    def products(self, count: int) -> Products:
        """Return fresh products mod 2^64."""
        part, material = self._next("products", count), self._dealt.get("products")
        if not isinstance(material, Products) or len(material.factor) < part.stop:
            raise _not_reserved("products", count)
        return Products(material.factor[part], material.product[part])

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

    def running(self, circuit: Generator[bytes, bytes, _T]) -> Running[_T]:
        """Return a circuit that runs beside other steps."""
        return Running(self, circuit)

    def run(self, circuit: Generator[bytes, bytes, _T]) -> Steps[_T]:
        """Run a circuit to its end: each of its layers is one message of each holder."""
        running = self.running(circuit)
        yield from running.start()
        return (yield from running.finish())

    def _next(self, kind: Kind, count: int) -> slice:
        start = self._taken[kind]
        self._taken[kind] = start + count
        return slice(start, start + count)


class Running(Generic[_T]):
    """A circuit that runs beside other steps of a session: each of its layers is one message of each holder.

    The minus holder has its input first and sends its first layer. From then on whoever has the turn has received two
    layers, takes both in, and sends the next two. Both holders take the turns of all that runs at the same places.
    """

    def __init__(self, exchange: Exchange, circuit: Generator[bytes, bytes, _T]) -> None:
        self._exchange = exchange
        self._circuit = circuit
        self._result: list[_T] = []

    def start(self) -> Steps[None]:
        """Send the first layer; at the plus holder, which has that of the other by now, the second one as well."""
        yield from self._step(None)
        if self._exchange.is_plus:
            yield from self._take()

    def turn(self) -> Steps[None]:
        """Take in what came in a turn of the other holder, and send what follows from it."""
        yield from self._take()
        yield from self._take()

    def finish(self) -> Steps[_T]:
        """Return the result, once the other holder has sent all of its layers."""
        while not self._result:
            yield from self._take()
        return self._result[0]

    def _take(self) -> Steps[None]:
        if not self._result:
            yield from self._step((yield from self._exchange.receive(GateLayer)).payload)

    def _step(self, received: bytes | None) -> Steps[None]:
        try:
            payload = self._circuit.send(received)  # type: ignore[arg-type]
        except StopIteration as stop:
            self._result.append(stop.value)
            return
        yield from self._exchange.send(GateLayer(payload))


def _not_reserved(kind: Kind, count: int) -> ProtocolError:
    return ProtocolError("reserved stock of the wrong kind or size", got=kind, expected=f"{count} more of it")
