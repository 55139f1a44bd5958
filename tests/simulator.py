"""All parties of a query in one process, without gRPC: what the protocol tests run on.

`PairSimulator` drives two `PairSession`s against each other with dealt randomness and local matchers. A verification
is given the records of the wanted places, as the matchers made them.
Every hook that an attack needs (a message changed on its way, other ciphertexts for one holder, a
stock used twice) is an argument, so that attacks read as one call. `Aim` makes the minus holder's w
whatever a test wants under the first last mask that it tries, which no test could wait for.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import Any
from unittest.mock import patch

import numpy as np

from veilmatch.crypto import dealing
from veilmatch.crypto.arithmetic import Integer, gcd, invert, random_below, random_bits
from veilmatch.crypto.dealing import BLOCK_UNITS, STOCK_KINDS, BlockName, deal_tagged, tagged_triples
from veilmatch.crypto.encryption.paillier import Paillier, PublicKey
from veilmatch.crypto.encryption.scheme import Scheme
from veilmatch.crypto.encryption.standin import StandIn
from veilmatch.crypto.errors import ProtocolError, ServerDeviationError
from veilmatch.crypto.keys.ceremony import run_ceremony, split_safety
from veilmatch.crypto.keys.shares import DealerGammas, PairShare, SafetyShare, exponent_bits
from veilmatch.crypto.packing import lanes, slots
from veilmatch.crypto.packing.fields import Array
from veilmatch.crypto.pair import exchange
from veilmatch.crypto.pair.conversion import Triple
from veilmatch.crypto.pair.key_safety import TaggedTriple, tagged
from veilmatch.crypto.pair.mask import SEED_BYTES, SessionMask, last_masked
from veilmatch.crypto.pair.messages import (
    AwaitResults,
    Composed,
    DecisionShare,
    Envelope,
    LastMask,
    LocalWork,
    ProbeShare,
    Receive,
    Reserve,
    Reserved,
    Results,
    SafetyWork,
    Send,
    TemplateShare,
)
from veilmatch.crypto.pair.request import Operation, Part, Request
from veilmatch.crypto.pair.session import PairSession
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.crypto.secret_access import SECRET_ACCESS

PLUS, MINUS = 0, 1
#: Called before each conversion with its number in the session (from 0) and how many ciphertexts it
#: has; returns the w that the minus holder shall get for each under the seed FIRST, or None to leave them to chance.
Aim = Callable[[int, int], Sequence[Integer] | None]
#: The seed of a last mask that the minus holder tries before any other where something was aimed.
FIRST = bytes(SEED_BYTES)
#: Whether a seed is safe, and a seed that is.
IsSafe = Callable[[bytes], bool]
DrawSeed = Callable[[IsSafe], bytes]
#: Which of the vectors are gated, None for all of them. A tuple: what each holder is told.
Origins = list[bool] | tuple[list[bool], list[bool]] | None


@dataclass
class Keys:
    """A scheme and the two shares of one pair of it. `o` is known only where a test needs it."""

    scheme: Scheme
    plus: PairShare
    minus: PairShare
    exponents: tuple[Integer, Integer]
    #: Of the key-safety check: both holders' parts, their exponents as verifier and prover, and the dealer's part.
    safety: tuple[SafetyShare, SafetyShare]
    safety_exponents: tuple[tuple[Integer, Integer], tuple[Integer, Integer]]
    gammas: DealerGammas
    public_key: PublicKey | None = None


def standin_keys(parameters: ParameterSet) -> Keys:
    """Shares of a made-up o for the stand-in scheme over a fresh odd modulus."""
    top = Integer(1) << (parameters.modulus_bits - 1)
    while True:
        N, o = random_bits(parameters.modulus_bits) | top | 1, random_bits(parameters.subgroup_bits) | 1
        if gcd(N, o) == 1:
            break
    o_minus, kappa_minus = random_bits(parameters.subgroup_bits + 128), random_below(N)
    plus = PairShare("ab", "a", o + o_minus, (invert(o, N) + kappa_minus) % N)
    minus = PairShare("ab", "b", o_minus, kappa_minus)
    return keys_from(StandIn(parameters, N), (plus, minus), *split_safety((plus, minus), o, N))


def keys_from(
    scheme: Scheme, shares: tuple[PairShare, PairShare], safety: tuple[SafetyShare, SafetyShare], gammas: DealerGammas
) -> Keys:
    """All of a pair, with its exponents in the form that the scheme's workers get."""
    # The stand-in has no key: any of these sizes gives the lengths.
    key = getattr(scheme, "public_key", PublicKey(scheme.parameters, scheme.modulus, Integer(2)))
    plus, minus = (share.exponent(key, SECRET_ACCESS) for share in shares)
    both = safety[0].exponents(key, SECRET_ACCESS), safety[1].exponents(key, SECRET_ACCESS)
    public_key = key if isinstance(scheme, Paillier) else None
    return Keys(scheme, *shares, (plus, minus), safety, both, gammas, public_key)


