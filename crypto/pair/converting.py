"""Hello, conversions and the key-safety check: how a session of a pair comes to exact masked shares.

Rules: no opening leaves before both holders have compared digests and fingerprints of what is converted; a triple is
reserved before it is used; every w is masked twice (mask.py) before anything is cut out of it: with the mask of the
session, and with a last one that the minus holder draws after the last opening, so that nothing of its own can carry or
wrap. Nothing is done over: what a holder does next depends on no share. DESIGN.md sections 2, 3 and 9.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.digests import NONCE_BYTES, digest, digest_all
from veilmatch.crypto.encryption.scheme import LocalShare
from veilmatch.crypto.errors import CiphertextError, KeySafetyError, ProtocolError
from veilmatch.crypto.keys.shares import PairShare, SafetyShare, other_party
from veilmatch.crypto.packing import lanes
from veilmatch.crypto.pair.conversion import (
    fingerprint_hashes,
    hashes_agree,
    join_openings,
    open_masked,
    output_share,
    split_openings,
)
from veilmatch.crypto.pair.exchange import Exchange, Steps
from veilmatch.crypto.pair.key_safety import (
    Conversion,
    TaggedTriple,
    combination,
    draw_weights,
    expected_proof,
    proof,
    proofs_agree,
    session_nonce,
)
from veilmatch.crypto.pair.mask import SessionMask, last_masked
from veilmatch.crypto.pair.messages import (
    Agreement,
    Coins,
    Hello,
    LocalWork,
    Openings,
    Results,
    SafetyProof,
    SafetyWork,
)
from veilmatch.crypto.pair.request import Request, compare_context
from veilmatch.crypto.secret_access import SECRET_ACCESS, SecretHolder


class Converter(SecretHolder):
    """One holder's conversions in a session."""

    def __init__(
        self,
        exchange: Exchange,
        request: Request,
        share: PairShare,
        safety: SafetyShare,
        coins: bytes,
        mask_secret: bytes,
    ) -> None:
        """coins, mask_secret: 32 random bytes each, fresh."""
        self._exchange = exchange
        self._request = request
        self._share = share
        self._safety = safety
        self._scheme = exchange.scheme
        self._coins = coins
        self._mask_secret = mask_secret
        self._peer_nonce = b""
        #: All of this session, in order.
        self._made: list[Conversion] = []

    def hello(self) -> Steps[None]:
        """Compare what the session is about; make its id from all nonces, and the mask from both secrets."""
        exchange = self._exchange
        context, nonce = self._request.context(), session_nonce(self._coins)
        yield from exchange.send(Hello(context, nonce, self._mask_secret, *exchange.floors.values()))
        theirs = yield from exchange.receive(Hello)
        compare_context(context, theirs.context)
        if len(theirs.nonce) != NONCE_BYTES or theirs.nonce == nonce:
            raise ProtocolError("a session nonce of the wrong size, or my own", expected=f"{NONCE_BYTES} fresh bytes")
        self._peer_nonce = theirs.nonce
        floors = (theirs.triples_floor, theirs.bits_floor, theirs.products_floor)
        for kind, floor in zip(exchange.floors, floors, strict=True):
            exchange.floors[kind] = max(exchange.floors[kind], floor)
        both = (nonce, theirs.nonce), (self._mask_secret, theirs.mask_secret)
        nonces, secrets = both if exchange.is_plus else (both[0][::-1], both[1][::-1])
        exchange.session_id = digest("session id", context, *nonces)
        exchange.mask = SessionMask(exchange.session_id, *secrets)

    def lanes(self, ciphertexts: list[Integer], listed: bytes, *, wraps_bounded: bool) -> Steps[lanes.Vectors]:
        """Return this holder's part of the vectors, exact for every valid one.

        listed: digest of the ciphertexts and of what both holders have to know about them. wraps_bounded: shares mod
        2^k are wanted, with at most W coordinates that may wrap.
        """
        parameters, is_plus = self._scheme.parameters, self._exchange.is_plus

        def is_safe(shares: list[Integer]) -> bool:
            fields = lanes.unpack(shares, parameters)
            if lanes.wraps_modulus(shares, self._scheme.modulus) or lanes.at_risk(fields, parameters):
                return False
            ring = lanes.ring_share(fields, parameters, is_plus=False)
            return not wraps_bounded or lanes.wraps_at_risk(ring, parameters) <= parameters.wrap_limit

        shares = yield from self._exact(ciphertexts, listed, is_safe)
        fields = lanes.unpack(shares, parameters)
        ring = lanes.ring_share(fields, parameters, is_plus=is_plus)
        return lanes.Vectors(fields, lanes.above(shares, parameters), ring)

    def results(self, results: Results) -> Steps[list[Integer]]:
        """Return this holder's w of every V. Raises ProtocolError if what is wanted does not fit them."""
        slots = self._scheme.parameters.slots
        if results.wanted.shape != (len(results.ciphertexts), slots) or not results.wanted.any():
            raise ProtocolError(
                "the mask of wanted slots does not fit the results",
                got=results.wanted.shape,
                expected=f"({len(results.ciphertexts)}, {slots}), not empty",
            )
        ciphertexts = list(results.ciphertexts)
        listed = digest_all("results", map(self._scheme.serialise, ciphertexts))
        wanted = np.packbits(results.wanted).tobytes()
        both = digest("wanted results", self._exchange.session_id, listed, wanted)
        return (
            yield from self._exact(
                ciphertexts, both, lambda shares: not lanes.wraps_modulus(shares, self._scheme.modulus)
            )
        )

    def check_key_safety(self) -> Steps[None]:
        """Prove true openings to the peer and check its proof: key_safety.py. Raises KeySafetyError.

        Called when both holders have received the last opening. Coins are shown only now: whoever opened something
        was bound to it, and to its own coins, before it saw those of its peer.
        """
        exchange, made, N = self._exchange, self._made, self._scheme.modulus
        yield from exchange.send(Coins(self._coins))
        theirs = yield from exchange.receive(Coins)
        if len(theirs.coins) != NONCE_BYTES or session_nonce(theirs.coins) != self._peer_nonce:
            raise ProtocolError("coins that are not those of the nonce", expected=f"the {NONCE_BYTES} bytes behind it")
        coins = (self._coins, theirs.coins) if exchange.is_plus else (theirs.coins, self._coins)
        weights = draw_weights(exchange.session_id, *coins, len(made))
        verifying, proving = yield SafetyWork(*combination(made, weights))
        yield from exchange.send(SafetyProof(proof(made, weights, proving.z, self._safety, N)))
        received = yield from exchange.receive(SafetyProof)
        expected = expected_proof(made, weights, verifying.z, self._safety, N)
        if len(received.proof) != len(expected):
            raise ProtocolError("a proof of the wrong size", got=len(received.proof), expected=len(expected))
        if not proofs_agree(received.proof, expected):
            peer = other_party(self._share.pair, self._share.party)
            raise KeySafetyError(f"key holder {peer} did not prove that it opened true values", got="another proof")

    # -- parts of steps ----------------------------------------------------------------------

    def _exact(
        self, ciphertexts: list[Integer], listed: bytes, is_safe: Callable[[list[Integer]], bool]
    ) -> Steps[list[Integer]]:
        """Return the w of every ciphertext under both masks. is_safe: asked of those of the minus holder."""
        N = self._scheme.modulus
        local = yield from self._agree(ciphertexts, listed)
        shares = yield from self._beaver(ciphertexts, local)
        seed = yield from self._exchange.last_mask(lambda seed: is_safe(last_masked(shares, seed, N)))
        return last_masked(shares, seed, N)

    def _agree(self, ciphertexts: list[Integer], listed: bytes) -> Steps[list[LocalShare]]:
        """Convert locally, then compare digest and fingerprints with the peer's, before anything is opened."""
        local: list[LocalShare] = yield LocalWork(ciphertexts)
        if len(local) != len(ciphertexts):
            raise ProtocolError("number of local shares", got=len(local), expected=len(ciphertexts))
        exchange, N = self._exchange, self._scheme.modulus
        mine, other = ("plus", "minus") if exchange.is_plus else ("minus", "plus")
        yield from exchange.send(Agreement(listed, fingerprint_hashes(local, exchange.session_id, mine, N)))
        theirs = yield from exchange.receive(Agreement)
        if not hashes_agree(theirs.ciphertexts, listed):
            raise ProtocolError("the two key holders were given different ciphertexts")
        if not hashes_agree(theirs.fingerprints, fingerprint_hashes(local, exchange.session_id, other, N)):
            raise CiphertextError("a ciphertext is not well-formed under this key and epoch")
        return local

    def _beaver(self, ciphertexts: list[Integer], local: list[LocalShare]) -> Steps[list[Integer]]:
        """Multiply every z by kappa with a fresh triple, and mask: this holder's w of every ciphertext."""
        exchange, N, count = self._exchange, self._scheme.modulus, len(local)
        triples = _triples((yield from exchange.dealt("triples", count, list)), count)
        kappa = self._share.kappa(SECRET_ACCESS)
        mine = [open_masked(share.z, kappa, triple, N) for share, triple in zip(local, triples, strict=True)]
        yield from exchange.send(Openings(join_openings(mine, N)))
        received = yield from exchange.receive(Openings)
        theirs = split_openings(received.values, count, N)
        self._made += [
            Conversion(c, share.z, triple, opening)
            for c, share, triple, opening in zip(ciphertexts, local, triples, theirs, strict=True)
        ]
        unmasked = (
            output_share(triple, x, y, N, is_plus=exchange.is_plus)
            for triple, x, y in zip(triples, mine, theirs, strict=True)
        )
        return [(w + mask) % N for w, mask in zip(unmasked, exchange.mask.residues(count, N), strict=True)]


def _triples(material: Sequence[object], count: int) -> list[TaggedTriple]:
    triples = [item for item in material if isinstance(item, TaggedTriple)]
    if not len(triples) == len(material) == count:
        raise ProtocolError("reserved stock of the wrong kind", expected=f"{count} tagged triples mod N")
    return triples
