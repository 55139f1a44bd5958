"""Every message of a session dropped, repeated, reordered, cut short, swapped, foreign or of another kind.

Whatever happens to one message, at any position of either direction and in each operation, the session
ends in a typed error (or waits for ever, if the message is gone), never with another decision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from tests.crypto.toys import SCHEMES, TOY, keys_of
from tests.simulator import MINUS, PLUS, PairSimulator, SimulatedGallery, unit_vectors
from veilmatch.crypto.dealing import STOCK_KINDS
from veilmatch.crypto.errors import CiphertextError, KeySafetyError, ProtocolError, VeilmatchError
from veilmatch.crypto.pair.key_safety import session_nonce
from veilmatch.crypto.pair.messages import (
    Agreement,
    Allocation,
    Coins,
    DecisionShare,
    Envelope,
    GateLayer,
    Hello,
    LastMask,
    Openings,
    SafetyProof,
    TemplateShare,
)

RNG = np.random.default_rng(77)
TEMPLATES = unit_vectors(RNG, 9, TOY)
PROBE = TEMPLATES[4]
THRESHOLD = int(PROBE @ PROBE)
#: Of records that a device encrypted, and of those that the matchers made.
ON_RECORDS = ("erase", "erase, ungated", "rotate", "rotate, ungated")
OPERATIONS = ("verify", "verify, ungated", "candidates", "identify", "known", "enrol", *ON_RECORDS)
#: Messages that each holder sends in one session.
LENGTHS = {
    "verify": (10, 11), "verify, ungated": (9, 10), "candidates": (15, 15), "identify": (24, 24), "known": (17, 17),
    "enrol": (10, 12),
    "erase": (10, 12), "erase, ungated": (4, 5), "rotate": (10, 12), "rotate, ungated": (4, 5),
}  # fmt: skip

Delivery = Sequence[Envelope]


class Way:
    """What happens on the way: one envelope, the `position`-th of one holder, is met by `meet`."""

    def __init__(self, target: int, position: int, meet: Callable[[Way, Envelope], Delivery]) -> None:
        self.target, self.position, self.meet = target, position, meet
        self.passed: tuple[list[Envelope], list[Envelope]] = ([], [])
        self.held: list[Envelope] = []
        self.met = False

    def __call__(self, sender: int, envelope: Envelope) -> Delivery:
        self.passed[sender].append(envelope)
        if sender == self.target and len(self.passed[sender]) == self.position + 1:
            self.met = True
            return self.meet(self, envelope)
        if sender == self.target and self.held:
            return [envelope, self.held.pop()]
        return [envelope]

    def hold(self, envelope: Envelope) -> Delivery:
        """Deliver it after the sender's next one."""
        self.held.append(envelope)
        return []

    def sent_by_the_receiver(self) -> list[Envelope]:
        return self.passed[1 - self.target]


def outcome_of(simulator: PairSimulator, operation: str, gallery: SimulatedGallery) -> list[int]:
    """The opened bits, or the lanes and what the device is told."""
    name, _, ungated = operation.partition(", ")
    template = operation == "enrol" or operation in ON_RECORDS
    request = simulator.request(name, 0 if template else THRESHOLD)  # type: ignore[arg-type]
    ends = simulator.run(request, simulator.encrypt(PROBE), gallery, gallery.places, [not ungated])
    if template:
        assert all(isinstance(end, TemplateShare) for end in ends)
        lanes, valid = simulator.opened(ends)
        return [*lanes.tolist(), *valid.tolist()]
    assert all(isinstance(end, DecisionShare) for end in ends)
    return [*(ends[PLUS].bits ^ ends[MINUS].bits).tolist(), ends[PLUS].valid ^ ends[MINUS].valid]


def expected_of(operation: str) -> list[int]:
    if operation == "enrol" or operation in ON_RECORDS:
        return [*(PROBE + TOY.offset).tolist(), *[1] * (operation in ("enrol", "rotate"))]
    return [*expected_bits(operation), 1]


def expected_bits(operation: str) -> list[int]:
    bits = TEMPLATES @ PROBE >= THRESHOLD
    if operation == "identify":
        return [(int(np.argmax(TEMPLATES @ PROBE)) + 1) >> i & 1 for i in range(4)]
    return [int(bits.any())] if operation.startswith(("verify", "known")) else bits.astype(int).tolist()


