"""The mask of a session: the same at both holders, another for every draw, session and secret, on all that leaves."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.attacks.tools import Converted
from tests.crypto.toys import TOY, aimed, keys_of, lane_shares, repeated
from tests.simulator import MINUS, PLUS, Keys, PairSimulator, SimulatedGallery, next_residues, unit_vectors
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.errors import ProtocolError
from veilmatch.crypto.packing import lanes
from veilmatch.crypto.pair.exchange import Exchange
from veilmatch.crypto.pair.mask import MASK_SECRET_BYTES, SessionMask
from veilmatch.crypto.pair.messages import Envelope, Hello, ProbeShare
from veilmatch.crypto.pair.request import Operation

N = (Integer(1) << 511) + 1234567
SESSION, PLUS_SECRET, MINUS_SECRET = (secrets.token_bytes(32) for _ in range(3))
PROBE, *OTHERS = unit_vectors(np.random.default_rng(301), 10, TOY)


def mask(session: bytes = SESSION, plus: bytes = PLUS_SECRET, minus: bytes = MINUS_SECRET) -> SessionMask:
    return SessionMask(session, plus, minus)


DRAWS: dict[str, Callable[[SessionMask], list[int]]] = {
    "residues": lambda m: [int(x) for x in m.residues(40, N)],
    "words": lambda m: m.words(40).tolist(),  # type: ignore[dict-item, return-value]
    "bits": lambda m: m.bits(400).tolist(),  # type: ignore[dict-item, return-value]
}


# -- streams ----------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.sampled_from(sorted(DRAWS)), st.integers(0, 20)), max_size=8))
def test_who_draws_in_the_same_order_gets_the_same(draws: list[tuple[str, int]]) -> None:
    one, other = mask(), mask()
    for kind, count in draws:
        arguments = (count, N) if kind == "residues" else (count,)
        first, second = (getattr(m, kind)(*arguments) for m in (one, other))
        assert list(first) == list(second) and len(first) == count


@pytest.mark.parametrize("kind", DRAWS)
def test_every_draw_session_and_secret_has_a_stream_of_its_own(kind: str) -> None:
    draw, made = DRAWS[kind], mask()
    other = secrets.token_bytes(32)
    found = [draw(made) for _ in range(20)]
    found += [draw(mask(session=other)), draw(mask(plus=other)), draw(mask(minus=other))]
    found += [draw(mask(plus=MINUS_SECRET, minus=PLUS_SECRET)), draw(mask(minus=PLUS_SECRET))]
    found += [draw(mask(session=SESSION[:-1])), draw(mask(session=SESSION + b"\0"))]
    assert len({tuple(x) for x in found}) == len(found) == 27
    if kind != "bits":
        assert len({x for values in found for x in values}) == 27 * 40, "no number comes twice"


def test_one_kind_of_draw_moves_the_others_on() -> None:
    for first in DRAWS.values():
        for second in DRAWS.values():
            made = mask()
            first(made)
            assert second(made) != second(mask())


@pytest.mark.parametrize("modulus", [3, 251, 65537, (1 << 64) - 59, N, (1 << 512) - 1, (1 << 3072) - 1])
def test_residues_are_below_the_modulus_and_reach_its_top(modulus: int) -> None:
    found = mask().residues(600, Integer(modulus))
    assert min(found) >= 0 and max(found) < modulus
    assert len({8 * int(x) // modulus for x in found}) == min(8, modulus), "each eighth of them"


def test_words_and_bits_are_fair_coins() -> None:
    words, bits = mask().words(4000), mask().bits(4000)
    ones = [int((words >> np.uint64(i) & np.uint64(1)).sum()) for i in range(64)]
    assert words.dtype == np.uint64 and bits.dtype == np.uint8 and set(bits.tolist()) == {0, 1}
    assert all(1800 < count < 2200 for count in (*ones, int(bits.sum()))), "beyond six standard deviations"


@pytest.mark.parametrize("size", [0, 1, 16, 31, 33, 64])
def test_secrets_of_another_size_are_refused(size: int) -> None:
    assert MASK_SECRET_BYTES == 32
    for sizes in ((size, 32), (32, size), (size, size)):
        with pytest.raises(ProtocolError):
            mask(plus=bytes(sizes[0]), minus=bytes(sizes[1]))


# -- in a session ------------------------------------------------------------------------------------------


def hello_of(simulator: PairSimulator, holder: int) -> Hello:
    return next(e.message for h, e in simulator.sent if h == holder and isinstance(e.message, Hello))


def test_there_is_no_mask_before_both_have_said_hello() -> None:
    exchange = Exchange(keys_of("stand-in").scheme, (0, 0, 0), is_plus=True)
    with pytest.raises(ProtocolError):
        _ = exchange.mask
    (session, _) = PairSimulator(keys_of("stand-in")).sessions(
        PairSimulator(keys_of("stand-in")).request("enrol", 0), ([Integer(1)] * TOY.lane_ciphertexts,) * 2
    )
    session.start()
    with pytest.raises(ProtocolError):
        _ = session._exchange.mask


def test_both_holders_have_the_mask_of_both_secrets(keys: Keys) -> None:
    simulator = PairSimulator(keys)
    simulator.enrol(PROBE)
    sessions = simulator.last_sessions
    expected = mask(sessions[PLUS].session_id, *(hello_of(simulator, h).mask_secret for h in (PLUS, MINUS)))
    assert {session._exchange.mask._seed for session in sessions} == {expected._seed}
    assert {session._exchange.mask._drawn for session in sessions} == {3}, "of a conversion, of words and of a bit"


@pytest.mark.parametrize("holder", [PLUS, MINUS])
@pytest.mark.parametrize("size", [0, 31, 33])
def test_hello_with_a_secret_of_another_size_ends_the_session(holder: int, size: int) -> None:
    def resized(sender: int, envelope: Envelope) -> list[Envelope]:
        if sender != holder or not isinstance(envelope.message, Hello):
            return [envelope]
        m = envelope.message
        changed = Hello(m.context, m.nonce, bytes(size), m.triples_floor, m.bits_floor, m.products_floor)
        return [Envelope(envelope.session_id, envelope.number, changed)]

    simulator = PairSimulator(keys_of("stand-in"), on_the_way=resized)
    with pytest.raises(ProtocolError, match="mask secret"):
        simulator.enrol(PROBE)
    assert all(isinstance(e.message, Hello) for _, e in simulator.sent)


def test_secrets_of_holders_are_fresh_in_every_session(keys: Keys) -> None:
    simulator, seen = PairSimulator(keys), set()
    for _ in range(5):
        simulator.enrol(PROBE)
        seen |= {hello_of(simulator, holder).mask_secret for holder in (PLUS, MINUS)}
    assert len(seen) == 10


def test_both_w_are_masked_by_the_same_number_before_anything_is_cut_out(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record of the matchers, of which lanes leave as they are cut: they are those of w plus the mask."""
    converted, simulator, masks = Converted(monkeypatch), PairSimulator(keys), []

    def looking_ahead(number: int, count: int) -> None:
        masks.append(next_residues(simulator.last_sessions[PLUS], count, keys.scheme.modulus))

    simulator.aim = looking_ahead
    ends = simulator.run(simulator.request("rotate", 0), simulator.encrypt(PROBE), by_device=[False])
    for end, w in zip(ends, (converted.plus, converted.minus), strict=True):
        masked = [(x + m) % keys.scheme.modulus for x, m in zip(w, masks[-1], strict=True)]
        assert end.lanes.tolist() == lanes.unpack(masked, TOY).tolist() != lanes.unpack(w, TOY).tolist()


