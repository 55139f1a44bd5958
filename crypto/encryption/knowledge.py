"""Proof that whoever signs a request knows what its lane ciphertexts hold.

Without it a stored record or a captured probe, re-randomised and signed by any enrolled device, passes as that
person. The device proves, the key holders check; a proof holds for one request (`context_digest`) and no other.

Everything is done mod N, with numbers half as long as ciphertexts. Of c = (1 + mN) * hs^r mod N^2 there remains
C = c mod N = H^r, H = hs mod N, and Schnorr's proof (CRYPTO 1989) for the powers of H, whose order nobody
knows (Girault, Poupard, Stern, J. Cryptology 2006), made non-interactive by a hash (Fiat, Shamir, CRYPTO 1986):

    device    u uniform, T = H^u; seed = hash(context, T, all c_i); e_i = hash(seed, i), 128 bits
              w = u + sum e_i*r_i, over the integers; sends seed and w
    server    T = H^w * prod C_i^(-e_i); is hash(context, T, all c_i) the seed?

*Sound.* Two accepted answers to one T and to challenges that differ in e_i alone give C^d = H^v mod N, with d and v
the differences of e_i and w, and 0 < |d| < 2^128. Write c = (1 + N)^m * rho^N mod N^2, which is unique, and
hs = h^N, as a ceremony makes it. Raising to the N-th power permutes Z*_N, because gcd(N, phi(N)) = 1, so
rho^d = h^v mod N, hence rho^(dN) = hs^v mod N^2, and c^d * hs^(-v) = (1 + N)^(dm) = 1 + tN with t = dm mod N. No prime
factor of N is as small as d, so m = t/d mod N. This needs no assumption about N. It does not say that c is
well-formed (rho a power of h): the key holders' comparison of g mod N does.

*Hides.* u has 128 bits more than the sum that it is added to, so w is within 2^-128 of what does not depend on any r.
One u serves one proof: two answers to one T would give the plaintexts away, as above.

The proof lies outside the pair's session, which starts with ciphertexts that both holders have admitted; the stand-in
scheme has no randomisers that could be known or not.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Self

from veilmatch.crypto.arithmetic import Integer, from_bytes, to_bytes
from veilmatch.crypto.digests import DIGEST_BYTES, digest
from veilmatch.crypto.encryption.paillier import CHALLENGE_BITS, Paillier, PublicKey
from veilmatch.crypto.errors import KnowledgeProofError
from veilmatch.crypto.liveness import Verdict
from veilmatch.crypto.requests import MAX_VIEWS
from veilmatch.crypto.rings.choice import make_ring
from veilmatch.crypto.rings.fixed_base import ROUNDING_BITS, KnownPower
from veilmatch.crypto.rings.ring import PublicBase
from veilmatch.crypto.secret_access import SecretHolder


def context_digest(
    *,
    parameter_set: str,
    key_id: bytes,
    device: str,
    device_key: bytes,
    gallery: str,
    operation: int,
    threshold: int,
    pair: str,
    nonce: bytes,
    token: bytes,
    issued_at_ms: int,
    expires_at_ms: int,
    payload_digest: bytes,
    subject_digest: bytes,
    model: str,
    recipient: bytes,
    challenge: bytes,
    dated: bool = False,
    consent_digest: bytes = b"",
    card_digest: bytes = b"",
    card_expires_s: int = 0,
    views: int = 0,
    unless_known: bool = False,
    liveness: Verdict | None = None,
) -> bytes:
    """Return the 32 bytes that stand for everything a proof is bound to.

    That is what the signed body of a request with vectors says besides the proof, and device_key, the 32 bytes of the
    Ed25519 public key that it is signed with. operation: its number in the body. recipient, challenge: to whom the
    answer is sealed and what it asked for, b"" where the device gets the answer. dated, consent_digest: of
    an enrolment; card_digest, card_expires_s: of the card that is presented or issued; views: of a probe with several;
    unless_known: of an enrolment; liveness: what the device says of it. Where it has none of them, the digest is what
    it was before there were any. Raises OverflowError for integers outside [0, 2^64).
    """
    later = (views, int(unless_known)) if views or unless_known else ()
    more = (int(dated), consent_digest, *later) if dated or consent_digest or later else ()
    card = (card_digest, card_expires_s) if card_digest or card_expires_s else ()
    live = ("liveness", liveness.detector, liveness.checked_at_ms) if liveness is not None else ()
    return digest(
        "knowledge context", parameter_set, key_id, device, device_key, gallery, operation, threshold, pair, nonce,
        token, issued_at_ms, expires_at_ms, payload_digest, subject_digest, model,
        recipient, challenge, *more, *card, *live,
    )  # fmt: skip


def proof_bytes(public_key: PublicKey) -> int:
    """Return the size of a proof: 147 bytes for the default set."""
    return DIGEST_BYTES + _response_bytes(public_key)


@dataclass(frozen=True, slots=True, repr=False)
class KnownCiphertexts(SecretHolder):
    """The lane ciphertexts of one vector, or of all views of a probe, and their randomisers.

    A handle: it proves, and shows nothing of itself. ciphertexts: serialised. Whoever has the randomisers can
    read them.
    """

    ciphertexts: tuple[bytes, ...]
    _randomisers: tuple[Integer, ...]
    _scheme: Paillier
    #: What the commitment of one proof begins with, made with the ciphertexts: it fills a lane that they leave empty.
    _beginning: list[KnownPower] = field(default_factory=list, compare=False)

    @classmethod
    def encrypt(cls, scheme: Paillier, plaintexts: Sequence[Integer]) -> Self:
        """Return fresh encryptions of plaintexts mod N."""
        *zeros, beginning = scheme.known_zeros(len(plaintexts) + 1)
        made = [scheme.multiply(scheme.encode(m), zero.value) for m, zero in zip(plaintexts, zeros, strict=True)]
        randomisers = tuple(zero.exponent for zero in zeros)
        return cls(tuple(map(scheme.serialise, made)), randomisers, scheme, [beginning])

    @classmethod
    def together(cls, views: Sequence[Self]) -> Self:
        """Return the ciphertexts of all views of one probe, at least one, of one key: one proof is of all of them.

        u hides the sum of up to MAX_VIEWS times as many terms, so that a proof is within 2^-126 of uniform.
        """
        first = views[0]
        ciphertexts = tuple(c for one in views for c in one.ciphertexts)
        randomisers = tuple(r for one in views for r in one._randomisers)
        return cls(ciphertexts, randomisers, first._scheme, first._beginning)

    def prove(self, context: bytes) -> bytes:
        """Return a proof for a request with this `context_digest`, fresh each time. Threads may share it."""
        public_key, committed = self._scheme.public_key, self._commitment()
        seed = _seed(public_key, context, committed.value % public_key.modulus, self.ciphertexts)
        terms = zip(challenges(seed, len(self._randomisers)), self._randomisers, strict=True)
        response = committed.exponent + sum(e * r for e, r in terms)
        return seed + to_bytes(response, _response_bytes(public_key))

    def _commitment(self) -> KnownPower:
        """Return a commitment that no other proof has."""
        try:
            # Taken out in one step, so that two threads never have the same: one u serves one proof.
            beginning = self._beginning.pop()
        except IndexError:
            beginning = None
        return self._scheme.commit(beginning)


def check(public_key: PublicKey, context: bytes, ciphertexts: Sequence[bytes], proof: bytes) -> None:
    """Raise KnowledgeProofError unless `proof` is one for these ciphertexts in this context; all may be any bytes.

    Takes 1.0 ms at 3072 bits for 2 ciphertexts where the kernel has lanes, else 1.7. Everything here is public.
    """
    parameters, N = public_key.parameters, public_key.modulus
    lanes = parameters.lane_ciphertexts
    seed, response = proof[:DIGEST_BYTES], from_bytes(proof[DIGEST_BYTES:])
    if (
        len(proof) != proof_bytes(public_key)
        or response.bit_length() > _response_bits(public_key)
        or len(ciphertexts) not in range(lanes, MAX_VIEWS * lanes + 1, lanes)
        or any(len(c) != parameters.ciphertext_bytes for c in ciphertexts)
    ):
        raise KnowledgeProofError()
    elements = [from_bytes(c) % N for c in ciphertexts]
    try:
        commitment = _powers_of_H(public_key).power_over(response, elements, challenges(seed, len(elements)))
    except ZeroDivisionError:  # a ciphertext that is no unit
        raise KnowledgeProofError() from None
    if not hmac.compare_digest(_seed(public_key, context, commitment, ciphertexts), seed):
        raise KnowledgeProofError()


@lru_cache(maxsize=2)
def _powers_of_H(public_key: PublicKey) -> PublicBase:
    """Return H = hs mod N for exponents as long as w is. Two, for a rotation knows two keys."""
    return make_ring(public_key.modulus).public_base(public_key.hs, _response_bits(public_key))


def challenges(seed: bytes, count: int) -> list[Integer]:
    """Return e_i of 128 bits for i in 0..count."""
    return [from_bytes(digest("knowledge challenge", seed, i)[: CHALLENGE_BITS // 8]) for i in range(count)]


def _seed(public_key: PublicKey, context: bytes, commitment: Integer, ciphertexts: Sequence[bytes]) -> bytes:
    size = public_key.parameters.ciphertext_bytes // 2
    return digest("knowledge seed", context, to_bytes(commitment, size), *ciphertexts)


def _response_bits(public_key: PublicKey) -> int:
    """Size of w: u is below 2^(commitment_bits + 8), and what is added to it is smaller."""
    return public_key.commitment_bits + ROUNDING_BITS + 1


def _response_bytes(public_key: PublicKey) -> int:
    return (_response_bits(public_key) + 7) // 8
