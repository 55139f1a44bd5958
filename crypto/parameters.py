"""Parameter sets: every bound that lanes, slots and gates need, computed from five numbers and checked.

A set is named by its content, e.g. `d128-s126-c38-l46-n3072`. Earlier installations have lanes of 48 bits, and names
without `l46`. Sets whose modulus is too small to be secure exist for tests and say UNSAFE in their name.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from veilmatch.crypto.errors import ParameterError

#: |p| + |q| of the subgroup by modulus size: attack cost 2^(|p|/2), Coron et al., PKC 2011.
SUBGROUP_BITS = {512: 128, 768: 192, 1024: 320, 2048: 448, 3072: 512}
#: Moduli that may protect real people: 112-bit and 128-bit security.
SAFE_MODULUS_BITS = (2048, 3072)
#: Widths of a lane, which carries one coordinate of one vector: of new installations, and of earlier ones. The
#: narrower, the more a seed tells (docs/security-argument.md, "The last mask").
LANE_BITS, EARLIER_LANE_BITS = 46, 48
#: Bits left free below N: the wrap of a conversion mod N then has probability 2^-64.
HEADROOM_BITS = 64
#: More than `wrap_limit` coordinates of a query have shares that wrap with at most this probability, as log2.
WRAP_LOG2 = -40

_NAME = re.compile(r"(?:UNSAFE-)?d(\d{1,4})-s(\d{1,4})-c(\d{1,4})(?:-l(\d\d))?-n(\d{1,5})")


@dataclass(frozen=True)
class ParameterSet:
    """The numbers of one installation, and all that follows from them.

    dimension D: coordinates of an embedding, 1..4096. scale S: an embedding of norm 1 is multiplied by S.
    clip c: coordinates are clipped to [-c, c]. modulus_bits: size of N. lane_bits: 46, or 48 in earlier installations.
    Raises ParameterError if they do not fit together.
    """

    dimension: int = 128
    scale: int = 126
    clip: int = 38
    modulus_bits: int = 3072
    lane_bits: int = LANE_BITS

    def __post_init__(self) -> None:
        if self.modulus_bits not in SUBGROUP_BITS:
            raise ParameterError("unknown modulus size", got=self.modulus_bits, expected=sorted(SUBGROUP_BITS))
        if self.lane_bits not in (LANE_BITS, EARLIER_LANE_BITS):
            expected = [LANE_BITS, EARLIER_LANE_BITS]
            raise ParameterError("unknown width of a lane", got=self.lane_bits, expected=expected)
        for name, value, low, high in (
            ("dimension", self.dimension, 1, 4096),
            ("scale", self.scale, 4, 1024),
            ("clip", self.clip, 1, min(self.scale, 1023)),
        ):
            if not low <= value <= high:
                raise ParameterError(f"{name} out of range", got=value, expected=f"{low}..{high}")
        self._check_bounds()

    @staticmethod
    def from_name(name: str) -> ParameterSet:
        """Return the set called `name`. Raises ParameterError if no set is called exactly so."""
        found = _NAME.fullmatch(name)
        if found is None:
            raise ParameterError("not the name of a parameter set", got=name[:60], expected="d128-s126-c38-l46-n3072")
        dimension, scale, clip, lane, modulus = found.groups()
        lane_bits = EARLIER_LANE_BITS if lane is None else int(lane)
        parameters = ParameterSet(int(dimension), int(scale), int(clip), int(modulus), lane_bits)
        if parameters.name != name:
            raise ParameterError("not the name of a parameter set", got=name[:60], expected=parameters.name)
        return parameters

    @property
    def name(self) -> str:
        """The name by content."""
        unsafe = "" if self.modulus_bits in SAFE_MODULUS_BITS else "UNSAFE-"
        lane = "" if self.lane_bits == EARLIER_LANE_BITS else f"-l{self.lane_bits}"
        return f"{unsafe}d{self.dimension}-s{self.scale}-c{self.clip}{lane}-n{self.modulus_bits}"

    # -- scores -----------------------------------------------------------------------------

    @cached_property
    def ring_bits(self) -> int:
        """k: comparisons are mod 2^k. Smallest k with 2(M0 + S^2) + 1 < 2^(k-1) for honest norms up to M0."""
        k = 2
        while not 2 * (self._honest_norm + self.scale**2) + 1 < 1 << (k - 1):
            k += 1
        return k

    @cached_property
    def norm_max(self) -> int:
        """M: the largest squared norm of a vector that k admits; |score| <= M by Cauchy-Schwarz."""
        return ((1 << (self.ring_bits - 1)) - 2) // 2 - self.scale**2

    @property
    def norm_min(self) -> int:
        """M_lo: the smallest squared norm of a vector; below it clipping has taken half of a face away."""
        return self.scale**2 // 2

    @property
    def threshold_max(self) -> int:
        """Largest threshold t; the smallest is 1, so that an empty slot (score 0) never matches."""
        return self.scale**2

    def threshold(self, cosine: float) -> int:
        """Return t = ceil(cosine * S^2), cosine as written in decimal. Raises ParameterError unless 1 <= t <= S^2."""
        t = math.ceil(Fraction(str(float(cosine))) * self.scale**2) if math.isfinite(cosine) else 0
        if not 1 <= t <= self.threshold_max:
            raise ParameterError("threshold out of range", got=cosine, expected="0 < cosine <= 1")
        return t

    def cosine(self, t: int) -> float:
        """Return the cosine that `threshold` turns into exactly t, with as few decimals as that takes, 2 or more.

        Raises ParameterError unless 1 <= t <= S^2.
        """
        if not 1 <= t <= self.threshold_max:
            raise ParameterError("threshold out of range", got=t, expected=f"1..{self.threshold_max}")
        for decimals in range(2, 16):
            scale = 10**decimals
            cosine: float = t * scale // self.threshold_max / scale
            if cosine > 0 and self.threshold(cosine) == t:
                return cosine
        raise AssertionError("a double tells neighbouring thresholds apart")

    @property
    def _honest_norm(self) -> int:
        """S^2 plus rounding noise at 8 standard deviations, for a unit vector before clipping."""
        S, D = self.scale, self.dimension
        return math.ceil(S * S + D / 12 + 8 * (2 * S / math.sqrt(12) + D / 24))

    # -- lanes: one vector, lane_bits a coordinate ---------------------------------------------

    @property
    def offset(self) -> int:
        """Added to a coordinate so that a lane is never negative: c + 1."""
        return self.clip + 1

    @property
    def lanes(self) -> int:
        """Lanes in one ciphertext."""
        return (self.modulus_bits - 1 - HEADROOM_BITS) // self.lane_bits

    @property
    def lane_ciphertexts(self) -> int:
        """Ciphertexts that carry one vector."""
        return -(-self.dimension // self.lanes)

    @property
    def lane_risk(self) -> int:
        """A lane field of the minus holder at or above 2^lane_bits - this could carry: 2(2c + 2)."""
        return 2 * (2 * self.clip + 2)

    # -- slots: one coordinate, or the score, of many identities --------------------------------

    @cached_property
    def wrap_limit(self) -> int:
        """W: how many coordinates of a query may have shares that wrap mod 2^k.

        Their number is Poisson-binomial with mean |q|_1 / 2^k <= sqrt(D*M) / 2^k; more than W has
        probability below 2^-40 (Hoeffding: the binomial with that mean dominates). The minus holder cannot
        count wraps, only coordinates that might: it draws another last mask more often, see `mask_probability`.
        """
        mean = math.sqrt(self.dimension * self.norm_max) / (1 << self.ring_bits)
        p, limit = min(mean / self.dimension, 1.0), int(mean)
        while limit < self.dimension and _binomial_tail(self.dimension, p, limit) > 2.0**WRAP_LOG2:
            limit += 1
        return limit

    @property
    def mask_probability(self) -> float:
        """How likely a last mask of a probe is not to do: 2^-32.3 for the default set, 2^-26.7 for D512.

        The minus holder draws another one if more than W of its D values lie within c of the wrap point, whatever
        q is: 2c of the 2^k residues, each as likely. As much as this a seed can tell of a probe
        (docs/security-argument.md). A W that made it 2^-40 would be larger, and a slot one bit wider.
        """
        return _binomial_tail(self.dimension, 2 * self.clip / (1 << self.ring_bits), self.wrap_limit)

    @cached_property
    def slot_bits(self) -> int:
        """B: width of a slot, the smallest with 2(M + 2^k * c * W) < 2^(B-1), and B > k."""
        largest = 2 * (self.norm_max + (1 << self.ring_bits) * self.clip * self.wrap_limit)
        return max(largest.bit_length() + 1, self.ring_bits + 1)

    @property
    def slots(self) -> int:
        """Identities in one pack."""
        return (self.modulus_bits - 1 - HEADROOM_BITS) // self.slot_bits

    # -- keys ---------------------------------------------------------------------------------

    @property
    def subgroup_bits(self) -> int:
        """|p| + |q|, the size of alpha = pq."""
        return SUBGROUP_BITS[self.modulus_bits]

    @property
    def ciphertext_bytes(self) -> int:
        """Size of an element of Z*_(N^2)."""
        return self.modulus_bits // 4

    def _check_bounds(self) -> None:
        M, k, B = self.norm_max, self.ring_bits, self.slot_bits
        bounds = {
            "2(M + S^2) + 1 < 2^(k-1)": 2 * (M + self.scale**2) + 1 < 1 << (k - 1),
            "2(M + 2^k c W) < 2^(B-1)": 2 * (M + (1 << k) * self.clip * self.wrap_limit) < 1 << (B - 1),
            "B > k": k < B,
            "2(2c + 2) < 2^k <= 2^32": self.lane_risk < 1 << k <= 1 << 32,
            "one slot and one lane fit under N": self.slots >= 1 and self.lanes >= 1,
            "M_lo <= S^2 <= M": self.norm_min <= self.scale**2 <= M,
        }
        broken = [text for text, holds in bounds.items() if not holds]
        if broken:
            raise ParameterError("the parameter set breaks a bound", got=self.name, expected="; ".join(broken))


def _binomial_tail(n: int, p: float, limit: int) -> float:
    """P[Bin(n, p) > limit], summed in logarithms."""
    if p >= 1.0:
        return 1.0
    return sum(
        math.exp(
            math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1)
            + i * math.log(p) + (n - i) * math.log1p(-p)
        )
        for i in range(limit + 1, min(n, limit + 200) + 1)
    )  # fmt: skip


# 128-bit security. These keep the error rates of the float embeddings (docs/evaluation.md).
#: SFace embeddings.
DEFAULT = ParameterSet()
#: 256-d embeddings; there is no embedder to measure it with, so S and c lie between those of the other two.
D256 = ParameterSet(dimension=256, scale=110, clip=25)
#: 512-d embeddings.
D512 = ParameterSet(dimension=512, scale=120, clip=18)
# Coarser and cheaper: as good on good photos, worse by some tenths of a point of FNMR on bad ones.
#: SFace embeddings.
D128_COARSE = ParameterSet(dimension=128, scale=60, clip=23)
#: 512-d embeddings.
D512_COARSE = ParameterSet(dimension=512, scale=40, clip=15)
