"""A deviating server together with an enrolled device: what no check closes, and how many queries it takes.

Each attack runs real sessions, and every answer in it is what a device would be given. Budgets bound the number of
queries (docs/budgets.md), and the audit logs of both key holders have them all.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.simulator import Keys, PairSimulator, SimulatedGallery
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.dealing import Products
from veilmatch.crypto.gates import verification
from veilmatch.crypto.gates.decision import decision_input
from veilmatch.crypto.gates.multiplication import Multiplication
from veilmatch.crypto.gates.verification import inner_products
from veilmatch.crypto.packing.fields import Array, join
from veilmatch.crypto.pair import answers
from veilmatch.crypto.pair.messages import ProbeShare
from veilmatch.crypto.parameters import ParameterSet


class ResultsOfItsChoice:
    """A matcher that waits for the other's R and answers R * X: both then form V = X.

    It reads ciphertexts of the gallery, one bit of every slot a query: here all coordinates of all
    templates of a pack. A search goes over every pack at once, so a whole gallery takes no more queries than one pack.
    """

    def __init__(self, keys: Keys, gallery: SimulatedGallery, own: Array) -> None:
        """own: a valid vector of the matcher's device."""
        self._keys, self._gallery, self._own = keys, gallery, own
        self._parameters = keys.scheme.parameters
        self.queries = 0

    def read(self) -> Array:
        """Return the templates of the gallery's first pack, int64[slots, D]."""
        columns = [self._read_column(i) for i in range(self._parameters.dimension)]
        return np.array(columns).T

    def _read_column(self, i: int) -> Array:
        """Coordinate i of every template: a bisection in each slot, all at once."""
        c, count = self._parameters.clip, len(self._gallery.places)
        low, high = np.full(count, -c), np.full(count, c)
        while (low < high).any():
            middle = (low + high + 1) // 2
            reached = self._at_least(i, middle)
            low, high = np.where(reached, middle, low), np.where(reached, high, middle - 1)
        return low

    def _at_least(self, i: int, bounds: Array) -> Array:
        """Whether coordinate i is at least bounds[j] in slot j: x + 1 - bound reaches the threshold 1."""
        scheme, width = self._keys.scheme, self._parameters.slot_bits
        shift = scheme.encode(join((2 * (1 - bounds)).tolist(), width))
        X = scheme.multiply(scheme.multiply(self._gallery.packs[0][i], shift), scheme.encrypt_zeros(1)[0])
        sent: dict[int, Integer] = {}
        gallery = replace(self._gallery)

        def partial(pack: int, share: ProbeShare) -> Integer:
            R = sent.setdefault(pack, self._gallery.partial(pack, replace(share, is_plus=False)))
            return scheme.multiply(R, X) if share.is_plus else R

        gallery.partial = partial  # type: ignore[method-assign]
        self.queries += 1
        return PairSimulator(self._keys).decide("candidates", self._own, gallery, 1).astype(bool)


class GateInputsOfItsChoice:
    """A minus holder that adds what it likes to its inputs of the decision gate.

    It cannot learn the key so (the gate comes after the key-safety check), but the answers of its device compare every
    slot with a bound of its choice: exact scores of its own probes, k queries for all slots. A
    device alone gets as much by choosing thresholds, a little slower and for scores above 0 only.
    """

    def __init__(self, keys: Keys, gallery: SimulatedGallery, monkeypatch: pytest.MonkeyPatch) -> None:
        self._keys, self._gallery = keys, gallery
        self._shift: Array = np.zeros(len(gallery.places), dtype=np.int64)
        self.queries = 0
        monkeypatch.setattr(answers, "decision_input", self._input)

    def scores(self, probe: Array) -> Array:
        """Return the scores of a probe with every template."""
        M = self._keys.scheme.parameters.norm_max
        count = len(self._gallery.places)
        low, high = np.full(count, -M), np.full(count, M)
        while (low < high).any():
            middle = (low + high + 1) // 2
            # 2(s - 1) + carry of the shares >= 0 asks for s >= 1; the minus holder's input is subtracted from it.
            self._shift = 2 * (1 - middle)
            reached = PairSimulator(self._keys).decide("candidates", probe, self._gallery, 1).astype(bool)
            self.queries += 1
            low, high = np.where(reached, middle, low), np.where(reached, high, middle - 1)
        return low

    def _input(self, fields: Array, threshold: int, k: int, *, is_plus: bool) -> Array:
        honest = decision_input(fields, threshold, k, is_plus=is_plus)
        return honest if is_plus else (honest + self._shift) & ((1 << k) - 1)


class LanesOfItsChoice:
    """A minus holder that takes other lanes of the probe into the inner products than into the validity gate.

    Its device's probe is valid, and it knows it. In its place stands what it likes, a unit vector say: then the answer
    is a comparison of one coordinate of the template with a bound of its choice, a bit for each verification, of
    subjects that its device verifies and of nobody else: both matchers have given the record.
    """

    def __init__(self, keys: Keys, gallery: SimulatedGallery, own: Array, monkeypatch: pytest.MonkeyPatch) -> None:
        """own: a valid vector of its device."""
        self._keys, self._gallery, self._own = keys, gallery, own
        self._weights, self._shift = np.zeros_like(own), 0
        self.queries = 0
        monkeypatch.setattr(verification, "inner_products", self._chosen)

    def read(self, place: tuple[int, int]) -> Array:
        """Return the template in a place, int64[D]: a bisection of each coordinate."""
        return np.array([self._coordinate(i, place) for i in range(len(self._own))])

    def _coordinate(self, i: int, place: tuple[int, int]) -> int:
        clip = self._keys.scheme.parameters.clip
        self._weights = np.eye(len(self._own), dtype=np.int64)[i]
        low, high = -clip, clip
        while low < high:
            middle = (low + high + 1) // 2
            self._shift = 1 - middle  # x + 1 - middle reaches 1
            self.queries += 1
            reached = PairSimulator(self._keys).decide("verify", self._own, self._gallery, 1, [place])[0]
            low, high = (middle, high) if reached else (low, middle - 1)
        return low

    def _chosen(
        self, probe: Array, templates: Array, parameters: ParameterSet, products: Products, *, is_plus: bool
    ) -> Multiplication:
        if is_plus:
            return (yield from inner_products(probe, templates, parameters, products, is_plus=True))
        other = probe + self._own - self._weights
        scores = yield from inner_products(other, templates, parameters, products, is_plus=False)
        return scores - np.array(self._shift).astype(np.uint64)


def flipped_answer(keys: Keys, gallery: SimulatedGallery, stranger: Array, threshold: int) -> bool:
    """What a stranger's verification answers if one server flips its share of the answer on the way to the device."""
    simulator = PairSimulator(keys)
    plus, minus = simulator.run(
        simulator.request("verify", threshold), simulator.encrypt(stranger), gallery, gallery.places[:1]
    )
    return bool(plus.valid ^ minus.valid) and bool((plus.bits ^ minus.bits ^ 1)[0])
