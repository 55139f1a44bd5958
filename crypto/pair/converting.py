"""Hello, conversions and the key-safety check: how a session of a pair comes to exact masked shares.

Rules: each holder sends an opening only once it has received the other's digest and fingerprints of what is converted,
and has found them right; a triple is reserved before it is used; every w is masked twice (mask.py) before anything is
cut out of it: with the mask of the session, and with a last one that the minus holder draws after the last opening, so
that nothing of its own can carry or wrap. Nothing is done over: what a holder does next depends on no share.

Who hears the other's digest and fingerprints first answers with its own and with its openings, and so lets the other
one open: the plus holder answers the first hello, the minus holder the agreement about results. docs/protocol.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.dealing import Kind
from veilmatch.crypto.digests import NONCE_BYTES, digest, digest_all
from veilmatch.crypto.encryption.scheme import LocalShare
from veilmatch.crypto.errors import CiphertextError, KeySafetyError, ProtocolError, VeilmatchError
from veilmatch.crypto.keys.parties import Party, other_party
from veilmatch.crypto.keys.shares import PairShare, SafetyShare
from veilmatch.crypto.packing import lanes
from veilmatch.crypto.pair.conversion import (
    fingerprint_hashes,
    hashes_agree,
    join_openings,
    open_masked,
    output_share,
    split_openings,
)
from veilmatch.crypto.pair.exchange import Exchange, Running, Steps
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
        self._context = request.context()
        self._share = share
        self._safety = safety
        self._scheme = exchange.scheme
        self._coins = coins
        self._mask_secret = mask_secret
        self._peer_nonce = self._their_coins = b""
        #: All of this session, in order.
        self._made: list[Conversion] = []

    def lanes(
        self,
        ciphertexts: list[Integer],
        listed: bytes,
        counts: Mapping[Kind, int],
        *,
        wraps_bounded: bool,
        last: bool,
    ) -> Steps[lanes.Vectors]:
        """Begin the session, and return this holder's part of its vectors, exact for every valid one.

        listed: digest of the ciphertexts and of what both holders have to know about them. counts: stock that is used
        until more is allocated, without the triples of this conversion. wraps_bounded: shares mod 2^k are wanted, with
        at most W coordinates that may wrap. last: no conversion follows.
        """
        parameters, is_plus = self._scheme.parameters, self._exchange.is_plus

        def is_safe(shares: list[Integer]) -> bool:
            fields = lanes.unpack(shares, parameters)
            if lanes.wraps_modulus(shares, self._scheme.modulus) or lanes.at_risk(fields, parameters):
                return False
            ring = lanes.ring_share(fields, parameters, is_plus=False)
            return not wraps_bounded or lanes.wraps_at_risk(ring, parameters) <= parameters.wrap_limit

        local = yield from self._local(ciphertexts)
        yield from self._hello(local, listed, {"triples": len(ciphertexts), **counts})
        shares = yield from self._exact(ciphertexts, local, is_safe, None, last=last, plus_first=True)
        fields = lanes.unpack(shares, parameters)
        ring = lanes.ring_share(fields, parameters, is_plus=is_plus)
        return lanes.Vectors(fields, lanes.above(shares, parameters), ring)

    def require_fit(self, results: Results) -> None:
        """Raise ProtocolError if what is wanted does not fit the results."""
        slots = self._scheme.parameters.slots
        if results.wanted.shape != (len(results.ciphertexts), slots) or not results.wanted.any():
            raise ProtocolError(
                "the mask of wanted slots does not fit the results",
                got=results.wanted.shape,
                expected=f"({len(results.ciphertexts)}, {slots}), not empty",
            )

    def results(self, results: Results, counts: Mapping[Kind, int], beside: Running[Any]) -> Steps[list[Integer]]:
        """Return this holder's w of every V: the last conversion. beside: a circuit that has two turns meanwhile.

        results: as `require_fit` wants them. counts: stock that is used from here on, without the triples of this
        conversion.
        """
        exchange = self._exchange
        ciphertexts = list(results.ciphertexts)
        listed = digest_all("results", map(self._scheme.serialise, ciphertexts))
        wanted = np.packbits(results.wanted).tobytes()
        both = digest("wanted results", exchange.session_id, listed, wanted)
        counts = {"triples": len(ciphertexts), **counts}
        # While workers convert: it is read from disk. The minus holder has to be told first where it is.
        starts = (yield from exchange.reserve(counts)) if exchange.is_plus else {}
        local = yield from self._local(ciphertexts)
        mine, _ = self._roles()
        N = self._scheme.modulus
        agreement = Agreement(both, fingerprint_hashes(local, exchange.session_id, mine, N))
        if exchange.is_plus:
            yield from exchange.send(agreement)
            yield from exchange.tell(starts)
            yield from beside.turn()
        else:
            yield from beside.turn()
            yield from exchange.send(agreement)
        theirs = yield from exchange.receive(Agreement)
        self._compare(theirs.ciphertexts, both, theirs.fingerprints, local, exchange.session_id)
        if not exchange.is_plus:
            yield from exchange.reserve(counts, (yield from exchange.told(counts)))
        return (
            yield from self._exact(
                ciphertexts,
                local,
                lambda shares: not lanes.wraps_modulus(shares, N),
                beside,
                last=True,
                plus_first=False,
            )
        )

    def check_key_safety(self, beside: Running[Any] | None = None) -> Steps[None]:
        """Prove true openings to the peer and check its proof: key_safety.py. Raises KeySafetyError.

        Called after the last conversion, with which both show their coins. beside: a circuit that was started
        just before; the minus holder receives the other's layers before its proof.
        """
        exchange, made, N = self._exchange, self._made, self._scheme.modulus
        if not self._their_coins:
            yield from self._receive_coins()
        coins = (self._coins, self._their_coins) if exchange.is_plus else (self._their_coins, self._coins)
        weights = draw_weights(exchange.session_id, *coins, len(made))
        verifying, proving = yield SafetyWork(*combination(made, weights))
        yield from exchange.send(SafetyProof(proof(made, weights, proving.z, self._safety, N)))
        if beside is not None and not exchange.is_plus:
            yield from beside.turn()
        received = yield from exchange.receive(SafetyProof)
        expected = expected_proof(made, weights, verifying.z, self._safety, N)
        if len(received.proof) != len(expected):
            raise ProtocolError("a proof of the wrong size", got=len(received.proof), expected=len(expected))
        if not proofs_agree(received.proof, expected):
            raise KeySafetyError(
                f"key holder {self._peer} did not prove that it opened true values", got="another proof"
            )

    # -- the first messages ------------------------------------------------------------------

    def _hello(self, local: list[LocalShare], listed: bytes, counts: Mapping[Kind, int]) -> Steps[None]:
        """Compare what the session is about and what both have converted; have the same stock reserved.

        The session id comes from all nonces, the mask from both secrets. The minus holder speaks first, and its
        fingerprints are bound to its own nonce; those of the plus holder to the session. Only when that has found
        nothing amiss it reserves stock, above the floors of both.
        """
        exchange, nonce = self._exchange, session_nonce(self._coins)
        if exchange.is_plus:
            theirs, of_session = yield from exchange.receive_hello()
            self._take_in(theirs, nonce)
            try:
                self._compare_hello(theirs, listed, local, theirs.nonce, is_named=not of_session)
            except VeilmatchError:
                # The other one finds it out for itself.
                yield from exchange.send(self._own_hello(listed, local, exchange.session_id, {}))
                raise
            starts = yield from exchange.reserve(counts)
            yield from exchange.send(self._own_hello(listed, local, exchange.session_id, starts))
            return
        yield from exchange.send(self._own_hello(listed, local, nonce, {}))
        theirs, of_session = yield from exchange.receive_hello()
        self._take_in(theirs, nonce)
        self._compare_hello(theirs, listed, local, exchange.session_id, is_named=of_session == exchange.session_id)
        if any(theirs.starts[kind] < exchange.floors[kind] for kind in counts):
            raise ProtocolError("stock allocated where it may not be", got=theirs.starts, expected=exchange.floors)
        yield from exchange.reserve(counts, theirs.starts)

    def _compare_hello(
        self, theirs: Hello, listed: bytes, local: list[LocalShare], bound_to: bytes, *, is_named: bool
    ) -> None:
        """Compare all that must be the same, and use no stock below the other's floors. is_named: as it has to be."""
        compare_context(self._context, theirs.context)
        if not is_named:
            raise ProtocolError("a hello of another session")
        self._compare(theirs.ciphertexts, listed, theirs.fingerprints, local, bound_to)
        floors = self._exchange.floors
        self._exchange.floors = {kind: max(floor, theirs.floors[kind]) for kind, floor in floors.items()}

    def _own_hello(self, listed: bytes, local: list[LocalShare], bound_to: bytes, starts: Mapping[Kind, int]) -> Hello:
        prints = fingerprint_hashes(local, bound_to, self._roles()[0], self._scheme.modulus)
        floors = self._exchange.floors
        return Hello(
            self._context, session_nonce(self._coins), self._mask_secret,
            floors["triples"], floors["bits"], floors["products"],
            starts.get("triples", 0), starts.get("bits", 0), starts.get("products", 0), listed, prints,
        )  # fmt: skip

    def _take_in(self, theirs: Hello, nonce: bytes) -> None:
        """Make the session's id and mask."""
        exchange = self._exchange
        if len(theirs.nonce) != NONCE_BYTES or theirs.nonce == nonce:
            raise ProtocolError("a session nonce of the wrong size, or my own", expected=f"{NONCE_BYTES} fresh bytes")
        self._peer_nonce = theirs.nonce
        both = (nonce, theirs.nonce), (self._mask_secret, theirs.mask_secret)
        nonces, secrets = both if exchange.is_plus else (both[0][::-1], both[1][::-1])
        session_id = digest("session id", self._context, *nonces)
        exchange.mask = SessionMask(session_id, *secrets)
        exchange.session_id = session_id

    # -- parts of steps ----------------------------------------------------------------------

    @property
    def _peer(self) -> Party:
        return other_party(self._share.pair, self._share.party)

    def _roles(self) -> tuple[str, str]:
        return ("plus", "minus") if self._exchange.is_plus else ("minus", "plus")

    def _local(self, ciphertexts: list[Integer]) -> Steps[list[LocalShare]]:
        local: list[LocalShare] = yield LocalWork(ciphertexts)
        if len(local) != len(ciphertexts):
            raise ProtocolError("number of local shares", got=len(local), expected=len(ciphertexts))
        return local

    def _compare(
        self, theirs: bytes, listed: bytes, fingerprints: bytes, local: list[LocalShare], bound_to: bytes
    ) -> None:
        """Compare what the peer has converted with what this holder has: nothing is opened before that."""
        if not hashes_agree(theirs, listed):
            # Which of their matchers deviates neither can know.
            both = " and ".join(sorted((self._share.party, self._peer)))
            raise ProtocolError(f"key holders {both} were given different ciphertexts")
        if not hashes_agree(fingerprints, fingerprint_hashes(local, bound_to, self._roles()[1], self._scheme.modulus)):
            raise CiphertextError("a ciphertext is not well-formed under this key and epoch")

    def _exact(
        self,
        ciphertexts: list[Integer],
        local: list[LocalShare],
        is_safe: Callable[[list[Integer]], bool],
        beside: Running[Any] | None,
        *,
        last: bool,
        plus_first: bool,
    ) -> Steps[list[Integer]]:
        """Multiply every z by kappa with a fresh triple; return this holder's w of every ciphertext under both masks.

        is_safe: asked of those of the minus holder. beside: has a turn when the last openings have come. plus_first:
        whether the plus holder opens first, as the one that has heard the other's agreement first.

        last: coins are shown as well. The one that opens second shows its own with its openings, as it has those of the
        other one then, and that one when it has heard them. So whoever opened something was bound to it, and to its own
        coins, before it saw those of its peer.
        """
        exchange, N, count = self._exchange, self._scheme.modulus, len(local)
        triples = _triples(exchange.triples(count), count)
        kappa = self._share.kappa(SECRET_ACCESS)
        mine = [open_masked(share.z, kappa, triple, N) for share, triple in zip(local, triples, strict=True)]
        opens_first = plus_first is exchange.is_plus
        if opens_first:
            yield from exchange.send(Openings(join_openings(mine, N)))
            if beside is not None and not exchange.is_plus:
                yield from beside.turn()
        received = yield from exchange.receive(Openings)
        if not opens_first:
            yield from exchange.send(Openings(join_openings(mine, N)))
            if last and exchange.is_plus:
                yield from exchange.send(Coins(self._coins))
        theirs = split_openings(received.values, count, N)
        if last and not exchange.is_plus and not plus_first:
            yield from self._receive_coins()
        self._made += [
            Conversion(c, share.z, triple, opening)
            for c, share, triple, opening in zip(ciphertexts, local, triples, theirs, strict=True)
        ]
        unmasked = (
            output_share(triple, x, y, N, is_plus=exchange.is_plus)
            for triple, x, y in zip(triples, mine, theirs, strict=True)
        )
        shares = [(w + mask) % N for w, mask in zip(unmasked, exchange.mask.residues(count, N), strict=True)]
        if beside is not None and exchange.is_plus:
            yield from beside.turn()
        seed = yield from exchange.last_mask(lambda seed: is_safe(last_masked(shares, seed, N)))
        if last and exchange.is_plus:
            yield from self._receive_coins()
        if last and (plus_first or not exchange.is_plus):
            yield from exchange.send(Coins(self._coins))
        return last_masked(shares, seed, N)

    def _receive_coins(self) -> Steps[None]:
        theirs = (yield from self._exchange.receive(Coins)).coins
        if len(theirs) != NONCE_BYTES or session_nonce(theirs) != self._peer_nonce:
            raise ProtocolError("coins that are not those of the nonce", expected=f"the {NONCE_BYTES} bytes behind it")
        self._their_coins = theirs


def _triples(material: Sequence[object], count: int) -> list[TaggedTriple]:
    triples = [item for item in material if isinstance(item, TaggedTriple)]
    if not len(triples) == len(material) == count:
        raise ProtocolError("reserved stock of the wrong kind", expected=f"{count} tagged triples mod N")
    return triples
