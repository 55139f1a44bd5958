"""Real sessions of a pair at tiny sizes: N of two tiny primes, one lane of a few bits, all randomness given.

`PairSession` runs as it is. What it is run with is small: the constants of lanes and headroom are set for the time of
a run, and the scheme is a stand-in that shows what Paillier shows to somebody without the key, and no more. A
ciphertext is always the same bytes, and a local share of m is exponent * m + blind mod N. For Paillier blind is the
logarithm of hs^(r * exponent), the same for both holders and another one for every ciphertext and every secret that
is shared; that it is uniform for whoever lacks the key is the DCR assumption. Here a run is given all that one holder
has, its local shares too, and what the other one has follows from the secrets.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import numpy as np

from tests.enumeration.dealt import EnumeratedMask, bit_material, product_material
from tests.enumeration.steps import MINUS, PLUS, Alter, Run, run_steps
from veilmatch.crypto.arithmetic import Integer, invert
from veilmatch.crypto.encryption.scheme import LocalShare
from veilmatch.crypto.encryption.standin import StandIn
from veilmatch.crypto.gates.multiplication import only_valid_cost
from veilmatch.crypto.gates.validity import validity_cost
from veilmatch.crypto.keys.parties import Party
from veilmatch.crypto.keys.shares import PairShare, SafetyShare
from veilmatch.crypto.packing import lanes
from veilmatch.crypto.pair import beginning
from veilmatch.crypto.pair.key_safety import TaggedTriple
from veilmatch.crypto.pair.messages import Composed, LocalWork, ProbeShare, Reserve, Reserved, SafetyWork
from veilmatch.crypto.pair.request import Operation, Part, Request
from veilmatch.crypto.pair.session import PairSession
from veilmatch.crypto.parameters import ParameterSet

#: Of the key-safety check, by verifier: Gamma, and local shares of the combined ciphertext under t. Of the holder whose
#: view it is: its key of the other's kappa, its tag of its own, and keys and tags of a and b.
GAMMAS, Z_COMBINED, KAPPA_KEY, KAPPA_TAG, KEYS, TAGS = (5, 3), (6, 10), 2, 4, (1, 6), (3, 8)


@dataclass(frozen=True)
class TinyParameters(ParameterSet):
    """One lane of `lane_bits` bits in a ciphertext. The minus holder's rules are about the top `risk` of 2^lane_bits
    and the top 2^headroom of N, and about more than `wraps` coordinates near the wrap of 2^ring_bits. Nothing holds of
    what a real set is checked for.
    """

    modulus_bits: int = 16
    dimension: int = 1
    clip: int = 1
    lane_bits: int = 8
    risk: int = 0
    headroom: int | None = None
    wraps: int = 1

    ring_bits = 4  # type: ignore[assignment]
    lanes = 1  # type: ignore[assignment]
    lane_ciphertexts = 1  # type: ignore[assignment]
    norm_min = norm_max = 1  # type: ignore[assignment]

    def __post_init__(self) -> None:
        pass

    @property
    def lane_risk(self) -> int:
        return self.risk

    @property
    def wrap_limit(self) -> int:  # type: ignore[override]
        return self.wraps

    @contextmanager
    def set_for(self, N: int) -> Iterator[None]:
        """Set what the modules know as constants."""
        never = 1 << 20  # a distance from N that no share reaches
        if self.headroom is None:
            with patch.object(lanes, "wraps_modulus", lambda shares, modulus: max(shares) >= never):
                yield
        else:
            with patch.object(lanes, "HEADROOM_BITS", N.bit_length() - self.headroom):
                yield


class Hiding(StandIn):
    """The stand-in with ciphertexts that show nothing."""

    def serialise(self, c: Integer) -> bytes:
        return b"a ciphertext"


@dataclass(frozen=True)
class Held:
    """What one holder has: its part of kappa, z of the ciphertext, and a, b, ab of one triple for each conversion."""

    kappa: int
    z: int
    triples: Sequence[tuple[int, int, int]]


@dataclass(frozen=True)
class Tiny:
    """A pair, of which one holder has what it has. Secrets of a run are o, a unit mod N, and m, the plaintext."""

    N: int
    holder: int
    held: Held
    operation: Operation = "rotate"
    parameters: TinyParameters = field(default_factory=TinyParameters)
    #: Bit triples and products of both holders, where a session needs them.
    stock: Any = None

    def run(
        self,
        o: int,
        m: int,
        other: Sequence[tuple[int, int]],
        mask: tuple[Any, Any, Any],
        alter: Alter | None = None,
    ) -> Run:
        """Run a session at both holders; a search ends with the shares of the probe, for want of results.

        other: a, b of the other one for each conversion. mask: draws of residues, of words and of bits. alter: what
        `holder` sends in place of its messages.
        """
        N, holder = self.N, self.holder
        scheme = Hiding(self.parameters, Integer(N))
        shares, safety = self._keys(o)
        sign = 1 if holder == PLUS else -1
        triples = [list(pair) for pair in zip(*map(self._triple, self.held.triples, other), strict=True)]
        local = {holder: self.held.z, 1 - holder: (self.held.z - sign * o * m) % N}

        probes: list[Any] = [None, None]

        def serve(at: int, action: Any) -> object:
            match action:
                case LocalWork():
                    return [LocalShare(Integer(local[at]), Integer(1))]
                case SafetyWork(_, (weight,)):
                    # t_plus - t_minus = Gamma * o, whoever verifies.
                    shift = 0 if at == holder else sign * o * m * weight
                    z = [
                        LocalShare((z - gamma * shift) % N, Integer(1))
                        for z, gamma in zip(Z_COMBINED, GAMMAS, strict=True)
                    ]
                    return z[at], z[1 - at]
                case Reserve("triples", count):
                    return Reserved(0, [triples[at].pop(0) for _ in range(count)])
                case Reserve("products", count):
                    return Reserved(0, self.stock["products"][count][at])
                case Reserve("bits"):
                    return Reserved(0, self.stock["bits"][at])
                case ProbeShare():
                    probes[at] = action
                    return None
                case Composed():
                    return None
            raise AssertionError(action)

        request = Request(self.operation, 0, bytes(32), bytes(32), "g", 1, bytes(32), bytes(16), 1, "ab", bytes(32))
        by_device = np.array([self.operation != "rotate"])
        sessions = [
            _steps(
                PairSession(
                    [Part(request, [Integer(m)], by_device)],
                    shares[at],
                    safety[at],
                    scheme,
                    bytes([at]) * 32,
                    bytes([at]) * 32,
                    (0, 0, 0),
                )
            )
            for at in (PLUS, MINUS)
        ]
        with (
            self.parameters.set_for(N),
            patch.object(beginning, "SessionMask", lambda *_: EnumeratedMask(*mask)),
        ):
            run = run_steps((sessions[PLUS], sessions[MINUS]), serve, holder, alter)
        if self.operation == "candidates":
            run.ended[:] = probes
        return run

    def _keys(self, o: int) -> tuple[list[PairShare], list[SafetyShare]]:
        """Shares and parts of the key-safety check, by holder. Exponents are not used: local shares are given."""
        N, me, other, held = self.N, self.holder, 1 - self.holder, self.held
        kappa = invert(Integer(o), Integer(N)) * (1 if me == PLUS else -1)
        kappas = {me: Integer(held.kappa), other: (held.kappa - kappa) % N}
        keys = {me: KAPPA_KEY, other: (KAPPA_TAG - GAMMAS[other] * kappas[me]) % N}
        tags = {me: KAPPA_TAG, other: (KAPPA_KEY + GAMMAS[me] * kappas[other]) % N}
        unused, shares, safety = Integer(0), [], []
        parties: tuple[Party, Party] = ("a", "b")
        for at, party in enumerate(parties):
            shares.append(PairShare("ab", party, unused, kappas[at]))
            numbers = Integer(GAMMAS[at]), unused, Integer(keys[at]), unused, Integer(tags[at])
            safety.append(SafetyShare("ab", party, *numbers))
        return shares, safety

    def _triple(self, mine: tuple[int, int, int], other: tuple[int, int]) -> tuple[TaggedTriple, TaggedTriple]:
        """One triple of the plus and the minus holder, with tags."""
        N, me = self.N, self.holder
        (a, b, ab), (a_other, b_other) = mine, other
        product = (a - a_other) * (b - b_other)  # the same for either sign
        ab_other = (ab - product if me == PLUS else ab + product) % N
        other_tags = [(key + GAMMAS[me] * x) % N for key, x in zip(KEYS, other, strict=True)]
        other_keys = [(tag - GAMMAS[1 - me] * x) % N for tag, x in zip(TAGS, (a, b), strict=True)]
        both = [
            TaggedTriple(*map(Integer, (a, b, ab, *TAGS, *KEYS))),
            TaggedTriple(*map(Integer, (a_other, b_other, ab_other, *other_tags, *other_keys))),
        ]
        return (both[0], both[1]) if me == PLUS else (both[1], both[0])


def some_stock(number: int, parameters: TinyParameters) -> Any:
    """Bit triples and products for one gate and for the multiplication by its bit, all fixed by `number`."""
    rng = np.random.default_rng(number)
    a, b, c, other_a, other_b = (
        rng.integers(0, 2, (validity_cost(1, parameters), 8), dtype=np.uint8) for _ in range(5)
    )
    products: dict[int, Any] = {}
    for count in (1, 1 + only_valid_cost(1, 1)):
        factor, share, other = (rng.integers(0, 1 << 64, count, dtype=np.uint64) for _ in range(3))
        products[count] = product_material((factor, share), other, is_plus=True)
    return {"bits": bit_material((a, b, c), other_a, other_b), "products": products}


def _steps(session: PairSession) -> Generator[Any, Any, None]:
    action = session.start()
    while True:
        action = session.resume((yield action))