def paillier_keys(parameters: ParameterSet) -> Keys:
    """A fresh ceremony's shares for the pair ab."""
    ceremony = run_ceremony(parameters)
    plus, minus, dealer = ceremony.keys
    made = keys_from(
        Paillier(ceremony.public_key), (plus.share("ab"), minus.share("ab")), (plus.safety("ab"), minus.safety("ab")),
        dealer.dealer_gammas(SECRET_ACCESS),
    )  # fmt: skip
    assert all(e.bit_length() == exponent_bits(ceremony.public_key) for e in made.exponents)
    return made


@dataclass
class SimulatedStock:
    """One holder's stock: ranges handed out once, from a dealer with a seed of its own."""

    modulus: Integer
    seed: bytes
    is_plus: bool
    gammas: DealerGammas
    marks: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STOCK_KINDS, 0))
    reuse_triples: bool = False
    _blocks: dict[tuple[str, int], dealing.Block] = field(default_factory=dict)

    @property
    def floors(self) -> tuple[int, int, int]:
        """First index of triples, bits and products that was not handed out."""
        return (0 if self.reuse_triples else self.marks["triples"]), self.marks["bits"], self.marks["products"]

    def reserve(self, wanted: Reserve) -> Reserved:
        """Return a range nobody had before. Raises ProtocolError if some of it was used (unless `reuse_triples`)."""
        reuse = self.reuse_triples and wanted.kind == "triples"
        mark = 0 if reuse else self.marks[wanted.kind]
        start = max(mark, wanted.floor) if wanted.start is None else wanted.start
        if start < mark:
            raise ProtocolError("stock of this range was used before", got=start, expected=f">= {mark}")
        self.marks[wanted.kind] = max(mark, start + wanted.count)
        parts = list(self._parts(wanted.kind, start, wanted.count))
        if wanted.kind == "triples":
            return Reserved(start, [triple for part in parts for triple in part])
        if wanted.kind == "products":
            joined = (np.concatenate([getattr(p, x) for p in parts]) for x in ("factor", "product"))
            return Reserved(start, dealing.Products(*joined))
        return Reserved(start, dealing.BitTriples(*(np.concatenate([getattr(t, x) for t in parts]) for x in "abc")))

    def _parts(self, kind: dealing.Kind, start: int, count: int) -> Iterable[Any]:
        """The range, cut at the ends of blocks."""
        while count > 0:
            number, at = divmod(start, BLOCK_UNITS[kind])
            size = min(count, BLOCK_UNITS[kind] - at)
            block = self._block(kind, number)
            if kind == "triples":
                yield tagged_triples(block, at, size, self.modulus)
            elif kind == "products":
                yield dealing.products(block, at, size)
            else:
                yield dealing.bit_triples(block, at, size)
            start, count = start + size, count - size

    def _block(self, kind: dealing.Kind, number: int) -> dealing.Block:
        if (kind, number) not in self._blocks:
            name = BlockName("ab", bytes(32), 1, kind, number)
            self._blocks[kind, number] = deal_tagged(self.seed, name, self.modulus, self.gammas, for_plus=self.is_plus)
        return self._blocks[kind, number]