@pytest.fixture(scope="module", params=SCHEMES)
def simulator(request: pytest.FixtureRequest) -> PairSimulator:
    return PairSimulator(keys_of(request.param))


@pytest.fixture(scope="module")
def gallery(simulator: PairSimulator) -> SimulatedGallery:
    return SimulatedGallery.of(simulator.keys.scheme, TEMPLATES)


@pytest.fixture(autouse=True)
def undisturbed(simulator: PairSimulator) -> Iterator[None]:
    yield
    simulator.on_the_way = lambda sender, envelope: [envelope]


def disturbed(
    simulator: PairSimulator,
    gallery: SimulatedGallery,
    operation: str,
    target: int,
    position: int,
    meet: Callable[[Way, Envelope], Delivery],
) -> Exception:
    """Run a session in which one message meets something; return the error that it ended in."""
    simulator.on_the_way = way = Way(target, position, meet)
    try:
        found = outcome_of(simulator, operation, gallery)
    except (VeilmatchError, TimeoutError) as error:
        assert way.met
        ended = [session for session in simulator.last_sessions if session.finished]
        assert ended or isinstance(error, TimeoutError)
        for session in ended:
            with pytest.raises(ProtocolError):
                session.resume(None)
        return error
    pytest.fail(f"message {position} of holder {target} was disturbed, and the session ended with {found}")


def every_position(operation: str) -> list[tuple[int, int]]:
    return [(holder, position) for holder in (PLUS, MINUS) for position in range(LENGTHS[operation][holder])]


def undisturbed_messages(
    simulator: PairSimulator, gallery: SimulatedGallery, operation: str
) -> list[tuple[int, int, Any]]:
    """Each message of a session: holder, position, and what is sent there when nothing is disturbed."""
    outcome_of(simulator, operation, gallery)
    sent = {holder: [e.message for h, e in simulator.sent if h == holder] for holder in (PLUS, MINUS)}
    return [(holder, position, sent[holder][position]) for holder, position in every_position(operation)]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_undisturbed_session_ends_as_expected(
    simulator: PairSimulator, gallery: SimulatedGallery, operation: str
) -> None:
    assert outcome_of(simulator, operation, gallery) == expected_of(operation)
    lengths = tuple(sum(sender == holder for sender, _ in simulator.sent) for holder in (PLUS, MINUS))
    assert lengths == LENGTHS[operation], "every position is met by the tests below"
    for holder in (PLUS, MINUS):
        numbers = [envelope.number for sender, envelope in simulator.sent if sender == holder]
        assert len(set(numbers)) == len(numbers) and numbers == sorted(numbers)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_dropped_message_is_waited_for(simulator: PairSimulator, gallery: SimulatedGallery, operation: str) -> None:
    for where in every_position(operation):
        error = disturbed(simulator, gallery, operation, *where, lambda way, envelope: [])
        assert isinstance(error, TimeoutError | ProtocolError)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_repeated_message_ends_the_session(simulator: PairSimulator, gallery: SimulatedGallery, operation: str) -> None:
    for where in every_position(operation):
        error = disturbed(simulator, gallery, operation, *where, lambda way, envelope: [envelope, envelope])
        assert isinstance(error, ProtocolError)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_earlier_message_repeated_in_place_of_a_later_one_ends_the_session(
    simulator: PairSimulator, gallery: SimulatedGallery, operation: str
) -> None:
    for holder, position in every_position(operation):
        if position:
            error = disturbed(
                simulator, gallery, operation, holder, position, lambda way, _: [way.passed[way.target][-2]]
            )
            assert isinstance(error, ProtocolError)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_message_that_comes_after_the_next_one_ends_the_session(
    simulator: PairSimulator, gallery: SimulatedGallery, operation: str
) -> None:
    seen = set()
    for where in every_position(operation):
        error = disturbed(simulator, gallery, operation, *where, Way.hold)
        seen.add(type(error))
        assert isinstance(error, TimeoutError | ProtocolError), "the next one may wait for an answer to this one"
    assert ProtocolError in seen


def shortened(message: Any) -> Iterator[Any]:
    """The message with each of its byte strings a byte shorter, a byte longer, or empty."""
    for field in fields(message):
        value = getattr(message, field.name)
        if isinstance(value, bytes) and value:
            for other in (value[:-1], value + b"\0", b""):
                yield replace(message, **{field.name: other})


