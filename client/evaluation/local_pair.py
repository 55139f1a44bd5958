"""Two matchers and two key holders in this process: real cryptography without daemons and wire.

What a query goes through is all here, with the product's own functions: encryption of the probe, share conversion
by both holders with dealt triples, each matcher's multi-exponentiation and re-randomisation, conversion of the
results, decision gate on dealt bit triples. What is missing is what protects the parties from each other: here they
are one process. Not for use as a service.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from veilmatch.crypto import dealing
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.dealing import BLOCK_UNITS, BitTriples, Block, BlockName, Kind
from veilmatch.crypto.encryption.paillier import Paillier
from veilmatch.crypto.errors import CiphertextError
from veilmatch.crypto.gates.boolean import Circuit, Evaluator, Wire
from veilmatch.crypto.gates.decision import decide, decide_cost, decision_input
from veilmatch.crypto.gates.tournament import best_cost, best_of
from veilmatch.crypto.keys.ceremony import run_ceremony
from veilmatch.crypto.keys.parties import Pair
from veilmatch.crypto.packing import lanes, slots
from veilmatch.crypto.packing.fields import Array
from veilmatch.crypto.pair.conversion import Triple, open_masked, output_share
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.crypto.rings.ring import PackGroup
from veilmatch.crypto.secret_access import SECRET_ACCESS

_PAIR: Pair = "ab"


class LocalPair:
    """Makes keys of its own (about 3 s at 3072 bits) and forgets them with the process."""

    def __init__(self, parameters: ParameterSet) -> None:
        ceremony = run_ceremony(parameters)
        self.parameters = parameters
        self.scheme = Paillier(ceremony.public_key)
        shares = [key.share(_PAIR) for key in ceremony.keys[:2]]
        self._exponents = [share.exponent(ceremony.public_key, SECRET_ACCESS) for share in shares]
        self._kappas = [share.kappa(SECRET_ACCESS) for share in shares]
        self._stock = _Stock(self.scheme.modulus)

    def gallery(self, templates: Array) -> LocalGallery:
        """Return an encrypted gallery of int64[n, D] in [-c, c]; template i is in slot i mod `slots` of its pack."""
        size, scheme = self.parameters.slots, self.scheme
        groups: list[PackGroup] = []
        for number, start in enumerate(range(0, len(templates), size)):
            lane = number % scheme.ring.lanes
            if lane == 0:
                groups.append(scheme.pack_group())
            groups[-1].put(lane, scheme.encrypt_many(slots.pack(templates[start : start + size], self.parameters)))
        return LocalGallery(groups, -(-len(templates) // size))

    def decide(self, probe: Array, gallery: LocalGallery, wanted: Array, thresholds: Sequence[int]) -> Array:
        """Return whether the score with each wanted template reaches each threshold, int64[thresholds, wanted], 0 or 1.

        probe: int64[D] in [-c, c]; wanted: int64[m] numbers of templates; thresholds: 1..S^2. A query has one
        threshold; here the results are converted once, and every threshold gets a decision gate of its own.
        """
        k, fields, bits = self.parameters.ring_bits, self._scores(probe, gallery, wanted), []
        for threshold in thresholds:
            stock = self._stock.bits(decide_cost(len(wanted), k))
            circuits = [
                decide(decision_input(f, threshold, k, is_plus=is_plus), k, Evaluator(triples, is_plus=is_plus))
                for f, triples, is_plus in zip(fields, stock, (True, False), strict=True)
            ]
            a, b = _run(*circuits)
            bits.append(np.unpackbits(a ^ b, count=len(wanted), bitorder="little"))
        return np.array(bits, np.int64).reshape(len(thresholds), len(wanted))

    def best(self, probe: Array, gallery: LocalGallery, wanted: Array, threshold: int) -> int | None:
        """Return which wanted template has the highest score, as its place in `wanted`; None if all are below
        threshold.

        Of equal scores the first. The tournament of `identify`; the rest as in `decide`.
        """
        k, fields = self.parameters.ring_bits, self._scores(probe, gallery, wanted)
        stock = self._stock.bits(best_cost(len(wanted), k))
        a, b = _run(
            *(
                best_of(decision_input(f, threshold, k, is_plus=is_plus), k, Evaluator(triples, is_plus=is_plus))
                for f, triples, is_plus in zip(fields, stock, (True, False), strict=True)
            )
        )
        number = int.from_bytes((a ^ b).tobytes(), "little")
        return number - 1 if number else None

    def _scores(self, probe: Array, gallery: LocalGallery, wanted: Array) -> list[Array]:
        """Return both holders' fields of the wanted scores, as a query converts them."""
        p = self.parameters
        ciphertexts = self.scheme.encrypt_many(lanes.pack(probe, p))
        shares = self._probe_shares(ciphertexts)
        packs = sorted(set((wanted // p.slots).tolist()))
        plus, minus = (self._partial(gallery, share, packs) for share in shares)
        constant = self.scheme.encode(slots.half(p))
        results = [self.scheme.multiply(score, constant) for score in self.scheme.divide_many(plus, minus)]
        at = np.searchsorted(packs, wanted // p.slots), wanted % p.slots
        return [slots.unpack(w, p)[at] for w in self._converted(results, self._local_shares(results))]

    def _probe_shares(self, ciphertexts: list[Integer]) -> tuple[Array, Array]:
        """Return both matchers' shares of the probe mod 2^k, as `session.PairSession` converts lanes."""
        p, k = self.parameters, self.parameters.ring_bits
        local = self._local_shares(ciphertexts)
        while True:
            plus, minus = (lanes.unpack(w, p) for w in self._converted(ciphertexts, local))
            if not lanes.at_risk(minus, p):
                break
        a, b = lanes.ring_share(plus, p, is_plus=True), lanes.ring_share(minus, p, is_plus=False)
        while lanes.wraps_at_risk(b, p) > p.wrap_limit:
            mask = np.frombuffer(secrets.token_bytes(4 * p.dimension), "<u4").astype(np.int64)
            a, b = ((share + mask) & ((1 << k) - 1) for share in (a, b))
        return a, b

    def _partial(self, gallery: LocalGallery, share: Array, packs: Sequence[int]) -> list[Integer]:
        """Return what one matcher computes of each pack from its share of the probe: R, re-randomised."""
        width, exponents = self.scheme.ring.lanes, share.tolist()
        products = {
            number: gallery.groups[number].products_of_powers(exponents, self.parameters.ring_bits)
            for number in sorted({pack // width for pack in packs})
        }
        zeros = self.scheme.encrypt_zeros(len(packs))
        return [
            self.scheme.multiply(products[pack // width][pack % width], zero)
            for pack, zero in zip(packs, zeros, strict=True)
        ]

    def _local_shares(self, ciphertexts: list[Integer]) -> list[list[Integer]]:
        """Return z of every ciphertext at both holders."""
        plus, minus = (self.scheme.local_shares(ciphertexts, exponent) for exponent in self._exponents)
        if any(a.fingerprint != b.fingerprint for a, b in zip(plus, minus, strict=True)):
            raise CiphertextError("a ciphertext is not well-formed under this key")
        return [[share.z for share in shares] for shares in (plus, minus)]

    def _converted(self, ciphertexts: list[Integer], local: list[list[Integer]]) -> list[list[Integer]]:
        """Return w of every ciphertext at both holders, by one Beaver multiplication each; again if one might wrap."""
        N = self.scheme.modulus
        while True:
            triples = self._stock.triples(len(ciphertexts))
            openings = [
                [open_masked(z, kappa, triple, N) for z, triple in zip(zs, mine, strict=True)]
                for zs, kappa, mine in zip(local, self._kappas, triples, strict=True)
            ]
            plus, minus = (
                [
                    output_share(triple, mine, theirs, N, is_plus=not holder)
                    for triple, mine, theirs in zip(
                        triples[holder], openings[holder], openings[1 - holder], strict=True
                    )
                ]
                for holder in (0, 1)
            )
            if not lanes.wraps_modulus(minus, N):
                return [plus, minus]


@dataclass(frozen=True, eq=False, repr=False)
class LocalGallery:
    """Encrypted packs, as many in a group as the ring has lanes."""

    groups: list[PackGroup]
    packs: int


class _Stock:
    """Both holders' dealt randomness. Everything is handed out once."""

    def __init__(self, modulus: Integer) -> None:
        self._modulus = modulus
        self._seed = secrets.token_bytes(32)
        self._used: dict[Kind, int] = {"triples": 0, "bits": 0}
        self._last: dict[Kind, tuple[int, list[Block]]] = {}

    def triples(self, count: int) -> list[list[Triple]]:
        """Return fresh triples mod N for the plus and the minus holder."""
        drawn: list[list[Triple]] = [[], []]
        for blocks, start, size in self._ranges("triples", count):
            for mine, block in zip(drawn, blocks, strict=True):
                mine += dealing.triples(block, start, size, self._modulus)
        return drawn

    def bits(self, count: int) -> list[BitTriples]:
        """Return `count` bytes of fresh bit triples for the plus and the minus holder."""
        parts = [
            [dealing.bit_triples(block, start, size) for block in blocks]
            for blocks, start, size in self._ranges("bits", count)
        ]
        return [
            BitTriples(*(np.concatenate([getattr(part[holder], name) for part in parts]) for name in "abc"))
            for holder in (0, 1)
        ]

    def _ranges(self, kind: Kind, count: int) -> Iterator[tuple[list[Block], int, int]]:
        """Yield both holders' block, a start and a size within it, until `count` units are used up."""
        while count > 0:
            number, start = divmod(self._used[kind], BLOCK_UNITS[kind])
            size = min(count, BLOCK_UNITS[kind] - start)
            self._used[kind] += size
            count -= size
            yield self._block(kind, number), start, size

    def _block(self, kind: Kind, number: int) -> list[Block]:
        if kind not in self._last or self._last[kind][0] != number:
            name = BlockName(_PAIR, bytes(32), 1, kind, number)
            dealt = [dealing.deal(self._seed, name, self._modulus, for_plus=plus) for plus in (True, False)]
            self._last[kind] = number, dealt
        return self._last[kind][1]


def _run(plus: Circuit, minus: Circuit) -> tuple[Wire, Wire]:
    """Run both holders' circuits against each other."""
    sent = next(plus), next(minus)
    while True:
        results: list[Wire] = []
        messages: list[bytes] = []
        for circuit, received in ((plus, sent[1]), (minus, sent[0])):
            try:
                messages.append(circuit.send(received))
            except StopIteration as stop:
                results.append(stop.value)
        if results:
            return results[0], results[1]
        sent = messages[0], messages[1]
