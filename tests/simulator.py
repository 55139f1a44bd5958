"""All parties of a query in one process, without gRPC: what the protocol tests run on.

`PairSimulator` drives two `PairSession`s against each other with dealt randomness and local matchers.
Every hook that an attack needs (a message changed on its way, other ciphertexts for one holder, a
stock used twice) is an argument, so that attacks read as one call.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from veilmatch.crypto import dealing, lanes, slots
from veilmatch.crypto.arithmetic import Integer, invert, is_prime, random_below, random_bits
from veilmatch.crypto.ceremony import run_ceremony
from veilmatch.crypto.dealing import BLOCK_UNITS, BlockName
from veilmatch.crypto.fields import Array
from veilmatch.crypto.keys import PairShare, exponent_bits
from veilmatch.crypto.messages import (
    AwaitResults,
    DecisionShare,
    Envelope,
    LaneShare,
    LocalWork,
    ProbeShare,
    Receive,
    Reserve,
    Reserved,
    Results,
    Send,
)
from veilmatch.crypto.paillier import Paillier, PublicKey
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.crypto.scheme import Scheme
from veilmatch.crypto.secret_access import SECRET_ACCESS
from veilmatch.crypto.session import Operation, PairSession, Request
from veilmatch.crypto.standin import StandIn

PLUS, MINUS = 0, 1


@dataclass
class Keys:
    """A scheme and the two shares of one pair of it. `o` is known only where a test needs it."""

    scheme: Scheme
    plus: PairShare
    minus: PairShare
    exponents: tuple[Integer, Integer]
    public_key: PublicKey | None = None


def standin_keys(parameters: ParameterSet) -> Keys:
    """Shares of a made-up o for the stand-in scheme over a fresh odd modulus."""
    while True:
        N = random_bits(parameters.modulus_bits) | 1 | (Integer(1) << (parameters.modulus_bits - 1))
        if is_prime(N, 5):
            break
    o = random_bits(parameters.subgroup_bits) | 1
    o_minus, kappa_minus = random_bits(parameters.subgroup_bits + 128), random_below(N)
    plus = PairShare("ab", "a", o + o_minus, (invert(o, N) + kappa_minus) % N)
    return Keys(StandIn(parameters, N), plus, PairShare("ab", "b", o_minus, kappa_minus), (o + o_minus, o_minus))


def paillier_keys(parameters: ParameterSet) -> Keys:
    """A fresh ceremony's shares for the pair ab."""
    ceremony = run_ceremony(parameters)
    plus, minus = (ceremony.keys[i].share("ab") for i in (0, 1))
    key = ceremony.public_key
    exponents = plus.exponent(key, SECRET_ACCESS), minus.exponent(key, SECRET_ACCESS)
    assert all(e.bit_length() == exponent_bits(key) for e in exponents)
    return Keys(Paillier(key), plus, minus, exponents, key)


@dataclass
class SimulatedStock:
    """One holder's stock: ranges handed out once, from a dealer with a seed of its own."""

    modulus: Integer
    seed: bytes
    is_plus: bool
    marks: dict[str, int] = field(default_factory=lambda: {"triples": 0, "bits": 0})
    reuse_triples: bool = False

    def reserve(self, wanted: Reserve) -> Reserved:
        start = max(self.marks[wanted.kind], wanted.floor) if wanted.start is None else wanted.start
        if wanted.start is not None:
            assert start >= self.marks[wanted.kind] or self.reuse_triples
        if not (self.reuse_triples and wanted.kind == "triples"):
            self.marks[wanted.kind] = start + wanted.count
        indices = range(start, start + wanted.count)
        if wanted.kind == "triples":
            return Reserved(start, [self._triple(i) for i in indices])
        parts = [self._bits(i) for i in indices]
        return Reserved(start, dealing.BitTriples(*(np.array(column, np.uint8) for column in zip(*parts, strict=True))))

    def _block(self, kind: dealing.Kind, number: int) -> dealing.Block:
        key = (kind, number)
        cache = self.__dict__.setdefault("_cache", {})
        if key not in cache:
            name = BlockName("ab", bytes(32), 1, kind, number)
            cache[key] = dealing.deal(self.seed, name, self.modulus, for_plus=self.is_plus)
        return cache[key]  # type: ignore[no-any-return]

    def _triple(self, index: int) -> Any:
        number, at = divmod(index, BLOCK_UNITS["triples"])
        return dealing.triples(self._block("triples", number), at, 1, self.modulus)[0]

    def _bits(self, index: int) -> tuple[int, int, int]:
        number, at = divmod(index, BLOCK_UNITS["bits"])
        t = dealing.bit_triples(self._block("bits", number), at, 1)
        return int(t.a[0]), int(t.b[0]), int(t.c[0])


@dataclass
class SimulatedGallery:
    """An encrypted gallery as both matchers hold it: packs of D ciphertexts."""

    scheme: Scheme
    templates: Array
    packs: list[list[Integer]]
    #: Pack and slot of every template.
    places: list[tuple[int, int]]

    @staticmethod
    def of(scheme: Scheme, templates: Array) -> SimulatedGallery:
        size = scheme.parameters.slots
        groups = [templates[i : i + size] for i in range(0, len(templates), size)]
        packs = [[scheme.encrypt(m) for m in slots.pack(group, scheme.parameters)] for group in groups]
        return SimulatedGallery(scheme, templates, packs, [divmod(i, size) for i in range(len(templates))])

    def results(self, shares: dict[bool, ProbeShare], wanted: Iterable[tuple[int, int]]) -> Results:
        """What both matchers compute together from the two probe shares: V of each pack with a wanted slot."""
        wanted = sorted(wanted)
        indices = sorted({pack for pack, _ in wanted})
        mask = np.zeros((len(indices), self.scheme.parameters.slots), dtype=bool)
        for pack, slot in wanted:
            mask[indices.index(pack), slot] = True
        return Results([self._combined(self.packs[i], shares) for i in indices], mask)

    def _combined(self, pack: list[Integer], shares: dict[bool, ProbeShare]) -> Integer:
        scheme, k = self.scheme, self.scheme.parameters.ring_bits
        plus, minus = (
            scheme.multiply(scheme.product_of_powers(pack, shares[p].exponents.tolist(), k), scheme.encrypt_zero())
            for p in (True, False)
        )
        return scheme.multiply(scheme.divide(plus, minus), scheme.encode(slots.half(scheme.parameters)))


