"""The key-safety check: true values pass in every operation, and no error in what a holder opens or computes does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.crypto.toys import SCHEMES, TOY, aimed, keys_of
from tests.simulator import MINUS, PLUS, PairSimulator, SimulatedGallery, first_taken, unit_vectors
from veilmatch.crypto.arithmetic import Integer, from_bytes, to_bytes
from veilmatch.crypto.encryption.scheme import LocalShare
from veilmatch.crypto.errors import KeySafetyError, ProtocolError
from veilmatch.crypto.pair import converting
from veilmatch.crypto.pair.key_safety import Conversion, Weights, combination, draw_weights, session_nonce
from veilmatch.crypto.pair.messages import Coins, Envelope, Openings, SafetyProof
from veilmatch.crypto.pair.request import Operation
from veilmatch.crypto.rings.grid import Grid

RANDOM = np.random.default_rng(33)
PROBE, *TEMPLATES = unit_vectors(RANDOM, TOY.slots + 4, TOY)
OPERATIONS: tuple[Operation, ...] = ("verify", "candidates", "identify", "known", "enrol", "erase", "rotate")
QUERIES, SEARCHES = OPERATIONS[:3], OPERATIONS[1:3]


def run(simulator: PairSimulator, operation: Operation) -> None:
    gallery = SimulatedGallery.of(simulator.keys.scheme, np.array(TEMPLATES))
    probe, places = simulator.encrypt(PROBE), gallery.places[:1] if operation == "verify" else gallery.places
    threshold = 1 if operation in QUERIES else 0
    simulator.run(simulator.request(operation, threshold), probe, gallery, places)


def adding(simulator: PairSimulator, sender: int, message: int, value: int, amount: int) -> PairSimulator:
    """A holder adds an amount to one of the values of its Openings number `message`."""
    return adding_all(simulator, sender, message, {value: amount})


def adding_all(simulator: PairSimulator, sender: int, message: int, amounts: dict[int, int]) -> PairSimulator:
    """A holder adds amounts to some of the values of its Openings number `message`, by their places."""
    N = simulator.keys.scheme.modulus
    size, count = (N.bit_length() + 7) // 8, -1

    def on_the_way(holder: int, envelope: Envelope) -> list[Envelope]:
        nonlocal count
        if holder != sender or not isinstance(envelope.message, Openings):
            return [envelope]
        count += 1
        if count != message:
            return [envelope]
        values = envelope.message.values
        parts = [from_bytes(values[i : i + size]) for i in range(0, len(values), size)]
        for value, amount in amounts.items():
            at = value % len(parts)
            parts[at] = (parts[at] + amount) % N
        return [replace(envelope, message=Openings(b"".join(to_bytes(p, size) for p in parts)))]

    simulator.on_the_way = on_the_way
    return simulator


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_true_values_pass(scheme: str, operation: Operation) -> None:
    run(PairSimulator(keys_of(scheme)), operation)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("sender", [PLUS, MINUS])
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("value", range(2 * TOY.lane_ciphertexts))
def test_an_error_in_any_opening_of_a_lane_is_refused(
    scheme: str, operation: Operation, sender: int, value: int
) -> None:
    with pytest.raises(KeySafetyError, match=f"key holder {'ab'[sender]}"):
        run(adding(PairSimulator(keys_of(scheme)), sender, 0, value, 1), operation)


AMOUNTS = st.one_of(
    st.sampled_from([1, -1, 2, 1 << 64, 1 << 128, (1 << 300) + 1]), st.integers(0, 500).map(lambda s: 1 << s),
    st.integers(1, (1 << 511) - 1),
)  # fmt: skip


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("sender", [PLUS, MINUS])
@pytest.mark.parametrize("value", range(2 * TOY.lane_ciphertexts, 4 * TOY.lane_ciphertexts))
def test_an_error_in_any_opening_of_a_record_beside_a_probe_is_refused(scheme: str, sender: int, value: int) -> None:
    with pytest.raises(KeySafetyError, match=f"key holder {'ab'[sender]}"):
        run(adding(PairSimulator(keys_of(scheme)), sender, 0, value, 1), "verify")


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([PLUS, MINUS]), st.sampled_from(SEARCHES), st.integers(0, 99), AMOUNTS)
def test_an_error_of_any_size_in_the_opening_of_a_result_is_refused(
    sender: int, operation: Operation, value: int, amount: int
) -> None:
    with pytest.raises(KeySafetyError):
        run(adding(PairSimulator(keys_of("paillier")), sender, 1, value, amount), operation)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("holder", [PLUS, MINUS])
@pytest.mark.parametrize("operation", ["verify", "enrol"])
def test_an_error_in_what_a_holder_converts_is_refused(scheme: str, operation: Operation, holder: int) -> None:
    """It goes on consistently with the wrong z: its openings, its w and its proof are all made of it."""
    simulator = PairSimulator(keys_of(scheme))
    honest = simulator._local_work

    def off_by_one(who: int, ciphertexts: list[Integer]) -> list[LocalShare]:
        made: list[LocalShare] = honest(who, ciphertexts)
        return [replace(x, z=(x.z + 1) % simulator.keys.scheme.modulus) for x in made] if who == holder else made

    simulator.local_work = off_by_one  # type: ignore[assignment]
    with pytest.raises(KeySafetyError):
        run(simulator, operation)


@pytest.mark.parametrize("sender", [PLUS, MINUS])
def test_the_check_covers_conversions_for_which_another_seed_is_drawn(sender: int) -> None:
    """Under the first seed it would carry: an error in it is refused all the same, and there is one conversion."""
    keys = keys_of("stand-in")
    near_the_end = [keys.scheme.modulus - 1] * TOY.lane_ciphertexts
    simulator = PairSimulator(keys, aim=aimed(near_the_end, None))
    run(simulator, "enrol")
    assert first_taken(simulator) == [False, None]
    assert sum(isinstance(e.message, Openings) for holder, e in simulator.sent if holder == PLUS) == 1
    with pytest.raises(KeySafetyError):
        run(adding(PairSimulator(keys, aim=aimed(near_the_end, None)), sender, 0, 0, 5), "enrol")


@pytest.mark.parametrize("operation", OPERATIONS)
def test_nothing_leaves_a_session_that_was_refused(operation: Operation) -> None:
    seen: list[str] = []
    simulator = PairSimulator(keys_of("stand-in"), observe=lambda holder, action: seen.append(type(action).__name__))
    with pytest.raises(KeySafetyError):
        run(adding(simulator, MINUS, 0, 0, 1), operation)
    assert not {"TemplateShare", "DecisionShare"} & set(seen)
    after = [type(e.message).__name__ for _, e in simulator.sent][::-1]
    assert set(after[: after.index("Coins")]) <= {"SafetyProof", "GateLayer"}, "layers are masked afresh"


def test_a_proof_of_one_direction_is_none_of_the_other() -> None:
    """A holder that has nothing to prove with sends back what it was sent."""
    simulator = PairSimulator(keys_of("stand-in"))
    heard: list[SafetyProof] = []

    def reflect(holder: int, envelope: Envelope) -> list[Envelope]:
        if not isinstance(envelope.message, SafetyProof):
            return [envelope]
        heard.append(envelope.message)
        return [replace(envelope, message=heard[0])]

    simulator.on_the_way = reflect
    with pytest.raises(KeySafetyError):
        run(simulator, "verify")


def test_coins_that_were_not_committed_to_are_refused() -> None:
    simulator = PairSimulator(keys_of("stand-in"))
    simulator.on_the_way = lambda holder, envelope: [
        replace(envelope, message=Coins(bytes(32))) if isinstance(envelope.message, Coins) else envelope
    ]
    with pytest.raises(ProtocolError, match="coins"):
        run(simulator, "verify")


def test_weights_come_from_the_coins_of_both_and_differ() -> None:
    def drawn(*coins: bytes) -> list[int]:
        weights = draw_weights(bytes(32), *coins, 40)
        assert len(weights.rho) == len(weights.sigma) == 40 and weights.rho.rows[0] == 1
        return [*weights.rho.rows[1:], *weights.rho.columns, *weights.sigma]

    one = drawn(b"a" * 32, b"b" * 32)
    assert len(set(one)) == len(one) == 4 + 8 + 40 and max(one) >> 63 == 1 and max(one) < 1 << 64
    assert not set(one) & set(drawn(b"c" * 32, b"b" * 32)) and not set(one) & set(drawn(b"a" * 32, b"c" * 32))


@pytest.mark.parametrize(("count", "rows"), [(1, 1), (8, 1), (9, 2), (16, 2), (17, 3)])
def test_every_conversion_has_weights_of_its_place(count: int, rows: int) -> None:
    weights = draw_weights(bytes(32), b"a", b"b", count)
    assert (len(weights.rho.rows), len(weights.rho.columns)) == (rows, 8)
    assert list(weights.rho) == [weights.rho.rows[i // 8] * weights.rho.columns[i % 8] for i in range(count)]
    assert len(set(weights.rho)) == count


def test_a_ciphertext_that_was_converted_twice_is_there_twice() -> None:
    made = [Conversion(Integer(c), *[None] * 3) for c in (5, 7, 5)]  # type: ignore[arg-type]
    bases, exponents = combination(made, draw_weights(bytes(32), b"a", b"b", 3))
    assert bases == [5, 7, 5] and len(set(exponents)) == 3


# -- errors that cancel under weights that are not drawn -----------------------------------------------

#: Results lie behind the ciphertexts of the probe in the grid of conversions, so that result 0 is in its first row.
FIRST, PACKS = TOY.lane_ciphertexts, 16
#: By what holds of the weights: errors of the d of some results, by their number.
CANCELLING = {
    "all alike": {0: 1, 3: -1},
    "rows alike": {0: 1, 8: -1},
    "columns alike": {8: 1, 9: -1},
    "all alike, rectangle": {0: 1, 1: -1, 8: -1, 9: 1},
    "rows alike, rectangle": {0: 1, 1: -1, 8: -1, 9: 1},
    "sigma": {0: 1, 1: -1},
}


def with_weights(alike: str) -> Callable[..., Weights]:
    def draw(*about: Any) -> Weights:
        drawn = draw_weights(*about)
        rho, sigma = drawn.rho, drawn.sigma
        rows = (1,) * len(rho.rows) if alike in ("rows", "all") else rho.rows
        columns = (3,) * len(rho.columns) if alike in ("columns", "all") else rho.columns
        return Weights(Grid(rows, columns, len(rho)), (5,) * len(sigma) if alike == "sigma" else sigma)

    return draw


@pytest.mark.parametrize("sender", [PLUS, MINUS])
@pytest.mark.parametrize("kind", CANCELLING)
def test_errors_that_cancel_under_equal_weights_are_refused(
    kind: str, sender: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They pass when the weights of rows, columns or both are equal, and never when they are drawn."""
    opened = 1 if kind == "sigma" else 0  # e or d
    amounts = {2 * result + opened: amount << 100 for result, amount in CANCELLING[kind].items()}
    gallery = SimulatedGallery.of(keys_of("stand-in").scheme, unit_vectors(RANDOM, PACKS * TOY.slots, TOY))

    def run_with_errors() -> None:
        simulator = adding_all(PairSimulator(keys_of("stand-in")), sender, 1, amounts)
        probe = simulator.encrypt(PROBE)
        simulator.run(simulator.request("candidates", 1), probe, gallery, gallery.places)

    with pytest.raises(KeySafetyError):
        run_with_errors()
    monkeypatch.setattr(converting, "draw_weights", with_weights(kind.split()[0].rstrip(",")))
    run_with_errors()


def test_a_nonce_hides_and_binds_its_coins() -> None:
    assert session_nonce(bytes(32)) != session_nonce(b"\1" + bytes(31)) != b"\1" + bytes(31)
