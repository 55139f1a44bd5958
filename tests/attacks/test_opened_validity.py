"""One key holder turns the validity of an honest template into a predicate of one coordinate, if validity is opened.

Until it was left out, the pair opened the valid bit of every enrolment, erasure and rotation to each other. Either
holder shifts its own input of the range check in one lane: the bit then says whether that coordinate plus the shift
is in range, and the peer shows its share of it. No device, and on records nothing that anybody notices.

`open_validity` puts the opening back. The attack succeeds with it: the holder reads the predicate of every template.
In the session as it is there is no such message. To find whatever else would tell, the holder learns on vectors that
it knows: it looks for a bit in all that it receives which, alone or with its own share of the valid bit, was the
predicate every time. With the opening it finds one; now there is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from tests.crypto.toys import SCHEMES, TOY, keys_of
from tests.simulator import MINUS, PLUS, Keys, PairSimulator, unit_vectors
from veilmatch.crypto.gates import validity
from veilmatch.crypto.gates.boolean import Circuit, Evaluator
from veilmatch.crypto.packing.fields import Array
from veilmatch.crypto.packing.lanes import Vectors
from veilmatch.crypto.pair import records
from veilmatch.crypto.pair.exchange import Exchange
from veilmatch.crypto.pair.request import Operation

TEMPLATES = unit_vectors(np.random.default_rng(701), 40, TOY)
#: Which coordinate, and what is added to it: it stays in range exactly if it is at most 0.
AT, SHIFT = 4, TOY.clip
PREDICATE = TEMPLATES[:, AT] <= 0


class Deviator:
    """A holder that moves one lane of its input of the range check, and keeps all that it hears."""

    def __init__(self, keys: Keys, holder: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.holder, self._simulator = holder, PairSimulator(keys)
        #: Its share of the valid bits of the last session.
        self.own: list[int] = []
        self._honest, self._validity_of = validity.deviations, records.validity_of
        monkeypatch.setattr(validity, "deviations", self._deviations)
        monkeypatch.setattr(records, "validity_of", self._noting)

    def session(
        self, operation: Operation, vectors: Sequence[Array], by_device: list[bool] | None = None
    ) -> tuple[Array, Any]:
        """Every bit that it receives in one session, uint8[bits]; and how both holders end."""
        simulator = self._simulator
        ciphertexts = [c for x in vectors for c in simulator.encrypt(x)]
        ends = simulator.run(simulator.request(operation, 0), ciphertexts, by_device=by_device)
        heard = [e.message for sender, e in simulator.sent if sender != self.holder]
        data = b"".join(v for m in heard for f in fields(m) if isinstance(v := getattr(m, f.name), bytes))
        return np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little"), ends

    def _deviations(self, lanes: Array, clip: int, width: int, evaluator: Evaluator) -> Circuit:
        if evaluator.is_plus == (self.holder == PLUS):
            lanes = lanes.reshape(-1, TOY.dimension).copy()
            lanes[:, AT] += SHIFT if evaluator.is_plus else -SHIFT
            lanes = lanes.ravel() & ((1 << TOY.lane_bits) - 1)
        return (yield from self._honest(lanes, clip, width, evaluator))

    def _noting(self, exchange: Exchange, vectors: Vectors) -> Circuit:
        flags = yield from self._validity_of(exchange, vectors)
        if exchange.is_plus == (self.holder == PLUS):
            self.own = np.unpackbits(flags, bitorder="little")[: len(vectors.lanes) // TOY.dimension].tolist()
        return flags


def open_validity(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions as they were: behind the gate, both holders show each other their shares of the valid bits."""
    gate = records.validity_of

    def opened(exchange: Exchange, vectors: Vectors) -> Circuit:
        flags = yield from gate(exchange, vectors)
        yield flags.tobytes()
        return flags

    monkeypatch.setattr(records, "validity_of", opened)


def telling_bits(deviator: Deviator, operation: Operation) -> list[tuple[int, bool]]:
    """Places in all that it hears whose bit was the predicate of every template, and whether its own share is added."""
    heard, own = [], []
    for x in TEMPLATES:
        bits, _ = deviator.session(operation, [x])
        heard.append(bits)
        own += deviator.own
    alone, added = np.array(heard), np.array(heard) ^ np.array(own, dtype=np.uint8)[:, None]
    return [
        (int(at), with_own)
        for with_own, table in ((False, alone), (True, added))
        for at in np.flatnonzero((table == PREDICATE[:, None]).all(axis=0) | (table != PREDICATE[:, None]).all(axis=0))
    ]


