"""Two servers with a threshold Paillier key, as published for encrypted face search: a baseline to measure.

    label = Search(scheme, split(ceremony), Packing.of(scheme)).nearest(templates, labels, probe, limit)

The family: POCF and SOCI (secure outsourced computation on integers with a twin-server architecture), and with
faces Pura (Xu et al., arXiv 2505.15476). Written from published summaries of them, with nothing copied, on the
same arithmetic as Veilmatch: fixed-base encryption with short randomisers, the kernel's lanes where it runs. The
first server holds the encrypted gallery; both hold a share of the decryption exponent. A ciphertext `c` is an element
of Z*_(N^2).

Where descriptions differ or leave room, this does what is cheaper, so that it is no straw man:
- squared distances need squares only, so two coordinates are one ciphertext with one masked value for each, and
  the second server adds all squares of a template before it encrypts;
- a comparison takes one threshold decryption: the minimum is then chosen by a power 0 or 1 of a ciphertext that the
  second server cannot read.
One thing is not as published: the key split. sk1 short with sk1 + sk2 = 1 mod N lets the holder of sk2 decrypt alone
(tests/attacks/test_short_share_split.py). Here d = 0 mod o, 1 mod N is split additively over the integers, and both
exponents are as long as that takes.

What it leaks, if both follow the protocol: the second server sees of every comparison the difference times a random
number of 128 bits, hence about how large the difference is, for pairs in random order; both see who takes part in which
comparison, not who wins. The device gets the label of the nearest template, or 0.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from veilmatch.crypto.arithmetic import Integer, random_bits
from veilmatch.crypto.encryption.paillier import STATISTICAL_BITS, Paillier
from veilmatch.crypto.errors import IntegrityError
from veilmatch.crypto.keys.ceremony import Ceremony
from veilmatch.crypto.packing.fields import join
from veilmatch.crypto.secret_access import SECRET_ACCESS, SecretHolder

#: Label of "nobody".
NOBODY = 0


@dataclass(frozen=True, repr=False)
class TwinShares(SecretHolder):
    """Exponents of the two servers: first - second = d over the integers, d = 0 mod o and d = 1 mod N."""

    first: Integer
    second: Integer


def split(ceremony: Ceremony) -> TwinShares:
    """Return shares of d for the key of a ceremony, |N| + |o| + 128 bits long and one constant bit above."""
    key = ceremony.public_key
    plus, minus = (ceremony.keys[i].share("ab") for i in (0, 1))
    o = plus.exponent(key, SECRET_ACCESS) - minus.exponent(key, SECRET_ACCESS)
    kappa = (plus.kappa(SECRET_ACCESS) - minus.kappa(SECRET_ACCESS)) % key.modulus
    bits = key.parameters.modulus_bits + key.randomiser_bits
    second = random_bits(bits)
    top = Integer(1) << (bits + 1)  # the same at both: it cancels, and both exponents have one length
    return TwinShares(top + second + o * kappa, top + second)


@dataclass(frozen=True)
class Packing:
    """How masked values lie in one plaintext.

    values: how many in a ciphertext (published: 2). width: bits of each. shift: makes a difference non-negative.
    """

    values: int
    width: int
    shift: int

    @staticmethod
    def of(scheme: Paillier, values: int | None = 2) -> Packing:
        """Return the packing for differences of two vectors in [-c, c]; values None: as many as fit under N."""
        shift = 2 * scheme.parameters.clip
        width = STATISTICAL_BITS + (2 * shift).bit_length() + 1
        return Packing(values or (scheme.parameters.modulus_bits - 2) // width, width, shift)


class SecondServer:
    """Holds one exponent and no data; answers what the first server asks."""

    def __init__(self, scheme: Paillier, exponent: Integer, packing: Packing) -> None:
        self._scheme, self._exponent, self._packing = scheme, exponent, packing

    def sums_of_squares(self, masked: Sequence[Sequence[Integer]], partial: Sequence[Integer]) -> list[Integer]:
        """Return, for each template, an encryption of the sum of the squares of its masked values.

        masked: packed ciphertexts of each template; partial: the first server's powers of all of them, in order.
        """
        opened = iter(self._decrypt([c for cs in masked for c in cs], partial))
        mask, sums = (Integer(1) << self._packing.width) - 1, []
        for cs in masked:
            total = Integer(0)
            for _ in cs:
                m = next(opened)
                while m:
                    total += (m & mask) ** 2
                    m >>= self._packing.width
            sums.append(total)
        return self._scheme.encrypt_many(sums)

    def select(
        self, blinded: Sequence[Integer], partial: Sequence[Integer], offers: Sequence[Sequence[Integer]]
    ) -> list[list[Integer]]:
        """Return each offer re-randomised if the blinded value beside it is positive, encryptions of 0 if not.

        What is positive is one fair coin away from what the first server wants to know: neither learns it.
        """
        half, square = self._scheme.modulus // 2, self._scheme.modulus**2
        chosen = [0 < m <= half for m in self._decrypt(blinded, partial)]
        zeros = iter(self._scheme.encrypt_zeros(sum(map(len, offers))))
        return [[next(zeros) * (c if yes else 1) % square for c in cs] for yes, cs in zip(chosen, offers, strict=True)]

    def open_masked(self, masked: Integer, partial: Integer) -> Integer:
        """Return the plaintext of a masked answer, for the device alone."""
        return self._decrypt([masked], [partial])[0]

    def _decrypt(self, cs: Sequence[Integer], partial: Sequence[Integer]) -> list[Integer]:
        """c^first / c^second = c^d = 1 + mN."""
        N, own = self._scheme.modulus, self._scheme.ring.powers_secret(cs, self._exponent)
        powers = self._scheme.divide_many(partial, own)
        if any(x % N != 1 for x in powers):
            raise IntegrityError("the two shares do not decrypt this ciphertext")
        return [(x - 1) // N for x in powers]


@dataclass(frozen=True)
class Entrant:
    """Who takes part in the tournament: encryptions of twice its squared distance, and of its label."""

    distance: Integer
    label: Integer


class FirstServer:
    """Holds the encrypted gallery and one exponent; leads every step and learns nothing from the answers."""

    def __init__(self, scheme: Paillier, exponent: Integer, packing: Packing, second: SecondServer) -> None:
        self._scheme, self._exponent, self._packing, self._second = scheme, exponent, packing, second

    def distances(self, templates: Sequence[Sequence[Integer]], probe: Sequence[Integer]) -> list[Integer]:
        """Return encrypted squared distances. templates, probe: D ciphertexts each, one a coordinate."""
        scheme, packing = self._scheme, self._packing
        negative = scheme.divide_many([Integer(1)] * len(probe), probe)
        differences = [
            [scheme.multiply(x, y) for x, y in zip(template, negative, strict=True)] for template in templates
        ]
        # A value arrives at the second server as difference + mask, never negative.
        masks = [[packing.shift + random_bits(packing.width - 2) for _ in probe] for _ in templates]
        masked = self._packed(differences, masks)
        partial = self._powers([c for cs in masked for c in cs])
        sums = self._second.sums_of_squares(masked, partial)
        return [self._unmasked(*each) for each in zip(sums, differences, masks, strict=True)]

    def nearest(self, entrants: Sequence[Entrant]) -> Entrant:
        """Return the entrant of the least distance, re-randomised; of equal ones, either."""
        standing = list(entrants)
        while len(standing) > 1:
            odd = standing[len(standing) & ~1 :]
            standing = self._winners(standing[0::2], standing[1::2]) + odd
        return standing[0]

    def answer(self, winner: Entrant) -> tuple[Integer, Integer]:
        """Return what each server tells the device: label + mask by the second, and the mask."""
        mask = random_bits(self._scheme.modulus.bit_length() - 2)
        c = self._scheme.multiply(winner.label, self._scheme.encrypt(mask))
        return self._second.open_masked(c, self._powers([c])[0]), mask

    def _packed(
        self, differences: Sequence[Sequence[Integer]], masks: Sequence[Sequence[Integer]]
    ) -> list[list[Integer]]:
        """Masked differences, packed: sum (d_j + r_j) * 2^(width*j), all packs of all templates abreast."""
        size, step = self._packing.values, Integer(1) << self._packing.width
        starts = range(0, len(differences[0]), size)
        packs = [ds[i : i + size] for ds in differences for i in starts]
        sums = self._scheme.encrypt_many([join(rs[i : i + size], self._packing.width) for rs in masks for i in starts])
        folded = [Integer(1)] * len(packs)
        for j in reversed(range(size)):
            if j < size - 1:
                folded = self._scheme.ring.powers_secret(folded, step)
            folded = [
                self._scheme.multiply(c, pack[j]) if j < len(pack) else c for c, pack in zip(folded, packs, strict=True)
            ]
        masked = [self._scheme.multiply(c, r) for c, r in zip(folded, sums, strict=True)]
        return [masked[i : i + len(starts)] for i in range(0, len(masked), len(starts))]

    def _unmasked(self, total: Integer, differences: Sequence[Integer], masks: Sequence[Integer]) -> Integer:
        """sum d^2 = sum (d + r)^2 - 2 sum d*r - sum r^2."""
        scheme, double = self._scheme, [2 * r for r in masks]
        cross = scheme.product_of_powers(differences, double, self._packing.width + 1)
        return scheme.divide(scheme.multiply(total, scheme.encode(-sum(r * r for r in masks))), cross)

    def _winners(self, left: Sequence[Entrant], right: Sequence[Entrant]) -> list[Entrant]:
        """The nearer of every left[i] and right[i]; one comparison by blinding, all abreast."""
        scheme = self._scheme
        pairs = [(x, y) if secrets.randbits(1) else (y, x) for x, y in zip(left, right, strict=False)]
        differences = [[scheme.divide(y.distance, x.distance), scheme.divide(y.label, x.label)] for x, y in pairs]
        # x is replaced by y if x - y > 0, from -(y - x): odd numbers, so that a blinded one is never 0.
        odd = [scheme.divide(scheme.encode(Integer(1)), scheme.multiply(d, d)) for d, _ in differences]
        blinds = [random_bits(STATISTICAL_BITS) + (Integer(1) << STATISTICAL_BITS) for _ in pairs]
        added = scheme.encrypt_many([random_bits(STATISTICAL_BITS) for _ in pairs])
        square = scheme.modulus**2
        blinded = [pow(c, r, square) * a % square for c, r, a in zip(odd, blinds, added, strict=True)]
        zeros = iter(scheme.encrypt_zeros(2 * len(pairs)))
        offers = [[scheme.multiply(c, next(zeros)) for c in ds] for ds in differences]
        moves = self._second.select(blinded, self._powers(blinded), offers)
        return [
            Entrant(scheme.multiply(x.distance, d), scheme.multiply(x.label, name))
            for (x, _), (d, name) in zip(pairs, moves, strict=True)
        ]

    def _powers(self, cs: Sequence[Integer]) -> list[Integer]:
        return self._scheme.ring.powers_secret(cs, self._exponent)


class Search:
    """Both servers in one process, which is what a measurement of all work together needs."""

    def __init__(self, scheme: Paillier, shares: TwinShares, packing: Packing) -> None:
        self._scheme = scheme
        self._first = FirstServer(scheme, shares.first, packing, SecondServer(scheme, shares.second, packing))

    def nearest(
        self, templates: Sequence[Sequence[Integer]], labels: Sequence[Integer], probe: Sequence[Integer], limit: int
    ) -> int:
        """Return the label of the template nearest to the probe, if its squared distance is at most `limit`, or NOBODY.

        templates: D ciphertexts each; labels: their encrypted labels, positive numbers; probe: D ciphertexts.
        """
        distances = self._first.distances(templates, probe)
        entrants = [Entrant(self._scheme.multiply(d, d), label) for d, label in zip(distances, labels, strict=True)]
        # "Nobody" stands half a unit beyond the limit, in the same tournament, so that it ties with no one.
        nobody = Entrant(self._scheme.encode(Integer(2 * limit + 1)), self._scheme.encode(Integer(NOBODY)))
        masked, mask = self._first.answer(self._first.nearest([*entrants, nobody]))
        return int((masked - mask) % self._scheme.modulus)
