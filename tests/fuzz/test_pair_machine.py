"""The pair's sessions over a network that drops, repeats, reorders, cuts, swaps, reflects, alters and forges.

Two sessions run beside each other. Whatever happens to their messages, in any order: each holder ends in a typed
error, or waits for a message that is gone (the daemons bound that wait), or has its share of an answer; and two
shares never open to another answer than the right one.

By design the pair cannot notice a message that is well-formed, in its place, and says something else than its sender
meant: that is a peer that lies about shared values, against which section 9 of the design sets other means, and
between honest peers the mutual TLS of their channel. These alterations are kept out:
- another bit in a GateLayer;
- another mask secret of the right size in a Hello;
- another seed of the right size in a LastMask;
- another start of an Allocation, at or above the floor;
- any of these from another session, put under this session's id and number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.fuzz.network import CASES, Case, Exchange, recorded
from tests.simulator import MINUS, PLUS
from veilmatch.crypto.dealing import STOCK_KINDS
from veilmatch.crypto.errors import ProtocolError, VeilmatchError
from veilmatch.crypto.pair.messages import (
    Agreement,
    Allocation,
    Coins,
    DecisionShare,
    Envelope,
    GateLayer,
    Hello,
    LastMask,
    Message,
    Openings,
    SafetyProof,
    TemplateShare,
)

Draw = Callable[[st.SearchStrategy[Any]], Any]
#: Steps that a session has taken when its network turns bad: a whole one has about 80.
AGES = st.sampled_from(range(80))
SESSIONS, HOLDERS = st.integers(0, 1), st.sampled_from((PLUS, MINUS))


NO_HELLO = Hello(b"", b"", b"", 0, 0, 0, 0, 0, 0, b"", b"")


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.operation}-{case.threshold}-{case.gated}")
def test_an_undisturbed_session_ends_in_the_right_answer(case: Case) -> None:
    recorded(case, other_key=False)


@cache
def foreign(case: Case, other_key: bool) -> tuple[list[Envelope], list[Envelope]]:
    return recorded(case, other_key=other_key)


def flipped(draw: Draw, data: bytes) -> bytes:
    at = draw(st.integers(0, 8 * len(data) - 1))
    return data[: at // 8] + bytes([data[at // 8] ^ (1 << at % 8)]) + data[at // 8 + 1 :]


def resized(draw: Draw, data: bytes) -> bytes:
    """Cut short or extended, never the same."""
    return draw(st.sampled_from((data[:-1], b"", data[1:], data + b"\0", data + data)).filter(lambda d: d != data))


def altered(draw: Draw, message: Message) -> Message:
    """The message in another form that the receiver can notice or that is harmless; see the module's text."""
    match message:
        case Hello():
            name = draw(st.sampled_from(("triples_floor", "bits_floor", "products_floor")))
            change = draw(st.sampled_from((flipped, resized)))
            where = draw(st.sampled_from(("triples_start", "bits_start", "products_start")))
            floor = draw(st.sampled_from((0, 1, 255, 256, 1 << 20, (1 << 64) - 1)))
            return draw(
                st.sampled_from((
                    replace(message, context=flipped(draw, message.context)),
                    replace(message, context=resized(draw, message.context)),
                    replace(message, nonce=flipped(draw, message.nonce)),
                    replace(message, nonce=resized(draw, message.nonce)),
                    replace(message, mask_secret=resized(draw, message.mask_secret)),
                    replace(message, **{name: floor}),
                    replace(message, **{where: floor}),
                    replace(message, ciphertexts=change(draw, message.ciphertexts)),
                    replace(message, fingerprints=change(draw, message.fingerprints)),
                    replace(message, standing=resized(draw, message.standing or b"\1")),
                ))
            )  # fmt: skip
        case Agreement(ciphertexts, fingerprints):
            change = draw(st.sampled_from((flipped, resized)))
            if draw(st.booleans()):
                return Agreement(change(draw, ciphertexts), fingerprints)
            return Agreement(ciphertexts, change(draw, fingerprints))
        case Allocation(kind, start):
            return Allocation(draw(st.sampled_from([k for k in STOCK_KINDS if k != kind])), start)
        case Openings(values):
            return Openings(
                draw(st.sampled_from((resized, flipped, lambda draw, data: b"\xff" * len(data))))(draw, values)
            )
        case LastMask(seed):
            return LastMask(resized(draw, seed))
        case GateLayer(payload):
            return GateLayer(resized(draw, payload))
        case Coins(coins):
            return Coins(draw(st.sampled_from((flipped, resized)))(draw, coins))
        case SafetyProof(proof):
            return SafetyProof(draw(st.sampled_from((flipped, resized)))(draw, proof))
    raise AssertionError(f"an alteration is missing for {type(message).__name__}")