@dataclass
class PairSimulator:
    """Runs sessions of one pair to their end."""

    keys: Keys
    #: Called with (sender, envelope); returns the envelopes to deliver. For dropped or changed messages.
    on_the_way: Callable[[int, Envelope], Sequence[Envelope]] = lambda sender, envelope: [envelope]
    #: Called with (holder, action) before it is done.
    observe: Callable[[int, Any], None] = lambda holder, action: None
    local_work: Callable[[int, Sequence[Integer]], Any] | None = None
    #: Changes the results before a holder gets them.
    results_for: Callable[[int, Results], Results] = lambda holder, results: results

    def __post_init__(self) -> None:
        seed, N = secrets.token_bytes(32), self.keys.scheme.modulus
        self.stocks = (SimulatedStock(N, seed, True), SimulatedStock(N, seed, False))

    def request(self, operation: Operation, threshold: int = 1, **changes: Any) -> Request:
        made = Request(
            operation, threshold, secrets.token_bytes(32), secrets.token_bytes(32), "main", 7,
            bytes(32), bytes(16), 1, "ab", bytes(32),
        )  # fmt: skip
        return replace(made, **changes)

    def sessions(
        self, request: Request | tuple[Request, Request], ciphertexts: Sequence[Sequence[Integer]]
    ) -> tuple[PairSession, PairSession]:
        requests = request if isinstance(request, tuple) else (request, request)
        made = [
            PairSession(r, c, share, self.keys.scheme, secrets.token_bytes(32), (0, 0))
            for r, c, share in zip(requests, ciphertexts, (self.keys.plus, self.keys.minus), strict=True)
        ]
        return made[0], made[1]

    def run(
        self,
        request: Request | tuple[Request, Request],
        ciphertexts: Sequence[Integer] | tuple[Sequence[Integer], Sequence[Integer]],
        gallery: SimulatedGallery | None = None,
        wanted: Iterable[tuple[int, int]] = (),
    ) -> tuple[Any, Any]:
        """Drive both holders until both have their LaneShare or DecisionShare; errors of either are raised."""
        both = ciphertexts if isinstance(ciphertexts, tuple) else (ciphertexts, ciphertexts)
        sessions = self.sessions(request, both)
        wires: tuple[deque[Envelope], deque[Envelope]] = (deque(), deque())
        probe_shares: dict[bool, ProbeShare] = {}
        actions = [session.start() for session in sessions]
        wanted = list(wanted)
        results: Results | None = None
        while not all(isinstance(a, LaneShare | DecisionShare) for a in actions):
            progress = False
            for holder in (PLUS, MINUS):
                action = actions[holder]
                outcome: Any = None
                if isinstance(action, LaneShare | DecisionShare):
                    continue
                if isinstance(action, Receive):
                    if not wires[holder]:
                        continue
                    outcome = wires[holder].popleft()
                elif isinstance(action, AwaitResults):
                    if len(probe_shares) < 2:
                        continue
                    assert gallery is not None
                    results = results or gallery.results(probe_shares, wanted)
                    outcome = self.results_for(holder, results)
                elif isinstance(action, Send):
                    wires[1 - holder].extend(self.on_the_way(holder, action.envelope))
                elif isinstance(action, LocalWork):
                    work = self.local_work or self._local_work
                    outcome = work(holder, action.ciphertexts)
                elif isinstance(action, Reserve):
                    outcome = self.stocks[holder].reserve(action)
                elif isinstance(action, ProbeShare):
                    probe_shares[action.is_plus] = action
                self.observe(holder, action)
                actions[holder] = sessions[holder].resume(outcome)
                progress = True
            if not progress:
                raise TimeoutError("both holders wait for a message")
        return actions[PLUS], actions[MINUS]

    def _local_work(self, holder: int, ciphertexts: Sequence[Integer]) -> Any:
        return self.keys.scheme.local_shares(ciphertexts, self.keys.exponents[holder])

    def decide(self, operation: Operation, probe: Array, gallery: SimulatedGallery, threshold: int,
               wanted: Iterable[tuple[int, int]] | None = None) -> Array:  # fmt: skip
        """Return the opened decision bits of a probe, as the device would see them."""
        places = gallery.places if wanted is None else list(wanted)
        plus, minus = self.run(self.request(operation, threshold), self.encrypt(probe), gallery, places)
        return plus.bits ^ minus.bits

    def encrypt(self, vector: Array) -> list[Integer]:
        return [self.keys.scheme.encrypt(m) for m in lanes.pack(vector, self.keys.scheme.parameters)]


def unit_vectors(rng: np.random.Generator, count: int, parameters: ParameterSet) -> Array:
    """Random quantised unit vectors, int64[count, D]."""
    e = rng.standard_normal((count, parameters.dimension))
    e /= np.linalg.norm(e, axis=1, keepdims=True)
    return np.clip(np.rint(parameters.scale * e), -parameters.clip, parameters.clip).astype(np.int64)
