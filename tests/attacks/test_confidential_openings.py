"""Openings are confidential: the dealer knows b, and with the opened e = kappa - b it has the key."""

from __future__ import annotations

import logging
from typing import Any

import gmpy2
import numpy as np
import pytest
import structlog

from tests.attacks.tools import both_openings, decrypt_with, secrets_of
from tests.crypto.toys import TOY
from tests.simulator import MINUS, PLUS, Keys, PairSimulator, SimulatedGallery, unit_vectors
from veilmatch.crypto import dealing
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.dealing import BlockName
from veilmatch.crypto.errors import ProtocolError
from veilmatch.crypto.pair.messages import Agreement, Envelope, GateLayer, LastMask, Openings

#: A full pack, so that most messages of the gates are long.
PROBE, *OTHERS = unit_vectors(np.random.default_rng(21), TOY.slots + 1, TOY)
#: What is shorter than this may stand in a text by chance.
SHORTEST = 8


def test_dealer_that_sees_an_opening_has_the_key(paillier: Keys) -> None:
    simulator, N = PairSimulator(paillier), paillier.scheme.modulus
    simulator.enrol(PROBE)
    (_, e), *_ = both_openings(simulator)
    # All that the dealer has is its own seed; it deals b again.
    seed, name = simulator.stocks[PLUS].seed, BlockName("ab", bytes(32), 1, "triples", 0)
    plus, minus = (dealing.triples(dealing.deal(seed, name, N, for_plus=p), 0, 1, N)[0] for p in (True, False))
    kappa = (e + plus.b - minus.b) % N
    o = gmpy2.invert(kappa, N)
    assert (o, kappa) == secrets_of(paillier)
    m = Integer(20240101)
    assert decrypt_with(o, paillier.scheme.encrypt(m), N) == m


def test_dealer_that_sees_no_opening_has_only_its_own_numbers(paillier: Keys) -> None:
    simulator, N = PairSimulator(paillier), paillier.scheme.modulus
    seed, name = simulator.stocks[PLUS].seed, BlockName("ab", bytes(32), 1, "triples", 0)
    plus, minus = (dealing.triples(dealing.deal(seed, name, N, for_plus=p), 0, 1, N)[0] for p in (True, False))
    c = paillier.scheme.encrypt(Integer(5))
    for b in (plus.b, minus.b, (plus.b - minus.b) % N, plus.a, plus.ab):
        assert decrypt_with(gmpy2.invert(b, N), c, N) is None


# -- nothing of a message shows ---------------------------------------------------------------------------------


def written(thing: Any) -> str:
    """Everything that a log line, a format string or a traceback could make of it."""
    return " ".join((repr(thing), str(thing), f"{thing}", f"{thing!a}", repr([thing]), repr({1: thing})))


def material(message: Any) -> list[str]:
    """The bytes of a message in every way in which they could have been written."""
    values = (getattr(message, name) for name in message.__slots__)
    raw = [value for value in values if isinstance(value, bytes) and len(value) >= SHORTEST]
    return [form for x in raw for form in (x.hex(), repr(x)[2:-1], str(int.from_bytes(x, "big")), str(list(x)))]


def secret_messages(keys: Keys) -> list[tuple[int, Envelope]]:
    """Everything confidential that the two holders say in a whole query."""
    simulator = PairSimulator(keys)
    simulator.decide("candidates", PROBE, SimulatedGallery.of(keys.scheme, np.array(OTHERS)), 1)
    return [(h, e) for h, e in simulator.sent if isinstance(e.message, Openings | Agreement | GateLayer | LastMask)]


def test_no_message_shows_its_content_whoever_writes_it(keys: Keys) -> None:
    messages = secret_messages(keys)
    looked_at = {type(e.message) for _, e in messages if material(e.message)}
    assert looked_at == {type(e.message) for _, e in messages} == {Openings, Agreement, GateLayer, LastMask}
    for _, envelope in messages:
        text = written(envelope) + written(envelope.message)
        assert not any(form in text for form in material(envelope.message))
        assert f"<{type(envelope.message).__name__}>" in text


def test_material_would_be_found_if_a_message_showed_it(keys: Keys) -> None:
    message = next(e.message for _, e in secret_messages(keys) if isinstance(e.message, Openings))
    assert any(form in written(message.values) for form in material(message))


def test_no_opening_gets_into_a_log(keys: Keys, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        messages = secret_messages(keys)
        log = structlog.wrap_logger(
            logging.getLogger("of the test"), processors=[structlog.processors.JSONRenderer(default=repr)]
        )
        for _, envelope in messages:
            logging.getLogger("of the test").debug("%s %r", envelope, envelope.message)
            log.warning("received", envelope=envelope, message=envelope.message)
    assert "<Openings>" in caplog.text
    assert not any(form in caplog.text for _, e in messages for form in material(e.message))


@pytest.mark.parametrize("holder", [PLUS, MINUS])
def test_error_over_an_opening_does_not_quote_it(keys: Keys, holder: int) -> None:
    def cut(sender: int, envelope: Envelope) -> list[Envelope]:
        if sender == holder and isinstance(envelope.message, Openings):
            return [Envelope(envelope.session_id, envelope.number, Openings(envelope.message.values[:-1]))]
        return [envelope]

    simulator = PairSimulator(keys, on_the_way=cut)
    with pytest.raises(ProtocolError) as raised:
        simulator.enrol(PROBE)
    text = f"{raised.value} {raised.value!r} {raised.value.fields()}"
    sent = next(e.message for h, e in simulator.sent if h == holder and isinstance(e.message, Openings))
    assert not any(form in text for form in material(sent))