@pytest.mark.parametrize("operation", OPERATIONS)
def test_message_cut_short_ends_the_session(
    simulator: PairSimulator, gallery: SimulatedGallery, operation: str
) -> None:
    for holder, position, undisturbed in undisturbed_messages(simulator, gallery, operation):
        for variant in range(max(1, min(6, len(list(shortened(undisturbed)))))):

            def cut(way: Way, envelope: Envelope, variant: int = variant) -> Delivery:
                made = list(shortened(envelope.message))
                if not made:  # no bytes in it: cut its envelope
                    return [replace(envelope, session_id=envelope.session_id[:-1])]
                return [replace(envelope, message=made[variant])]

            error = disturbed(simulator, gallery, operation, holder, position, cut)
            assert isinstance(error, ProtocolError | CiphertextError)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_message_swapped_for_one_of_the_receiver_s_own_ends_the_session(
    simulator: PairSimulator, gallery: SimulatedGallery, operation: str
) -> None:
    def last(way: Way, envelope: Envelope) -> Delivery:
        return way.sent_by_the_receiver()[-1:]

    def same_number(way: Way, envelope: Envelope) -> Delivery:
        return [e for e in way.sent_by_the_receiver() if e.number == envelope.number]

    def same_position(way: Way, envelope: Envelope) -> Delivery:
        return way.sent_by_the_receiver()[way.position : way.position + 1]

    for holder, position in every_position(operation):
        for meet in (last, same_number, same_position):
            error = disturbed(simulator, gallery, operation, holder, position, meet)
            # Nothing to swap it for: the receiver has not come so far.
            assert isinstance(error, ProtocolError | CiphertextError | TimeoutError)
    error = disturbed(simulator, gallery, operation, PLUS, 0, same_position)
    assert isinstance(error, ProtocolError), "its own hello"


@pytest.mark.parametrize("operation", OPERATIONS)
def test_message_of_a_foreign_session_ends_the_session(
    simulator: PairSimulator, gallery: SimulatedGallery, operation: str
) -> None:
    outcome_of(simulator, operation, gallery)
    foreign = {holder: [e for h, e in simulator.sent if h == holder] for holder in (PLUS, MINUS)}

    def of_the_same_place(way: Way, envelope: Envelope) -> Delivery:
        return [foreign[way.target][way.position]]

    def under_this_session(way: Way, envelope: Envelope) -> Delivery:
        return [replace(foreign[way.target][way.position], session_id=envelope.session_id)]

    for holder, position in every_position(operation):
        error = disturbed(simulator, gallery, operation, holder, position, of_the_same_place)
        assert isinstance(error, ProtocolError)
        if isinstance(foreign[holder][position].message, Hello | Agreement | Coins | SafetyProof):
            error = disturbed(simulator, gallery, operation, holder, position, under_this_session)
            bound = isinstance(error, ProtocolError | CiphertextError | KeySafetyError)
            assert bound, "bound to the session by more than its envelope"


@pytest.mark.parametrize("operation", ["verify", "enrol"])
def test_hello_of_another_session_of_the_same_request_leads_nowhere(
    simulator: PairSimulator, gallery: SimulatedGallery, operation: str
) -> None:
    request, ciphertexts = simulator.request(operation, THRESHOLD), simulator.encrypt(PROBE)
    simulator.run(request, ciphertexts, gallery, gallery.places)
    hellos = {holder: e for holder, e in simulator.sent if isinstance(e.message, Hello)}
    for holder in (PLUS, MINUS):
        simulator.on_the_way = Way(holder, 0, lambda way, envelope: [hellos[way.target]])
        with pytest.raises(ProtocolError):
            simulator.run(request, ciphertexts, gallery, gallery.places)
        assert not any(isinstance(e.message, Openings) for _, e in simulator.sent)


KINDS = [
    Hello(bytes(96), bytes(32), bytes(32), 0, 0, 0, 0, 0, 0, bytes(32), bytes(64)), Agreement(bytes(32), bytes(64)),
    Allocation("triples", 0), Allocation("bits", 0), Openings(bytes(256)), LastMask(b""),
    LastMask(bytes(15)), LastMask(bytes(16)), GateLayer(b""), Coins(bytes(32)), SafetyProof(bytes(64)), None, b"bytes",
]  # fmt: skip


