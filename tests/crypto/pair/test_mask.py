"""Both masks: the same at both holders, another for every draw, session, secret and seed, on all that leaves."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.attacks.tools import Converted, take_last_mask_out, take_mask_out, take_session_mask_out
from tests.crypto.toys import TOY, keys_of, lane_shares, repeated
from tests.simulator import (
    FIRST,
    MINUS,
    PLUS,
    Keys,
    PairSimulator,
    SimulatedGallery,
    first_taken,
    next_residues,
    seeds,
    unit_vectors,
)
from veilmatch.crypto.arithmetic import Integer, random_bits
from veilmatch.crypto.digests import digest
from veilmatch.crypto.errors import ProtocolError
from veilmatch.crypto.gates import validity
from veilmatch.crypto.packing import lanes
from veilmatch.crypto.pair import mask as mask_module
from veilmatch.crypto.pair.exchange import Exchange
from veilmatch.crypto.pair.mask import (
    MASK_SECRET_BYTES,
    SEED_BYTES,
    SessionMask,
    draw_seed,
    last_masked,
    last_masked_words,
)
from veilmatch.crypto.pair.messages import (
    Coins,
    Envelope,
    Hello,
    LastMask,
    Openings,
    ProbeShare,
    Receive,
    SafetyProof,
    Send,
)
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


# -- last masks ----------------------------------------------------------------------------------------------


LAST: dict[str, Callable[[bytes], list[int]]] = {
    "residues": lambda seed: [int(x) for x in last_masked([Integer(0)] * 40, seed, N)],
    "words": lambda seed: last_masked_words(np.zeros(40, dtype=np.uint64), seed).tolist(),
}


@pytest.mark.parametrize("kind", LAST)
def test_every_seed_has_a_last_mask_of_its_own_and_always_the_same(kind: str) -> None:
    drawn = [FIRST, bytes(15) + b"\1", b"\1" + bytes(15), *(secrets.token_bytes(SEED_BYTES) for _ in range(17))]
    found = [LAST[kind](seed) for seed in drawn]
    assert found == [LAST[kind](seed) for seed in drawn]
    assert len({x for values in found for x in values}) == 20 * 40, "no number comes twice"
    assert not {*LAST["residues"](FIRST)} & {*LAST["words"](FIRST)}


@given(st.lists(st.integers(0, int(N) - 1), max_size=9), st.binary(min_size=SEED_BYTES, max_size=SEED_BYTES))
def test_last_masks_are_added_to_both_shares_and_differences_stay(values: list[int], seed: bytes) -> None:
    shares = [Integer(x) for x in values]
    zeros = [Integer(0)] * len(values)
    masked, masks = last_masked(shares, seed, N), last_masked(zeros, seed, N)
    assert all(0 <= x < N for x in masked)
    assert [(x - m) % N for x, m in zip(masked, masks, strict=True)] == shares
    words = np.array([x % (1 << 64) for x in values], dtype=np.uint64)
    of_zeros = last_masked_words(np.zeros(len(words), dtype=np.uint64), seed)
    found = last_masked_words(words, seed)
    assert found.dtype == np.uint64 and np.array_equal(found - of_zeros, words)


def test_words_of_last_masks_are_fair_coins() -> None:
    words = last_masked_words(np.zeros(4000, dtype=np.uint64), secrets.token_bytes(SEED_BYTES))
    ones = [int((words >> np.uint64(i) & np.uint64(1)).sum()) for i in range(64)]
    assert all(1800 < count < 2200 for count in ones), "beyond six standard deviations"


@pytest.mark.parametrize("unsafe", [0, 1, 2, 1000])
def test_the_first_seed_that_is_safe_is_drawn_and_nothing_is_asked_after_it(
    unsafe: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bytes] = []
    drawn: list[Integer] = []

    def noting(bits: int) -> Integer:
        drawn.append(random_bits(bits))
        return drawn[-1]

    def is_safe(seed: bytes) -> bool:
        asked.append(seed)
        return len(asked) > unsafe

    monkeypatch.setattr(mask_module, "random_bits", noting)
    seed = draw_seed(is_safe)
    assert seed == asked[-1] and len(seed) == SEED_BYTES == 16
    assert len(set(asked)) == len(asked) == unsafe + 1, "each is a fresh one"
    assert [int.from_bytes(x, "big") for x in asked] == drawn


def test_seeds_are_uniform() -> None:
    bits = np.unpackbits(np.frombuffer(b"".join(draw_seed(lambda seed: True) for _ in range(4000)), dtype=np.uint8))
    ones = bits.reshape(4000, 8 * SEED_BYTES).sum(axis=0)
    assert np.all((ones > 1800) & (ones < 2200)), "beyond six standard deviations"


def test_plus_holder_asks_nothing_of_its_own_shares_and_takes_the_seed_that_it_hears() -> None:
    exchange = Exchange(keys_of("stand-in").scheme, (0, 0, 0), is_plus=True)

    def never(seed: bytes) -> bool:
        raise AssertionError("only the minus holder's shares are asked about")

    steps = exchange.last_mask(never)
    assert isinstance(next(steps), Receive)
    with pytest.raises(StopIteration) as stop:
        steps.send(Envelope(b"", 1, LastMask(FIRST)))
    assert stop.value.value == FIRST


def test_minus_holder_sends_the_seed_that_it_uses() -> None:
    exchange = Exchange(keys_of("stand-in").scheme, (0, 0, 0), is_plus=False)
    steps = exchange.last_mask(lambda seed: True)
    action = next(steps)
    assert isinstance(action, Send) and isinstance(action.envelope.message, LastMask)
    with pytest.raises(StopIteration) as stop:
        steps.send(None)
    assert stop.value.value == action.envelope.message.seed


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
        changed = replace(m, mask_secret=bytes(size))
        return [Envelope(envelope.session_id, envelope.number, changed)]

    simulator = PairSimulator(keys_of("stand-in"), on_the_way=resized)
    with pytest.raises(ProtocolError, match="mask secret"):
        simulator.enrol(PROBE)
    assert not any(isinstance(e.message, Openings) for sender, e in simulator.sent if sender != holder)


def test_secrets_of_holders_are_fresh_in_every_session(keys: Keys) -> None:
    simulator, seen = PairSimulator(keys), set()
    for _ in range(5):
        simulator.enrol(PROBE)
        seen |= {hello_of(simulator, holder).mask_secret for holder in (PLUS, MINUS)}
    assert len(seen) == 10


def test_seeds_of_last_masks_are_fresh_in_every_session(keys: Keys) -> None:
    simulator, seen = PairSimulator(keys), set()
    for _ in range(5):
        simulator.enrol(PROBE)
        seen |= set(seeds(simulator))
    assert len(seen) == 10 and {len(seed) for seed in seen} == {SEED_BYTES}, "of lanes and of words"


@pytest.mark.parametrize("operation", ["verify", "candidates", "enrol", "erase", "rotate"])
def test_last_masks_are_drawn_after_the_last_message_of_the_plus_holder(keys: Keys, operation: Operation) -> None:
    """That by which its peer could still move the minus holder's shares: its openings, or its last layer."""
    simulator, drawn = PairSimulator(keys), []
    heard: list[str] = []

    def on_the_way(sender: int, envelope: Envelope) -> list[Envelope]:
        if sender == PLUS and not isinstance(envelope.message, Coins | SafetyProof):
            heard.append(type(envelope.message).__name__)
        return [envelope]

    def seed_of(is_safe: Callable[[bytes], bool]) -> bytes:
        drawn.append(tuple(heard))
        return draw_seed(is_safe)

    simulator.on_the_way, simulator.seed_of = on_the_way, seed_of
    gallery = SimulatedGallery.of(keys.scheme, np.array(OTHERS))
    simulator.run(simulator.request(operation, 1), simulator.encrypt(PROBE), gallery, gallery.places)
    assert drawn[0][-1] == "Openings" and drawn[0].count("Openings") == 1
    if operation == "verify":
        assert len(drawn) == 1
    elif operation == "candidates":
        assert len(drawn) == 2 and drawn[1].count("Openings") == 2
    else:
        assert len(drawn) == 2
        assert drawn[1] == tuple(heard) and drawn[1][-1] == "GateLayer", "after which it says nothing"