class Network(RuleBasedStateMachine):
    """Two sessions and the hands on their messages."""

    @initialize(cases=st.tuples(st.sampled_from(CASES), st.sampled_from(CASES)), ages=st.tuples(AGES, AGES))
    def begin(self, cases: tuple[Case, Case], ages: tuple[int, int]) -> None:
        self.exchanges = tuple(Exchange(case) for case in cases)
        for exchange, age in zip(self.exchanges, ages, strict=True):
            exchange.run(age)
        self.disturbed = [False, False]

    @rule(at=SESSIONS, steps=st.integers(1, 40))
    def go_on(self, at: int, steps: int) -> None:
        self.exchanges[at].run(steps)

    @rule(at=SESSIONS, holder=HOLDERS)
    def one_step(self, at: int, holder: int) -> None:
        self.exchanges[at].step(holder)

    @rule(at=SESSIONS, to=HOLDERS)
    def drop(self, at: int, to: int) -> None:
        if self._taken(at, to) is not None:
            self.disturbed[at] = True

    @rule(at=SESSIONS, to=HOLDERS, times=st.integers(1, 3))
    def repeat(self, at: int, to: int, times: int) -> None:
        if (envelope := self._taken(at, to)) is not None:
            self._put(at, to, *[envelope] * (1 + times))

    @rule(at=SESSIONS, to=HOLDERS)
    def reorder(self, at: int, to: int) -> None:
        """Deliver a message after the sender's next one, if there is one before the sender waits."""
        if (first := self._taken(at, to)) is not None:
            second = self._taken(at, to)
            self._put(at, to, *(e for e in (second, first) if e is not None), disturbs=second is not None)

    @rule(at=SESSIONS, to=HOLDERS)
    def swap_between_sessions(self, at: int, to: int) -> None:
        if (mine := self._taken(at, to)) is not None:
            theirs = self._taken(1 - at, to)
            self.disturbed[at] = True
            self._put(1 - at, to, mine)
            if theirs is not None:
                self._put(at, to, theirs)

    @rule(at=SESSIONS, to=HOLDERS, instead=st.booleans())
    def reflect(self, at: int, to: int, instead: bool) -> None:
        if (envelope := self._taken(at, to)) is not None:
            self._put(at, 1 - to, envelope)
            if not instead:
                self.exchanges[at].wires[to].appendleft(envelope)

    @rule(at=SESSIONS, to=HOLDERS, other_key=st.booleans(), data=st.data(), numbered=st.booleans())
    def forge_from_another_session(
        self, at: int, to: int, other_key: bool, data: st.DataObject, numbered: bool
    ) -> None:
        if (envelope := self._taken(at, to)) is not None:
            said = foreign(self.exchanges[at].case, other_key)[1 - to]
            forged = data.draw(st.sampled_from(said))
            self._put(at, to, replace(forged, number=envelope.number) if numbered else forged)

    @rule(at=SESSIONS, to=HOLDERS, data=st.data())
    def alter(self, at: int, to: int, data: st.DataObject) -> None:
        if (envelope := self._taken(at, to)) is not None:
            if envelope not in self.exchanges[at].sent[1 - to]:
                # Two alterations could make a right form again, with another content: a lie.
                self._put(at, to, envelope)
                return
            other_id = flipped(data.draw, envelope.session_id) if envelope.session_id else bytes(32)
            which = data.draw(st.sampled_from(("message", "message", "number", "session")))
            if which == "message":
                changed: Any = replace(envelope, message=altered(data.draw, envelope.message))
            elif which == "number":
                changed = replace(envelope, number=envelope.number ^ (1 << data.draw(st.integers(0, 31))))
            else:
                changed = replace(envelope, session_id=other_id)
            self._put(at, to, changed)

    @rule(
        at=SESSIONS,
        to=HOLDERS,
        nonsense=st.sampled_from((None, b"", 7, Hello(b"", b"", b"", 0, 0, 0, 0, 0, 0, b"", b""))),
    )
    def send_nonsense(self, at: int, to: int, nonsense: Any) -> None:
        self._put(at, to, nonsense)

    @invariant()
    def no_wrong_answer(self) -> None:
        for exchange in getattr(self, "exchanges", ()):
            if len(exchange.answers) == 2:
                assert exchange.opened() == exchange.case.expected

    @invariant()
    def who_has_ended_answers_nothing_more(self) -> None:
        for exchange in getattr(self, "exchanges", ()):
            for holder in exchange.ends:
                assert exchange.sessions[holder].finished or isinstance(exchange.ends[holder], ProtocolError)
                if exchange.sessions[holder].finished:
                    with pytest.raises(ProtocolError):
                        exchange.sessions[holder].resume(None)

    def teardown(self) -> None:
        """Everybody goes on as far as they can: that is an end, unless a message is gone or its sender is."""
        for at, exchange in enumerate(getattr(self, "exchanges", ())):
            assert exchange.run(2000) < 2000
            if not self.disturbed[at]:
                assert len(exchange.answers) == 2, exchange.ends
            for end in exchange.ends.values():
                assert isinstance(end, VeilmatchError | TemplateShare | DecisionShare)
        self.no_wrong_answer()
        self.who_has_ended_answers_nothing_more()

    # -- hands on the wires -------------------------------------------------------------------------------

    def _taken(self, at: int, to: int) -> Any:
        """The next message on its way to a holder, after its sender has gone on until there is one; else None.

        Nonsense that lies before it is lost.
        """
        wire = self.exchanges[at].wires[to]
        while True:
            while wire:
                if isinstance(envelope := wire.popleft(), Envelope):
                    return envelope
            if not self.exchanges[at].step(1 - to):
                return None

    def _put(self, at: int, to: int, *envelopes: Any, disturbs: bool = True) -> None:
        self.exchanges[at].wires[to].extendleft(reversed(envelopes))
        self.disturbed[at] = self.disturbed[at] or disturbs


TestNetwork = Network.TestCase
TestNetwork.settings = settings(
    max_examples=400, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)
)