@pytest.mark.parametrize("operation", OPERATIONS)
def test_message_of_another_kind_ends_the_session(
    simulator: PairSimulator, gallery: SimulatedGallery, operation: str
) -> None:
    for holder, position, undisturbed in undisturbed_messages(simulator, gallery, operation):
        for message in [kind for kind in KINDS if type(kind) is not type(undisturbed)]:

            def other(way: Way, envelope: Envelope, message: Any = message) -> Delivery:
                return [replace(envelope, message=message)]

            error = disturbed(simulator, gallery, operation, holder, position, other)
            assert isinstance(error, ProtocolError)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(
    "change",
    [
        lambda e: replace(e, number=e.number + 1),
        lambda e: replace(e, number=e.number - 1),
        lambda e: replace(e, session_id=e.session_id + b"\0"),
        lambda e: replace(e, session_id=bytes(32)),
        lambda e: e.message,
        lambda e: None,
    ],
    ids=["number above", "number below", "longer session", "session of zeros", "no envelope", "nothing"],
)
def test_envelope_of_another_number_or_session_ends_the_session(
    simulator: PairSimulator, gallery: SimulatedGallery, operation: str, change: Callable[[Envelope], Any]
) -> None:
    for where in every_position(operation):
        error = disturbed(simulator, gallery, operation, *where, lambda way, envelope: [change(envelope)])
        assert isinstance(error, ProtocolError)


# -- single messages with a wrong content ----------------------------------------------------------------------


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("value", ["N", "all ones"])
def test_opening_that_is_not_reduced_ends_the_session(
    simulator: PairSimulator, gallery: SimulatedGallery, operation: str, value: str
) -> None:
    N = simulator.keys.scheme.modulus
    part = b"\xff" * 64 if value == "all ones" else int(N).to_bytes(64, "big")
    for holder in (PLUS, MINUS):
        for at in (0, 1, 3):

            def raised(sender: int, envelope: Envelope, holder: int = holder, at: int = at) -> Delivery:
                if sender == holder and isinstance(envelope.message, Openings):
                    values = bytearray(envelope.message.values)
                    values[64 * at : 64 * at + 64] = part
                    return [replace(envelope, message=Openings(bytes(values)))]
                return [envelope]

            simulator.on_the_way = raised
            with pytest.raises(ProtocolError):
                outcome_of(simulator, operation, gallery)


#: Those of the lanes and of the results of a search, of the lanes and of the words of a template, of a record's, and of
#: all that a verification converts.
LAST_MASKS = [
    ("candidates", 0), ("candidates", 1), ("enrol", 0), ("enrol", 1), ("rotate, ungated", 0), ("verify", 0),
    ("verify, ungated", 0),
]  # fmt: skip


@pytest.mark.parametrize("size", [0, 1, 15, 17, 32])
def test_mask_seed_of_the_wrong_size_ends_the_session(
    simulator: PairSimulator, gallery: SimulatedGallery, size: int
) -> None:
    for operation, position in LAST_MASKS:
        seen: list[int] = []

        def other(sender: int, envelope: Envelope, position: int = position, seen: list[int] = seen) -> Delivery:
            if isinstance(envelope.message, LastMask):
                seen.append(1)
                if len(seen) == position + 1:
                    return [replace(envelope, message=LastMask(bytes(size)))]
            return [envelope]

        simulator.on_the_way = other
        with pytest.raises(ProtocolError, match="mask seed") as raised:
            outcome_of(simulator, operation, gallery)
        assert (raised.value.got, raised.value.expected) == (str(size), "16")
        assert len(seen) == position + 1 and simulator.last_sessions[PLUS].finished


@pytest.mark.parametrize(("operation", "position"), LAST_MASKS)
def test_second_mask_seed_where_there_is_one_ends_the_session(
    simulator: PairSimulator, gallery: SimulatedGallery, operation: str, position: int
) -> None:
    """Rightly numbered and as long: there is no place for it, as nothing is masked a second time."""
    seen: list[int] = []

    def another(sender: int, envelope: Envelope) -> Delivery:
        if isinstance(envelope.message, LastMask):
            seen.append(1)
            if len(seen) == position + 1:
                return [envelope, replace(envelope, number=envelope.number + 2, message=LastMask(bytes(16)))]
        return [envelope]

    simulator.on_the_way = another
    with pytest.raises(ProtocolError):
        outcome_of(simulator, operation, gallery)
    assert len(seen) == position + 1


