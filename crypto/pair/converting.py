"""Conversions and the key-safety check: how a session of a pair comes to exact masked shares.

Rules: each holder sends an opening only once it has received the other's digest and fingerprints of what is converted,
and has found them right; a triple is reserved before it is used; every w is masked twice (mask.py) before anything is
cut out of it: with the mask of the session, and with a last one that the minus holder draws after the last opening, so
that nothing of its own can carry or wrap. Nothing is done over: what a holder does next depends on no share.

Who hears the other's digest and fingerprints first answers with its own and with its openings, and so lets the other
one open: the plus holder answers the first hello, the minus holder the agreement about results. docs/protocol.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np

from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.dealing import Kind
from veilmatch.crypto.digests import NONCE_BYTES, digest, digest_all
from veilmatch.crypto.encryption.scheme import LocalShare
from veilmatch.crypto.errors import KeySafetyError, ProtocolError
from veilmatch.crypto.keys.shares import PairShare, SafetyShare
from veilmatch.crypto.packing import lanes
from veilmatch.crypto.pair.beginning import Beginning, Counts, Mine, require_same, require_well_formed
from veilmatch.crypto.pair.conversion import (
    fingerprint_hashes,
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
from veilmatch.crypto.pair.mask import last_masked
from veilmatch.crypto.pair.messages import (
    Agreement,
    Coins,
    LocalWork,
    Openings,
    Results,
    SafetyProof,
    SafetyWork,
)
from veilmatch.crypto.pair.request import Part
from veilmatch.crypto.secret_access import SECRET_ACCESS, SecretHolder


class Converter(SecretHolder):
    """One holder's conversions in a session."""

    def __init__(
        self,
        exchange: Exchange,
        parts: Sequence[Part | None],
        share: PairShare,
        safety: SafetyShare,
        coins: bytes,
        mask_secret: bytes,
    ) -> None:
        """parts: see PairSession. coins, mask_secret: 32 random bytes each, fresh."""
        self._exchange = exchange
        self._parts = parts
        self._share = share
        self._safety = safety
        self._scheme = exchange.scheme
        self._coins = coins
        self._beginning = Beginning(exchange, share, coins, mask_secret)
        self._their_coins = b""
        #: All of this session, in order.
        self._made: list[Conversion] = []

    def lanes(
        self, listed: Callable[[Part], bytes], counts: Counts, *, wraps_bounded: bool, last: bool
    ) -> Steps[tuple[list[Part], lanes.Vectors]]:
        """Begin the session, and return what goes on, and this holder's part of its vectors, exact for every valid one.

        listed: digest of a part's ciphertexts and of what both holders have to know about them. counts: stock that is
        used until more is allocated, without the triples of this conversion. wraps_bounded: shares mod 2^k are wanted,
        with at most W coordinates of a vector that may wrap. last: no conversion follows.
        """
        parameters, is_plus = self._scheme.parameters, self._exchange.is_plus

        def is_safe(shares: list[Integer]) -> bool:
            fields = lanes.unpack(shares, parameters)
            if lanes.wraps_modulus(shares, self._scheme.modulus) or lanes.at_risk(fields, parameters):
                return False
            ring = lanes.ring_share(fields, parameters, is_plus=False).reshape(-1, parameters.dimension)
            return not wraps_bounded or all(
                lanes.wraps_at_risk(vector, parameters) <= parameters.wrap_limit for vector in ring
            )

        going = yield from self._beginning.hello((yield from self._named(listed)), counts)
        ciphertexts = [c for one in going for c in one.part.ciphertexts]
        local = [share for one in going for share in one.local]
        shares = yield from self._exact(ciphertexts, local, is_safe, None, last=last, plus_first=True)
        fields = lanes.unpack(shares, parameters)
        ring = lanes.ring_share(fields, parameters, is_plus=is_plus)
        return [one.part for one in going], lanes.Vectors(fields, lanes.above(shares, parameters), ring)

    def _named(self, listed: Callable[[Part], bytes]) -> Steps[list[Mine | None]]:
        """Convert locally what is here, all together; return what this holder says of each request."""
        local = iter((yield from self._local([c for part in self._parts if part for c in part.ciphertexts])))
        return [None if part is None else self._mine(part, listed(part), local) for part in self._parts]

    def _mine(self, part: Part, listed: bytes, local: Iterator[LocalShare]) -> Mine:
        return Mine(part, part.request.context(), listed, list(islice(local, len(part.ciphertexts))))

    def require_fit(self, results: Results, views: int) -> None:
        """Raise ProtocolError if what is wanted does not fit the results: of each view the same."""
        slots = self._scheme.parameters.slots
        if results.wanted.shape != (len(results.ciphertexts), slots) or not results.wanted.any():
            raise ProtocolError(
                "the mask of wanted slots does not fit the results",
                got=results.wanted.shape,
                expected=f"({len(results.ciphertexts)}, {slots}), not empty",
            )
        packs, rest = divmod(len(results.wanted), views)
        if rest or not (results.wanted.reshape(views, packs, slots) == results.wanted[:packs]).all():
            raise ProtocolError("other slots are wanted of one view than of another", expected=f"{views} views alike")

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
        mine, its = self._beginning.roles
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
        require_same(self._share.party, self._beginning.peer, theirs.ciphertexts, both)
        require_well_formed(theirs.fingerprints, fingerprint_hashes(local, exchange.session_id, its, N))
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
                f"key holder {self._beginning.peer} did not prove that it opened true values", got="another proof"
            )

    # -- parts of steps ----------------------------------------------------------------------

    def _local(self, ciphertexts: list[Integer]) -> Steps[list[LocalShare]]:
        local: list[LocalShare] = yield LocalWork(ciphertexts)
        if len(local) != len(ciphertexts):
            raise ProtocolError("number of local shares", got=len(local), expected=len(ciphertexts))
        return local

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
        if len(theirs) != NONCE_BYTES or session_nonce(theirs) != self._beginning.peer_nonce:
            raise ProtocolError("coins that are not those of the nonce", expected=f"the {NONCE_BYTES} bytes behind it")
        self._their_coins = theirs


def _triples(material: Sequence[object], count: int) -> list[TaggedTriple]:
    triples = [item for item in material if isinstance(item, TaggedTriple)]
    if not len(triples) == len(material) == count:
        raise ProtocolError("reserved stock of the wrong kind", expected=f"{count} tagged triples mod N")
    return triples
