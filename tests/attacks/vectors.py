"""What a dishonest device encrypts, and sessions with the validity gate taken out or checking mod 2^k alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from tests.simulator import Keys, PairSimulator, SimulatedGallery
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.gates import validity
from veilmatch.crypto.gates.boolean import Circuit, Evaluator
from veilmatch.crypto.packing import lanes
from veilmatch.crypto.packing.fields import Array, join
from veilmatch.crypto.parameters import ParameterSet

#: The real numbers over a toy modulus.
P = ParameterSet(128, 60, 23, 1024)
#: Lanes of the last ciphertext that a coordinate uses.
LAST = P.dimension - (P.lane_ciphertexts - 1) * P.lanes


def check_mod_2_to_k_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A weaker gate: k bits of every lane, as a matcher uses them, and nothing above the last lane."""
    whole = validity.deviations

    def low_bits(fields: Array, clip: int, width: int, evaluator: Evaluator) -> Circuit:
        return whole(fields & ((1 << P.ring_bits) - 1), clip, P.ring_bits, evaluator)

    monkeypatch.setattr(validity, "deviations", low_bits)
    monkeypatch.setattr(lanes, "above", lambda shares, parameters: np.zeros(0, dtype=np.uint8))
    full = validity._norm_shares

    def mod_2_to_k(fields: Array, *rest: object) -> object:
        return full(fields & ((1 << P.ring_bits) - 1), *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(validity, "_norm_shares", mod_2_to_k)
    monkeypatch.setattr(validity, "_norm_bits", lambda parameters: P.ring_bits)


def plaintexts(x: Array | Sequence[int]) -> list[Integer]:
    """Lane plaintexts of any integers: `lanes.pack` without its range."""
    shifted = [int(v) + P.offset for v in x]
    return [join(shifted[i : i + P.lanes], P.lane_bits) for i in range(0, len(shifted), P.lanes)]


def changed(x: Array, at: int, change: Callable[[Integer], Integer]) -> list[Integer]:
    """The plaintexts of x, one of them changed."""
    m = plaintexts(x)
    m[at] = change(m[at])
    return m


def encrypted(keys: Keys, m: Sequence[Integer]) -> list[Integer]:
    return [keys.scheme.encrypt(Integer(part) % keys.scheme.modulus) for part in m]


def enrolled(keys: Keys, m: Sequence[Integer]) -> tuple[list[int], bool]:
    """The coordinates that both matchers' shares of this template add up to, and whether the device hears it is valid.

    Of a refused one, zeros: asserted here for all that the tests enrol.
    """
    simulator = PairSimulator(keys)
    shares = simulator.run(simulator.request("enrol", 0), encrypted(keys, m))
    valid = bool((shares[0].valid ^ shares[1].valid)[0])
    x = [lane - P.offset for lane in simulator.added_up(shares)]
    assert valid or not any(x)
    return x, valid


def is_enrolled(keys: Keys, m: Sequence[Integer]) -> bool:
    """Whether something else than zeros comes of this template, which is what the device hears."""
    x, valid = enrolled(keys, m)
    assert valid == any(x)
    return valid


def matches(keys: Keys, m: Sequence[Integer], gallery: SimulatedGallery, threshold: int) -> int:
    """How many templates a probe matches, as the device learns it. Raises ServerDeviationError."""
    return int(PairSimulator(keys).answer("candidates", encrypted(keys, m), gallery, threshold).sum())