def test_both_w_are_masked_by_the_same_number_before_anything_is_cut_out(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record of the matchers, of which lanes leave as they are cut: they are those of w plus both masks."""
    converted, simulator, masks = Converted(monkeypatch), PairSimulator(keys), []

    def looking_ahead(number: int, count: int) -> None:
        masks.append(next_residues(simulator.last_sessions[PLUS], count, keys.scheme.modulus))

    simulator.aim = looking_ahead
    ends = simulator.run(simulator.request("rotate", 0), simulator.encrypt(PROBE), by_device=[False])
    (seed,) = seeds(simulator)
    for end, w in zip(ends, (converted.plus, converted.minus), strict=True):
        once = [(x + m) % keys.scheme.modulus for x, m in zip(w, masks[-1], strict=True)]
        twice = last_masked(once, seed, keys.scheme.modulus)
        found = [end.lanes.tolist(), *(lanes.unpack(x, TOY).tolist() for x in (once, w))]
        assert found[0] == lanes.unpack(twice, TOY).tolist() and len({tuple(x) for x in found}) == 3


def test_a_conversion_of_which_another_seed_is_drawn_has_the_mask_of_that_and_the_same_of_the_session(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    converted, simulator = Converted(monkeypatch), PairSimulator(keys)
    risky, masks = lane_shares(repeated(2**TOY.lane_bits - 1, TOY), TOY), []

    def noting(number: int, count: int) -> list[Integer]:
        masks.append(next_residues(simulator.last_sessions[PLUS], count, keys.scheme.modulus))
        return risky

    simulator.aim = noting
    ends = simulator.run(simulator.request("rotate", 0), simulator.encrypt(PROBE), by_device=[False])
    assert np.array_equal(simulator.opened(ends)[0], PROBE + TOY.offset)
    assert first_taken(simulator) == [False] and len(masks) == 1 and len(converted.minus) == TOY.lane_ciphertexts
    once = [(x + m) % keys.scheme.modulus for x, m in zip(converted.minus, masks[0], strict=True)]
    assert last_masked(once, FIRST, keys.scheme.modulus) == risky
    twice = last_masked(once, seeds(simulator)[0], keys.scheme.modulus)
    assert ends[MINUS].lanes.tolist() == lanes.unpack(twice, TOY).tolist()


# -- without them -----------------------------------------------------------------------------------------


def what_leaves(
    keys: Keys, operation: Operation, seed: bytes, ciphertexts: list[Integer], holder: int,
    gallery: SimulatedGallery | None = None,
) -> list[int]:  # fmt: skip
    """All that one holder gives to its matcher in a session with the very same dealt randomness.

    Of a search but the answer: results are randomised by the matchers.
    """
    shares: list[int] = []
    simulator = PairSimulator(keys)
    for stock in simulator.stocks:
        stock.seed = seed
    simulator.observe = lambda h, a: (
        shares.extend(a.exponents.tolist()) if h == holder and isinstance(a, ProbeShare) else None
    )
    gallery = gallery or SimulatedGallery.of(keys.scheme, np.array(OTHERS))
    end = simulator.run(simulator.request(operation, 1), ciphertexts, gallery, gallery.places)[holder]
    if operation == "verify":
        return [*end.bits.tolist(), end.valid]
    return shares + (end.lanes.tolist() if hasattr(end, "lanes") else [])


@pytest.mark.parametrize("holder", [PLUS, MINUS])
@pytest.mark.parametrize("operation", ["verify", "candidates", "enrol", "erase", "rotate"])
def test_what_leaves_of_the_same_dealt_randomness_is_never_the_same(
    keys: Keys, operation: Operation, holder: int
) -> None:
    seed, ciphertexts = secrets.token_bytes(32), PairSimulator(keys).encrypt(PROBE)
    if operation == "verify":  # two bits
        runs = [what_leaves(keys, operation, seed, ciphertexts, holder) for _ in range(40)]
        assert len({tuple(run) for run in runs}) == 4
        return
    runs = [what_leaves(keys, operation, seed, ciphertexts, holder) for _ in range(6)]
    assert len({tuple(run) for run in runs}) == 6
    if operation != "candidates":
        assert len({word for run in runs for word in run}) == 6 * TOY.dimension, "of 64 bits each"


@pytest.mark.parametrize("holder", [PLUS, MINUS])
@pytest.mark.parametrize("operation", ["verify", "candidates", "enrol", "erase", "rotate"])
def test_without_the_masks_shares_are_a_function_of_what_was_dealt(
    keys: Keys, operation: Operation, holder: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As they were, and what tests/attacks/test_dealer_and_matcher.py makes of it. Beside that of public parities."""
    take_mask_out(monkeypatch)
    monkeypatch.setattr(validity, "digest", lambda label, session_id, at: digest(label, at))
    seed, ciphertexts = secrets.token_bytes(32), PairSimulator(keys).encrypt(PROBE)
    gallery = SimulatedGallery.of(keys.scheme, np.array(OTHERS))
    runs = [what_leaves(keys, operation, seed, ciphertexts, holder, gallery) for _ in range(3)]
    assert runs[0] == runs[1] == runs[2]


@pytest.mark.parametrize("take_out", [take_session_mask_out, take_last_mask_out])
@pytest.mark.parametrize("holder", [PLUS, MINUS])
@pytest.mark.parametrize("operation", ["candidates", "enrol"])
def test_with_either_mask_alone_what_leaves_is_never_the_same(
    keys: Keys,
    operation: Operation,
    holder: int,
    take_out: Callable[[pytest.MonkeyPatch], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    take_out(monkeypatch)
    seed, ciphertexts = secrets.token_bytes(32), PairSimulator(keys).encrypt(PROBE)
    assert len({tuple(what_leaves(keys, operation, seed, ciphertexts, holder)) for _ in range(6)}) == 6
