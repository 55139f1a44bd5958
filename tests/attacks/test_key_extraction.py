"""A key holder that adds errors to what it opens, and has a device, recovers the key o.

An error E in the opened e makes m * (1 + E*o) of a plaintext m. The holder knows m of its own probe's results, chooses
E = 2^s / m, and reads fields of m + 2^s * o through the decision gate: bits of o. The key-safety check refuses the
first such session.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from tests.attacks.tools import decrypt_with, secrets_of, take_key_safety_out
from tests.crypto.toys import TOY, keys_of
from tests.simulator import MINUS, Keys, PairSimulator, SimulatedGallery, unit_vectors
from veilmatch.crypto.arithmetic import Integer, from_bytes, invert, to_bytes
from veilmatch.crypto.errors import KeySafetyError
from veilmatch.crypto.gates.decision import decision_input
from veilmatch.crypto.packing.fields import Array, join
from veilmatch.crypto.packing.slots import half
from veilmatch.crypto.pair import answers, converting
from veilmatch.crypto.pair.conversion import Opening, Triple, output_share
from veilmatch.crypto.pair.messages import Envelope, Openings, ProbeShare

PROBE, *TEMPLATES = unit_vectors(np.random.default_rng(91), TOY.slots + 1, TOY)
K, B = TOY.ring_bits, TOY.slot_bits
#: Places of the key's bits among the slots: every bit is in a field for one of them, and fields overlap.
SHIFTS = (0, 5, 9, 13)


class KeyThief:
    """A minus holder whose device asks for candidates. It changes what it sends, and its own inputs of the gate."""

    def __init__(self, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
        self._keys, self._N = keys, keys.scheme.modulus
        self._gallery = SimulatedGallery.of(keys.scheme, np.array(TEMPLATES))
        self._error, self._added = Integer(0), np.zeros(TOY.slots, dtype=np.int64)
        self._conversions = 0
        self._wrapped = False
        self.queries = 0
        monkeypatch.setattr(converting, "output_share", self._output_share)
        monkeypatch.setattr(answers, "decision_input", self._decision_input)

    def key(self) -> Integer | None:
        """Return o, or None if the answers do not give it away."""
        fields = self._fields()
        signed = np.where(fields >= 1 << K - 1, fields - (1 << K), fields)
        m = half(TOY) + join((2 * (signed >> 1)).tolist(), B)
        seen = {s: self._fields((Integer(1) << s) * invert(m, self._N) % self._N) for s in SHIFTS}
        c = self._keys.scheme.encrypt(Integer(1234))
        return next((o for o in _assembled(m, seen) if o and decrypt_with(o, c, self._N) == 1234), None)

    def _fields(self, error: Integer = Integer(0)) -> Array:  # noqa: B008
        """Return every slot of m + error*z mod 2^k, or one more: bit by bit from the top, one query each."""
        self._error = error
        found = np.zeros(TOY.slots, dtype=np.int64)
        for bit in reversed(range(K)):
            # The gate compares field - 2t + what is added with 0; t is 1.
            self._added = 2 - found - (0 if bit == K - 1 else 1 << bit)
            at_least = self._query()
            found += np.where(at_least == (bit < K - 1), 1 << bit, 0)
        return found

    def _query(self) -> Array:
        """Ask until no coordinate of the probe wraps, which this holder sees: then it knows the plaintext m."""
        while True:
            self._conversions, self._wrapped = 0, False
            simulator = PairSimulator(self._keys, on_the_way=self._on_the_way, observe=self._observe)
            bits = simulator.decide("candidates", PROBE, self._gallery, 1)
            self.queries += 1
            if not self._wrapped:
                return bits.astype(bool)

    def _observe(self, holder: int, action: object) -> None:
        if holder == MINUS and isinstance(action, ProbeShare):
            plus = action.exponents + PROBE
            self._wrapped = bool(np.any((plus < 0) | (plus >= 1 << K)))

    def _on_the_way(self, sender: int, envelope: Envelope) -> list[Envelope]:
        size = (self._N.bit_length() + 7) // 8
        if sender != MINUS or not isinstance(envelope.message, Openings) or len(envelope.message.values) != 2 * size:
            return [envelope]  # lanes are in more than one ciphertext, results here in one
        d, e = envelope.message.values[:size], from_bytes(envelope.message.values[size:])
        return [replace(envelope, message=Openings(d + to_bytes((e - self._error) % self._N, size)))]

    def _output_share(
        self, triple: Triple, mine: Opening, theirs: Opening, modulus: Integer, *, is_plus: bool
    ) -> Integer:
        if not is_plus:
            self._conversions += 1
            if self._conversions > TOY.lane_ciphertexts:
                mine = Opening(mine.d, (mine.e - self._error) % modulus)
        return output_share(triple, mine, theirs, modulus, is_plus=is_plus)

    def _decision_input(self, slots: Array, threshold: int, ring_bits: int, *, is_plus: bool) -> Array:
        honest = decision_input(slots, threshold, ring_bits, is_plus=is_plus)
        return honest if is_plus else (honest + self._added) & ((1 << ring_bits) - 1)


def _assembled(m: Integer, seen: dict[int, Array]) -> Iterator[Integer]:
    """Yield the numbers o for which the fields of m + 2^s * o are those that were seen, or one less."""
    windows = sorted((B * j + K - s, s, j) for s in seen for j in range(TOY.slots) if B * j + K > s)
    candidates, known = {Integer(0)}, 0
    for top, s, j in windows:
        place = known + s - B * j  # of the first unknown bit within this field
        if top <= known or not 0 <= place < K:
            continue
        longer = set()
        for low in candidates:
            field = ((m + (low << s)) >> B * j) % (1 << K)
            for carry in (0, 1):
                rest = (int(seen[s][j]) - carry - field) % (1 << K)
                if rest % (1 << place) == 0:
                    longer.add(low + (Integer(rest >> place) << known))
        candidates, known = longer, top
        if len(candidates) > 5000:
            return
    yield from candidates


@pytest.fixture
def keys() -> Keys:
    return keys_of("paillier")


def test_without_the_check_the_key_is_read_in_a_hundred_queries(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    take_key_safety_out(monkeypatch)
    thief = KeyThief(keys, monkeypatch)
    assert thief.key() == secrets_of(keys)[0]
    assert thief.queries <= 100


def test_with_the_check_the_first_altered_session_is_refused(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    thief = KeyThief(keys, monkeypatch)
    with pytest.raises(KeySafetyError, match="key holder b"):
        thief.key()
    assert thief.queries <= 2 * K, "without an error, which gives scores and not the key, it goes unnoticed"