def test_predicate_of_these_tests_is_true_of_some() -> None:
    assert 8 < PREDICATE.sum() < 32


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("holder", [PLUS, MINUS])
@pytest.mark.parametrize("operation", ["enrol", "erase", "rotate"])
def test_if_validity_is_opened_a_key_holder_reads_a_predicate_of_every_template(
    scheme: str, operation: Operation, holder: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    deviator = Deviator(keys_of(scheme), holder, monkeypatch)
    open_validity(monkeypatch)
    ((place, with_own),) = telling_bits(deviator, operation)
    assert with_own, "the peer's share of the valid bit, added to its own"
    # What it learnt holds for templates that it does not know.
    for x in unit_vectors(np.random.default_rng(702), 12, TOY):
        bits, _ = deviator.session(operation, [x])
        assert bool(bits[place] ^ deviator.own[0]) == (x[AT] <= 0)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("holder", [PLUS, MINUS])
@pytest.mark.parametrize("operation", ["enrol", "erase", "rotate"])
def test_in_the_session_as_it_is_no_bit_that_a_key_holder_hears_tells_of_a_template(
    scheme: str, operation: Operation, holder: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    deviator = Deviator(keys_of(scheme), holder, monkeypatch)
    assert telling_bits(deviator, operation) == []


@pytest.mark.parametrize("operation", ["erase", "rotate"])
@pytest.mark.parametrize("holder", [PLUS, MINUS])
def test_a_session_of_many_records_tells_no_more(
    operation: Operation, holder: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the opening it would be one predicate a record: here eight in a byte, in one session."""
    deviator = Deviator(keys_of("stand-in"), holder, monkeypatch)

    def telling_bytes() -> Array:
        """Places of the bytes that, with its own shares added, were the predicates of all eight in every session."""
        told = []
        for first in range(0, len(TEMPLATES), 8):
            bits, _ = deviator.session(operation, TEMPLATES[first : first + 8])
            sums = bits.reshape(-1, 8) ^ np.array(deviator.own, dtype=np.uint8)
            told.append((sums == PREDICATE[first : first + 8]).all(axis=1))
        return np.flatnonzero(np.all(told, axis=0))

    assert len(telling_bytes()) == 0
    open_validity(monkeypatch)
    assert len(telling_bytes()) == 1


@pytest.mark.parametrize("holder", [PLUS, MINUS])
@pytest.mark.parametrize("operation", ["enrol", "erase", "rotate"])
def test_its_share_of_the_valid_bit_is_a_fair_coin_whatever_the_predicate(
    operation: Operation, holder: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    deviator = Deviator(keys_of("stand-in"), holder, monkeypatch)
    for chosen in (TEMPLATES[PREDICATE][0], TEMPLATES[~PREDICATE][0]):
        own = []
        for _ in range(48):
            deviator.session(operation, [chosen])
            own += deviator.own
        assert 6 < sum(own) < 42


@pytest.mark.parametrize("holder", [PLUS, MINUS])
def test_what_a_deviation_does_to_an_enrolment_only_the_honest_device_hears(
    holder: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the predicate is false the template becomes zero: the device is told so, and its owner enrols again."""
    deviator = Deviator(keys_of("stand-in"), holder, monkeypatch)
    lengths = set()
    for x, holds in zip(TEMPLATES, PREDICATE, strict=True):
        bits, ends = deviator.session("enrol", [x])
        lanes, valid = PairSimulator.opened(ends)
        assert valid.tolist() == [int(holds)] and np.array_equal(lanes - TOY.offset, x if holds else 0 * x)
        lengths.add(len(bits))
    assert len(lengths) == 1


def test_records_of_the_matchers_meet_no_gate_that_could_be_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    for holder in (PLUS, MINUS):
        deviator = Deviator(keys_of("stand-in"), holder, monkeypatch)
        for operation in ("erase", "rotate"):
            _, ends = deviator.session(operation, TEMPLATES[:5], [False] * 5)  # type: ignore[arg-type]
            assert np.array_equal(PairSimulator.opened(ends)[0] - TOY.offset, TEMPLATES[:5].ravel())
            assert deviator.own == []