def test_mask_seed_of_the_plus_holder_ends_the_session(simulator: PairSimulator, gallery: SimulatedGallery) -> None:
    """It is the minus holder that draws; in place of each of the plus holder's messages, and after it."""
    for operation in ("verify", "candidates", "enrol", "rotate, ungated"):
        for position in range(LENGTHS[operation][PLUS]):

            def instead(way: Way, envelope: Envelope) -> Delivery:
                return [replace(envelope, message=LastMask(bytes(16)))]

            def after(way: Way, envelope: Envelope) -> Delivery:
                return [envelope, replace(envelope, number=envelope.number + 2, message=LastMask(bytes(16)))]

            for meet in (instead, after):
                error = disturbed(simulator, gallery, operation, PLUS, position, meet)
                assert isinstance(error, ProtocolError)


def with_start(kind: str, start: int, kinds: tuple[type, ...]) -> Callable[[int, Envelope], Delivery]:
    """The plus holder says another start of this kind of stock."""

    def on_the_way(sender: int, envelope: Envelope) -> Delivery:
        message = envelope.message
        if sender == PLUS and isinstance(message, Hello) and Hello in kinds:
            return [replace(envelope, message=replace(message, **{f"{kind}_start": start}))]
        if isinstance(message, Allocation) and message.kind == kind and Allocation in kinds:
            return [replace(envelope, message=replace(message, start=start))]
        return [envelope]

    return on_the_way


def test_stock_allocated_below_a_floor_ends_the_session(simulator: PairSimulator, gallery: SimulatedGallery) -> None:
    outcome_of(simulator, "candidates", gallery)
    for kind in STOCK_KINDS:
        for operation, where in (("candidates", Hello), ("candidates", Allocation), ("verify", Hello)):
            if (where, kind) == (Allocation, "products"):
                continue  # all of them are said in the hello
            simulator.on_the_way = with_start(kind, 0, (where,))
            with pytest.raises(ProtocolError):
                outcome_of(simulator, operation, gallery)


def test_stock_allocated_below_a_floor_ends_the_session_even_if_the_stock_would_give_it(
    simulator: PairSimulator, gallery: SimulatedGallery
) -> None:
    forgetful = PairSimulator(simulator.keys)
    forgetful.stocks[MINUS].reuse_triples = True
    assert outcome_of(forgetful, "candidates", gallery) == expected_of("candidates")
    assert forgetful.stocks[MINUS].floors[0] == 0 < forgetful.stocks[PLUS].floors[0], "the floor is the peer's"
    for operation, where, opened in (("candidates", Hello, 0), ("candidates", Allocation, 1), ("verify", Hello, 0)):
        forgetful.on_the_way = with_start("triples", 0, (where,))
        with pytest.raises(ProtocolError):
            outcome_of(forgetful, operation, gallery)
        assert sum(isinstance(e.message, Openings) for holder, e in forgetful.sent if holder == MINUS) == opened


@pytest.mark.parametrize("holder", [PLUS, MINUS])
def test_hello_with_the_receiver_s_own_nonce_ends_the_session(
    simulator: PairSimulator, gallery: SimulatedGallery, holder: int
) -> None:
    def mirrored(sender: int, envelope: Envelope) -> Delivery:
        if sender == holder and isinstance(envelope.message, Hello):
            nonce = session_nonce(simulator.last_sessions[1 - holder]._converter._coins)
            return [replace(envelope, message=replace(envelope.message, nonce=nonce))]
        return [envelope]

    simulator.on_the_way = mirrored
    with pytest.raises(ProtocolError) as raised:
        outcome_of(simulator, "verify", gallery)
    assert "nonce" in raised.value.message


def test_stock_of_the_other_kind_ends_the_session(simulator: PairSimulator, gallery: SimulatedGallery) -> None:
    def swapped(sender: int, envelope: Envelope) -> Delivery:
        if isinstance(envelope.message, Allocation):
            kind = STOCK_KINDS[STOCK_KINDS.index(envelope.message.kind) - 1]
            return [replace(envelope, message=replace(envelope.message, kind=kind))]
        return [envelope]

    simulator.on_the_way = swapped
    with pytest.raises(ProtocolError):
        outcome_of(simulator, "candidates", gallery)
