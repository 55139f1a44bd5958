"""What a pair does with its new shares before it keeps them: test conversions, with proofs of true openings.

As `_check_conversions` of keys/ceremony.py, between two machines. The third party deals the triples before plaintext
and randomness of the ciphertexts are drawn, so that it cannot make up for an error of its own in o, kappa or a
Gamma. Nothing that depends on an opening of the peer leaves before the peer's proof is right: an altered opening would
get a linear function of the key. The results are compared as hashes, last.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import fields

from veilmatch.crypto.arithmetic import Integer, from_bytes, power, random_below
from veilmatch.crypto.ceremony.coins import coin
from veilmatch.crypto.ceremony.handing_out import holders
from veilmatch.crypto.ceremony.rounds import Received, Round, Steps, nothing_to_say, packed, size_below, unpacked
from veilmatch.crypto.ceremony.seats import Seat
from veilmatch.crypto.encryption.paillier import STATISTICAL_BITS, Paillier
from veilmatch.crypto.errors import IntegrityError, KeySafetyError
from veilmatch.crypto.keys.parties import Pair, Party, dealer_of, other_party
from veilmatch.crypto.keys.shares import DealerGammas, PairShare, SafetyShare
from veilmatch.crypto.pair.conversion import (
    Triple,
    fingerprint_hashes,
    hashes_agree,
    join_openings,
    open_masked,
    output_share,
    split_openings,
)
from veilmatch.crypto.pair.key_safety import (
    Conversion,
    TaggedTriple,
    combination,
    draw_weights,
    expected_proof,
    proof,
    proofs_agree,
    tagged,
)
from veilmatch.crypto.secret_access import SECRET_ACCESS

#: 0, N - 1 and a random plaintext.
CONVERSIONS = 3


def deal_to(seat: Seat, pair: Pair, gammas: DealerGammas, scheme: Paillier) -> Steps[None]:
    """Deal what a pair tests its shares with, and let it do so."""
    N = scheme.modulus
    dealt = [_triples(N, gammas) for _ in range(CONVERSIONS)]
    plus, minus = holders(pair)
    yield Round({plus: _joined([x for x, _ in dealt], N), minus: _joined([x for _, x in dealt], N)})
    yield from coin(seat.named("plaintext"))
    yield from nothing_to_say(2)  # fingerprints, openings
    yield from coin(seat.named("weights"))
    yield from nothing_to_say(2)  # proofs, results


def check_shares(seat: Seat, share: PairShare, safety: SafetyShare, scheme: Paillier) -> Steps[None]:
    """Test this holder's shares of one pair with its peer. Nine rounds.

    Raises IntegrityError if the two do not convert, KeySafetyError if the peer does not prove that it opened true
    values.
    """
    N, public_key, pair = scheme.modulus, scheme.public_key, share.pair
    peer = other_party(pair, share.party)
    dealer = dealer_of(pair)
    size = CONVERSIONS * len(fields(TaggedTriple)) * size_below(N)
    received: Received = yield Round(awaited={dealer: size})
    triples = _separated(unpacked(received.sent[dealer], N))
    plaintexts, ciphertexts = _ciphertexts((yield from coin(seat.named("plaintext"))), scheme)
    local = scheme.local_shares(ciphertexts, share.exponent(public_key, SECRET_ACCESS))
    bound_to = seat.digest("fingerprints")
    mine, theirs = (fingerprint_hashes(local, bound_to, role, N) for role in _roles(share))
    if not hashes_agree((yield from _swapped(peer, mine)), theirs):
        raise IntegrityError("two key shares of a key ceremony have different exponents", got=pair)
    kappa = share.kappa(SECRET_ACCESS)
    openings = [open_masked(x.z, kappa, triple, N) for x, triple in zip(local, triples, strict=True)]
    opened = split_openings((yield from _swapped(peer, join_openings(openings, N))), CONVERSIONS, N)
    conversions = [
        Conversion(c, x.z, triple, other)
        for c, x, triple, other in zip(ciphertexts, local, triples, opened, strict=True)
    ]
    weights = draw_weights((yield from coin(seat.named("weights"))), b"", b"", CONVERSIONS)
    c_star = [scheme.combine(*combination(conversions, weights))]
    verifying, proving = (scheme.local_shares(c_star, t)[0].z for t in safety.exponents(public_key, SECRET_ACCESS))
    shown = yield from _swapped(peer, proof(conversions, weights, proving, safety, N))
    if not proofs_agree(shown, expected_proof(conversions, weights, verifying, safety, N)):
        raise KeySafetyError(
            "a key share of a key ceremony fails the key-safety check", got=pair, party=f"keyholder-{peer}"
        )
    results = [
        output_share(triple, own, other, N, is_plus=share.is_plus)
        for triple, own, other in zip(triples, openings, opened, strict=True)
    ]
    # The plus holder's results less the plaintexts are those of the minus holder.
    expected = [(w - m if share.is_plus else w) % N for w, m in zip(results, plaintexts, strict=True)]
    own, other = (seat.digest("converted", role, packed(expected, N)) for role in _roles(share))
    if not hmac.compare_digest((yield from _swapped(peer, own)), other):
        raise IntegrityError("two key shares of a key ceremony do not convert", got=pair)


def _swapped(peer: Party, message: bytes) -> Steps[bytes]:
    """One message of one length in each direction. One round."""
    received = yield Round({peer: message}, {peer: len(message)})
    return received.sent[peer]


def _roles(share: PairShare) -> tuple[str, str]:
    """This holder's and its peer's."""
    return ("plus", "minus") if share.is_plus else ("minus", "plus")


def _ciphertexts(seed: bytes, scheme: Paillier) -> tuple[list[Integer], list[Integer]]:
    """Plaintexts 0, N - 1 and one that the coin determines, and ciphertexts with randomness of the coin."""
    N, bits = scheme.modulus, scheme.public_key.randomiser_bits
    wide, long = size_below(N) + STATISTICAL_BITS // 8, (bits + 7) // 8
    data = hashlib.shake_256(seed).digest(wide + CONVERSIONS * long)
    plaintexts = [Integer(0), N - 1, from_bytes(data[:wide]) % N]
    randomisers = [from_bytes(data[i : i + long]) >> (8 * long - bits) for i in range(wide, len(data), long)]
    zeros = [power(scheme.public_key.hs, r, N * N) for r in randomisers]
    return plaintexts, [scheme.multiply(scheme.encode(m), zero) for m, zero in zip(plaintexts, zeros, strict=True)]


def _triples(N: Integer, gammas: DealerGammas) -> tuple[TaggedTriple, TaggedTriple]:
    """A random triple of the plus and of the minus holder."""
    a, b = random_below(N), random_below(N)
    minus = Triple(*(random_below(N) for _ in range(3)))
    plus = Triple((a + minus.a) % N, (b + minus.b) % N, (a * b + minus.ab) % N)
    return tagged(plus, minus, gammas, N)


def _joined(triples: Sequence[TaggedTriple], N: Integer) -> bytes:
    return packed([getattr(x, field.name) for x in triples for field in fields(TaggedTriple)], N)


def _separated(numbers: Sequence[Integer]) -> list[TaggedTriple]:
    size = len(fields(TaggedTriple))
    return [TaggedTriple(*numbers[i : i + size]) for i in range(0, len(numbers), size)]