def test_a_conversion_that_is_repeated_has_another_mask(keys: Keys) -> None:
    risky = aimed(*[lane_shares(repeated(2**48 - 1, TOY), TOY)] * 2)
    simulator, masks = PairSimulator(keys), []

    def noting(number: int, count: int) -> Any:
        masks.append(tuple(next_residues(simulator.last_sessions[PLUS], count, keys.scheme.modulus)))
        return risky(number, count)

    simulator.aim = noting
    assert np.array_equal(simulator.enrol(PROBE), PROBE + TOY.offset)
    assert len(masks) == 3 and len({x for m in masks for x in m}) == 6


# -- without it -------------------------------------------------------------------------------------------


@pytest.fixture
def unmasked(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(SessionMask, "_stream", lambda self, length: bytes(length))
    yield


def what_leaves(keys: Keys, operation: Operation, seed: bytes, ciphertexts: list[Integer], holder: int) -> list[int]:
    """All that one holder gives to its matcher in a session with the very same dealt randomness."""
    shares: list[int] = []
    simulator = PairSimulator(keys)
    for stock in simulator.stocks:
        stock.seed = seed
    simulator.observe = lambda h, a: (
        shares.extend(a.exponents.tolist()) if h == holder and isinstance(a, ProbeShare) else None
    )
    gallery = SimulatedGallery.of(keys.scheme, np.array(OTHERS))
    end = simulator.run(simulator.request(operation, 1), ciphertexts, gallery, gallery.places)[holder]
    return shares + (end.lanes.tolist() if hasattr(end, "lanes") else [])


@pytest.mark.parametrize("holder", [PLUS, MINUS])
@pytest.mark.parametrize("operation", ["verify", "enrol", "erase", "rotate"])
def test_what_leaves_of_the_same_dealt_randomness_is_never_the_same(
    keys: Keys, operation: Operation, holder: int
) -> None:
    seed, ciphertexts = secrets.token_bytes(32), PairSimulator(keys).encrypt(PROBE)
    runs = [what_leaves(keys, operation, seed, ciphertexts, holder) for _ in range(6)]
    assert len({tuple(run) for run in runs}) == 6
    if operation != "verify":
        assert len({word for run in runs for word in run}) == 6 * TOY.dimension, "of 64 bits each"


@pytest.mark.parametrize("holder", [PLUS, MINUS])
def test_without_the_mask_shares_are_a_function_of_what_was_dealt(keys: Keys, unmasked: None, holder: int) -> None:
    """As they were, and what tests/attacks/test_dealer_and_matcher.py makes of it."""
    seed, ciphertexts = secrets.token_bytes(32), PairSimulator(keys).encrypt(PROBE)
    runs = [what_leaves(keys, "verify", seed, ciphertexts, holder) for _ in range(3)]
    assert runs[0] == runs[1] == runs[2]