@dataclass
class SimulatedGallery:
    """An encrypted gallery as both matchers hold it: packs of D ciphertexts, and records."""

    scheme: Scheme
    templates: Array
    packs: list[list[Integer]]
    #: Pack and slot of every template.
    places: list[tuple[int, int]]
    #: False: a matcher's R leaves as it was computed. An attack.
    rerandomised: bool = True
    #: The records of those places that were asked for.
    recorded: dict[tuple[int, int], list[Integer]] = field(default_factory=dict)

    @staticmethod
    def of(scheme: Scheme, templates: Array) -> SimulatedGallery:
        size = scheme.parameters.slots
        groups = [templates[i : i + size] for i in range(0, len(templates), size)]
        packs = [[scheme.encrypt(m) for m in slots.pack(group, scheme.parameters)] for group in groups]
        return SimulatedGallery(scheme, templates, packs, [divmod(i, size) for i in range(len(templates))])

    def results(self, shares: dict[bool, ProbeShare], wanted: Iterable[tuple[int, int]], views: int = 1) -> Results:
        """What both matchers compute together from the two probe shares: V of each pack with a wanted slot, by view."""
        wanted = sorted(wanted)
        indices = sorted({pack for pack, _ in wanted})
        mask = np.zeros((len(indices), self.scheme.parameters.slots), dtype=bool)
        for pack, slot in wanted:
            mask[indices.index(pack), slot] = True
        each = [
            {plus: replace(share, exponents=share.exponents.reshape(views, -1)[view]) for plus, share in shares.items()}
            for view in range(views)
        ]
        return Results([self._combined(i, of_view) for of_view in each for i in indices], np.tile(mask, (views, 1)))

    def records(self, wanted: Iterable[tuple[int, int]]) -> list[Integer]:
        """What each matcher gives its key holder in a verification: the lane ciphertexts of templates, one by one."""
        scheme, size = self.scheme, self.scheme.parameters.slots
        found = []
        for pack, slot in sorted(wanted):
            if (pack, slot) not in self.recorded:
                plaintexts = lanes.pack(self.templates[pack * size + slot], scheme.parameters)
                self.recorded[pack, slot] = [scheme.encrypt(m) for m in plaintexts]
            found += self.recorded[pack, slot]
        return found

    def partial(self, pack: int, share: ProbeShare) -> Integer:
        """What one matcher computes from its probe share and sends to the other: R of one pack."""
        scheme, k = self.scheme, self.scheme.parameters.ring_bits
        R = scheme.product_of_powers(self.packs[pack], share.exponents.tolist(), k)
        return scheme.multiply(R, scheme.encrypt_zeros(1)[0]) if self.rerandomised else R

    def _combined(self, pack: int, shares: dict[bool, ProbeShare]) -> Integer:
        scheme = self.scheme
        quotient = scheme.divide(*(self.partial(pack, shares[is_plus]) for is_plus in (True, False)))
        return scheme.multiply(quotient, scheme.encode(slots.half(scheme.parameters)))


@dataclass
class PairSimulator:
    """Runs sessions of one pair to their end."""

    keys: Keys
    #: Called with (sender, envelope); returns the envelopes to deliver. For dropped or changed messages.
    on_the_way: Callable[[int, Envelope], Sequence[Envelope]] = lambda sender, envelope: [envelope]
    #: Called with (holder, action) before it is done.
    observe: Callable[[int, Any], None] = lambda holder, action: None
    local_work: Callable[[int, Sequence[Integer]], Any] | None = None
    #: Changes the records of a verification before a holder gets them.
    records_for: Callable[[int, list[Integer]], list[Integer]] = lambda holder, records: records
    #: Changes the results before a holder gets them.
    results_for: Callable[[int, Results], Results] = lambda holder, results: results
    aim: Aim | None = None
    #: Vectors of each probe that is given, all of one face.
    views: int = 1
    #: How the minus holder draws the seed of each last mask; None: as it does.
    seed_of: DrawSeed | None = None

    def __post_init__(self) -> None:
        seed, N = secrets.token_bytes(32), self.keys.scheme.modulus
        self.stocks = tuple(SimulatedStock(N, seed, is_plus, self.keys.gammas) for is_plus in (True, False))
        #: The two sessions of the last run, also if it ended with an error.
        self.last_sessions: tuple[PairSession, ...] = ()
        #: Every envelope that a holder sent in the last run, as (holder, envelope), before `on_the_way`.
        self.sent: list[tuple[int, Envelope]] = []
        #: Of every last mask of the last run, whether the seed FIRST was tried: it is first where something was aimed.
        self.tried_first: list[bool] = []

    def request(
        self, operation: Operation, threshold: int = 1, *, unless_known: bool = False, **changes: Any
    ) -> Request:
        """threshold: of an enrolment it counts only if that is made unless the face is known."""
        threshold = 0 if operation == "enrol" and not unless_known else threshold
        made = Request(
            operation, threshold, secrets.token_bytes(32), secrets.token_bytes(32), "main", 7,
            bytes(32), bytes(16), 1, "ab", bytes(32),
        )  # fmt: skip
        return replace(made, **changes)

    def sessions(
        self,
        request: Request | tuple[Request, Request],
        ciphertexts: Sequence[Sequence[Integer]],
        by_device: Origins = None,
    ) -> tuple[PairSession, PairSession]:
        requests = request if isinstance(request, tuple) else (request, request)
        size = self.keys.scheme.parameters.lane_ciphertexts
        told = by_device if isinstance(by_device, tuple) else (by_device, by_device)
        flags = [
            np.array([True] * -(-len(c) // size) if which is None else which, dtype=bool)
            for c, which in zip(ciphertexts, told, strict=True)
        ]
        parts = [[Part(*of_one, self.views)] for of_one in zip(requests, ciphertexts, flags, strict=True)]
        return self.sessions_of(parts[PLUS], parts[MINUS])

    def sessions_of(self, plus: Sequence[Part | None], minus: Sequence[Part]) -> tuple[PairSession, PairSession]:
        """The sessions of holders that bring these parts."""
        made = [
            PairSession(
                parts, share, safety, self.keys.scheme,
                secrets.token_bytes(32), secrets.token_bytes(32), stock.floors,
            )
            for parts, share, safety, stock in zip(
                (plus, minus), (self.keys.plus, self.keys.minus), self.keys.safety, self.stocks, strict=True
            )
        ]  # fmt: skip
        return made[0], made[1]

    def together(
        self, plus: Sequence[Part | None], minus: Sequence[Part]
    ) -> tuple[tuple[Composed, list[DecisionShare]], tuple[Composed, list[DecisionShare]]]:
        """Drive verifications that go together to their end; what each holder was told of them, and its shares.

        Where none goes on the session ends there. Raises as `run`.
        """
        told: list[list[Any]] = [[], []]
        before, seen = self.observe, (Composed, DecisionShare)

        def observe(holder: int, action: Any) -> None:
            if isinstance(action, seen):
                told[holder].append(action)
            before(holder, action)

        self.observe = observe
        try:
            for share, of_holder in zip(self._drive(self.sessions_of(plus, minus)), told, strict=True):
                of_holder.append(share)
        finally:
            self.observe = before
        return (told[PLUS][0], told[PLUS][1:]), (told[MINUS][0], told[MINUS][1:])

    def run(
        self,
        request: Request | tuple[Request, Request],
        ciphertexts: Sequence[Integer] | tuple[Sequence[Integer], Sequence[Integer]],
        gallery: SimulatedGallery | None = None,
        wanted: Iterable[tuple[int, int]] = (),
        by_device: Origins = None,
    ) -> tuple[Any, Any]:
        """Drive both holders until both have their TemplateShare or DecisionShare; errors of either are raised.

        Of a verification the ciphertexts are the probe; records of the wanted places are added, and by_device is about
        those, one flag for each or one for all: None stands for records that the matchers made.

        TimeoutError: both wait for a message. A message that comes after its receiver has ended is delivered too.
        """
        draw = self.seed_of or exchange.draw_seed
        with patch.object(exchange, "draw_seed", partial(self._draw_seed, draw)):
            return self._run(request, ciphertexts, gallery, wanted, by_device)

    def _run(
        self,
        request: Request | tuple[Request, Request],
        ciphertexts: Sequence[Integer] | tuple[Sequence[Integer], Sequence[Integer]],
        gallery: SimulatedGallery | None,
        wanted: Iterable[tuple[int, int]],
        by_device: Origins,
    ) -> tuple[Any, Any]:
        both = ciphertexts if isinstance(ciphertexts, tuple) else (ciphertexts, ciphertexts)
        wanted = list(wanted)
        if (request[0] if isinstance(request, tuple) else request).operation == "verify":
            assert gallery is not None
            both, by_device = self._with_records(both, gallery.records(wanted), by_device, len(wanted))
        return self._drive(self.sessions(request, both, by_device), gallery, wanted)

    def _drive(
        self,
        sessions: tuple[PairSession, PairSession],
        gallery: SimulatedGallery | None = None,
        wanted: Iterable[tuple[int, int]] = (),
    ) -> tuple[Any, Any]:
        self.last_sessions = sessions
        self.sent, self.tried_first, self._conversions = [], [], 0
        self._aimed: _Aimed | None = None
        self._local: list[Any] = [None, None]
        wires: tuple[deque[Envelope], deque[Envelope]] = (deque(), deque())
        probe_shares: dict[bool, ProbeShare] = {}
        actions = [session.start() for session in sessions]
        results: Results | None = None
        while not all(session.finished for session in sessions):
            progress = False
            for holder in (PLUS, MINUS):
                action = actions[holder]
                outcome: Any = None
                if sessions[holder].finished:
                    continue
                if isinstance(action, Receive):
                    if not wires[holder]:
                        continue
                    outcome = wires[holder].popleft()
                elif isinstance(action, AwaitResults):
                    if len(probe_shares) < 2:
                        continue
                    assert gallery is not None
                    results = results or gallery.results(probe_shares, wanted, self.views)
                    outcome = self.results_for(holder, results)
                elif isinstance(action, Send):
                    self.sent.append((holder, action.envelope))
                    wires[1 - holder].extend(self.on_the_way(holder, action.envelope))
                elif isinstance(action, LocalWork):
                    work = self.local_work or self._local_work
                    outcome = self._local[holder] = work(holder, action.ciphertexts)
                elif isinstance(action, SafetyWork):
                    outcome = self.safety_work(holder, action)
                elif isinstance(action, Reserve):
                    outcome = self._reserve(holder, action)
                elif isinstance(action, ProbeShare):
                    probe_shares[action.is_plus] = action
                self.observe(holder, action)
                actions[holder] = sessions[holder].resume(outcome)
                progress = True
            if not progress:
                raise TimeoutError("both holders wait for a message")
        for holder in (PLUS, MINUS):
            for late in wires[holder]:
                sessions[holder].resume(late)
        return actions[PLUS], actions[MINUS]

    def _with_records(
        self, probe: tuple[Sequence[Integer], Sequence[Integer]], records: list[Integer], by_device: Origins, count: int
    ) -> tuple[tuple[Sequence[Integer], Sequence[Integer]], tuple[list[bool], list[bool]]]:
        """What each holder of a verification is given: the probe, which a device encrypted, and records after it."""
        told = by_device if isinstance(by_device, tuple) else (by_device, by_device)
        listed = [which or [False] for which in told]
        flags = [[True] * self.views + [*(which * count if len(which) == 1 else which)] for which in listed]
        given = [[*part, *self.records_for(holder, records)] for holder, part in enumerate(probe)]
        return (given[PLUS], given[MINUS]), (flags[PLUS], flags[MINUS])

    def _reserve(self, holder: int, wanted: Reserve) -> Reserved:
        reserved = self.stocks[holder].reserve(wanted)
        if wanted.kind != "triples" or self.aim is None:
            return reserved
        if holder == PLUS:  # reserves first
            self._aimed, self._conversions = _Aimed(self, self._conversions, wanted.count), self._conversions + 1
        assert self._aimed is not None and isinstance(reserved.material, list)
        return Reserved(reserved.start, _Later(reserved.material, self._aimed, holder))

    def _draw_seed(self, draw: DrawSeed, is_safe: IsSafe) -> bytes:
        last, self._aimed = self._aimed, None  # only the minus holder draws, after both have taken their triples
        aimed = last is not None and last.both() is not None
        self.tried_first.append(aimed)
        return FIRST if aimed and is_safe(FIRST) else draw(is_safe)

    def aimed_triples(self, targets: Sequence[Integer]) -> tuple[list[TaggedTriple], list[TaggedTriple]]:
        """Right triples of both holders, such that the minus holder's w are the targets under the seed FIRST."""
        N = self.keys.scheme.modulus
        kappas = [share.kappa(SECRET_ACCESS) for share in (self.keys.plus, self.keys.minus)]
        masks = last_masked(next_residues(self.last_sessions[PLUS], len(targets), N), FIRST, N)
        made: tuple[list[TaggedTriple], list[TaggedTriple]] = ([], [])
        for target, mask, plus, minus in zip(targets, masks, *self._local, strict=True):
            a, b, a_minus, b_minus = (random_below(N) for _ in range(4))
            d, e = plus.z - minus.z - a, kappas[PLUS] - kappas[MINUS] - b
            ab_minus = (target - mask - d * b_minus - e * a_minus) % N
            of_plus = Triple((a + a_minus) % N, (b + b_minus) % N, (a * b + ab_minus) % N)
            both = tagged(of_plus, Triple(a_minus, b_minus, ab_minus), self.keys.gammas, N)
            for holder in (PLUS, MINUS):
                made[holder].append(both[holder])
        return made

    def _local_work(self, holder: int, ciphertexts: Sequence[Integer]) -> Any:
        return self.keys.scheme.local_shares(ciphertexts, self.keys.exponents[holder])

    def safety_work(self, holder: int, work: SafetyWork) -> Any:
        """What the workers of a holder do for the key-safety check."""
        c_star = [self.keys.scheme.combine(work.ciphertexts, work.exponents)]
        return tuple(self.keys.scheme.local_shares(c_star, t)[0] for t in self.keys.safety_exponents[holder])

    def enrol(self, template: Array) -> Array:
        """Return the lanes that both matchers would add up from their shares of a valid template."""
        lanes, valid = self.opened(self.run(self.request("enrol", 0), self.encrypt(template)))
        if not valid.all():
            raise ServerDeviationError("an invalid vector")
        return lanes

    @staticmethod
    def added_up(shares: tuple[TemplateShare, TemplateShare]) -> list[int]:
        """Return what both matchers' shares add up to under encryption, where nothing is mod 2^64."""
        plus, minus = (share.lanes.tolist() for share in shares)
        return [p - q for p, q in zip(plus, minus, strict=True)]

    @staticmethod
    def opened(shares: tuple[TemplateShare, TemplateShare]) -> tuple[Array, Array]:
        """Return the lanes of the templates, all of them right ones, and what the valid bits open to."""
        found = PairSimulator.added_up(shares)
        assert all(0 <= x < 1 << 64 for x in found), "parts that wrap do not add up under encryption"
        return np.array(found, dtype=np.int64), shares[0].valid ^ shares[1].valid

    def decide(
        self,
        operation: Operation,
        probe: Array,
        gallery: SimulatedGallery,
        threshold: int,
        wanted: Iterable[tuple[int, int]] | None = None,
    ) -> Array:
        """Return the opened decision bits of a probe, as the device would see them."""
        return self.answer(operation, self.encrypt(probe), gallery, threshold, wanted)

    def answer(
        self,
        operation: Operation,
        ciphertexts: Sequence[Integer],
        gallery: SimulatedGallery,
        threshold: int,
        wanted: Iterable[tuple[int, int]] | None = None,
    ) -> Array:
        """The same for a probe that is encrypted already."""
        places = gallery.places if wanted is None else list(wanted)
        plus, minus = self.run(self.request(operation, threshold), ciphertexts, gallery, places)
        if plus.valid == minus.valid:
            raise ServerDeviationError("an invalid vector")
        return plus.bits ^ minus.bits

    def encrypt(self, vector: Array) -> list[Integer]:
        """The ciphertexts of int64[D], or of several views, int64[n, D]."""
        parameters = self.keys.scheme.parameters
        plaintexts = (m for view in vector.reshape(-1, parameters.dimension) for m in lanes.pack(view, parameters))
        return [self.keys.scheme.encrypt(m) for m in plaintexts]


class _Aimed:
    """Asks for the aim of a conversion when the first holder takes its triples: both have converted by then."""

    def __init__(self, simulator: PairSimulator, number: int, count: int) -> None:
        self._simulator, self._number, self._count = simulator, number, count
        self.both = cache(self._made)

    def _made(self) -> tuple[list[TaggedTriple], list[TaggedTriple]] | None:
        assert self._simulator.aim is not None
        targets = self._simulator.aim(self._number, self._count)
        return None if targets is None else self._simulator.aimed_triples(targets)


class _Later(list[Any]):
    """The triples of one holder: the aimed ones, if something is aimed."""

    def __init__(self, dealt: list[Any], aimed: _Aimed, holder: int) -> None:
        super().__init__(dealt)
        self._aimed, self._holder = aimed, holder

    def __getitem__(self, part: Any) -> Any:
        both = self._aimed.both()
        return super().__getitem__(part) if both is None else both[self._holder][part]


def seeds(simulator: PairSimulator) -> list[bytes]:
    """Of the last masks of the last run."""
    return [e.message.seed for _, e in simulator.sent if isinstance(e.message, LastMask)]


def first_taken(simulator: PairSimulator) -> list[bool | None]:
    """Of every last mask of the last run: whether FIRST was taken, or another seed drawn; None: nothing was aimed."""
    both = zip(seeds(simulator), simulator.tried_first, strict=True)
    return [seed == FIRST if tried else None for seed, tried in both]


def next_residues(session: PairSession, count: int, modulus: Integer) -> list[Integer]:
    """What the mask of a session will add to the w of its next conversion; the session draws it all the same."""
    mask = session._exchange.mask
    ahead = SessionMask(bytes(32), bytes(32), bytes(32))
    ahead._seed, ahead._drawn = mask._seed, mask._drawn
    return ahead.residues(count, modulus)


def unit_vectors(rng: np.random.Generator, count: int, parameters: ParameterSet) -> Array:
    """Random quantised unit vectors, int64[count, D], all valid: a toy set clips some down to too low a norm."""
    found = np.zeros((0, parameters.dimension), dtype=np.int64)
    while len(found) < count:
        e = rng.standard_normal((count, parameters.dimension))
        e /= np.linalg.norm(e, axis=1, keepdims=True)
        made = np.clip(np.rint(parameters.scale * e), -parameters.clip, parameters.clip).astype(np.int64)
        norms = np.sum(made**2, axis=1)
        found = np.vstack([found, made[(norms >= parameters.norm_min) & (norms <= parameters.norm_max)]])
    return found[:count]
