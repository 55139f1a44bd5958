"""The session of a pair of key holders: one request, from its lane ciphertexts to shares of the answer.

A state machine without I/O: `start` and `resume` return what it wants next (messages.Action), the
surroundings do it and resume it with the outcome. Both holders run the same steps:

1. hello: compare what the session is about, make its id from three nonces;
2. convert the lanes: compare digests and fingerprints, reserve triples, exchange openings; the minus
   holder asks for another conversion at a risk of carry, or for a fresh mask at too many wraps;
3. hand the matcher its share of the probe (or, for enrol and erase, of the template, and end);
4. convert the matchers' results in the same way;
5. decision gate on the wanted slots; hand over this holder's share of the answer.

Rules: no opening leaves before both comparisons succeeded; a triple is reserved before it is used;
a message of another kind, number or session ends in ProtocolError, and a session that ended with an
error answers nothing more. DESIGN.md sections 2 to 5.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from veilmatch.crypto import lanes, slots
from veilmatch.crypto.arithmetic import Integer, from_bytes, random_bits, to_bytes
from veilmatch.crypto.conversion import (
    Opening,
    Triple,
    fingerprint_hashes,
    hashes_agree,
    open_masked,
    output_share,
)
from veilmatch.crypto.dealing import BitTriples
from veilmatch.crypto.digests import DIGEST_BYTES, NONCE_BYTES, digest, digest_all
from veilmatch.crypto.errors import CiphertextError, GalleryMismatchError, KeyMismatchError, ProtocolError
from veilmatch.crypto.fields import Array
from veilmatch.crypto.gates.boolean import Circuit, Evaluator
from veilmatch.crypto.gates.decision import any_cost, any_of, decide, decide_cost, decision_input
from veilmatch.crypto.keys import Pair, PairShare
from veilmatch.crypto.messages import (
    Action,
    Agreement,
    Allocation,
    AwaitResults,
    DecisionShare,
    Envelope,
    GateLayer,
    Hello,
    LaneShare,
    LocalWork,
    Message,
    Openings,
    ProbeShare,
    Receive,
    Reserve,
    Reserved,
    Results,
    Send,
    Verdict,
)
from veilmatch.crypto.scheme import LocalShare, Scheme
from veilmatch.crypto.secret_access import SECRET_ACCESS

Operation = Literal["verify", "candidates", "enrol", "erase"]
MASK_SEED_BYTES = 16
#: An honest minus holder asks for a second conversion once in 2^34 vectors, for an eighth never.
MAX_CONVERSIONS = 8

_M = TypeVar("_M", bound=Message)
_Steps = Generator[Action, Any, None]


@dataclass(frozen=True, slots=True)
class Request:
    """What a session is about; everything here must be the same at both holders.

    request_digest: 32 bytes, of the device's signed request; threshold t in 1..S^2 (0 where there is no
    comparison); gallery with its sequence number and chain; stock: 32 bytes that name the pair's stock.
    """

    operation: Operation
    threshold: int
    request_digest: bytes
    device_nonce: bytes
    gallery: str
    sequence: int
    chain: bytes
    key_id: bytes
    epoch: int
    pair: Pair
    stock: bytes

    def subject_matter(self) -> bytes:
        """Digest of the request without gallery state and key epoch."""
        return digest(
            "session request", self.operation, self.threshold, self.request_digest, self.device_nonce, self.gallery
        )

    def context(self) -> bytes:
        """Three digests, joined: request, gallery state, keys. Three so that a difference can be named."""
        return b"".join(
            (
                self.subject_matter(),
                digest("session gallery", self.gallery, self.sequence, self.chain),
                digest("session keys", self.key_id, self.epoch, self.pair, self.stock),
            )
        )


class PairSession:
    """One holder's side. Make one per request, call `start`, then `resume` until `finished`."""

    def __init__(
        self,
        request: Request,
        ciphertexts: Sequence[Integer],
        share: PairShare,
        scheme: Scheme,
        nonce: bytes,
        floors: tuple[int, int],
    ) -> None:
        """ciphertexts: the lanes, validated. nonce: 32 random bytes, fresh. floors: stock floors (triples, bits)."""
        self.request = request
        self.finished = False
        self.session_id = b""
        self._ciphertexts = list(ciphertexts)
        self._share = share
        self._scheme = scheme
        self._nonce = nonce
        self._floors = floors
        self._sent = self._received = 0
        self._steps = self._run()

    def start(self) -> Action:
        """Return the first action."""
        return self._advance(None)

    def resume(self, outcome: object) -> Action:
        """Return the next action, given the outcome of the last one. Raises the error that ends the session."""
        return self._advance(outcome)

    def _advance(self, outcome: object) -> Action:
        if self.finished:
            raise ProtocolError("the session has ended")
        try:
            action = self._steps.send(outcome)
        except BaseException:
            self.finished = True
            raise
        if isinstance(action, LaneShare | DecisionShare):
            self.finished = True
        return action

    # -- the steps --------------------------------------------------------------------------

    def _run(self) -> _Steps:
        vectors, rest = divmod(len(self._ciphertexts), self._scheme.parameters.lane_ciphertexts)
        if rest or vectors < 1 or (vectors > 1 and self.request.operation != "erase"):
            raise CiphertextError(
                "number of lane ciphertexts",
                got=len(self._ciphertexts),
                expected=self._scheme.parameters.lane_ciphertexts,
            )
        yield from self._hello()
        template = self.request.operation in ("enrol", "erase")
        lane_fields, ring = yield from self._convert_lanes(masked=not template)
        if template:
            yield LaneShare(self.session_id, lane_fields, self._share.is_plus)
            return
        yield ProbeShare(self.session_id, ring, self._share.is_plus)
        results: Results = yield AwaitResults()
        shares = yield from self._convert_results(results)
        yield from self._decide(slots.unpack(shares, self._scheme.parameters)[results.wanted])

    def _hello(self) -> _Steps:
        mine = Hello(self.request.context(), self._nonce, *self._floors)
        yield from self._send(mine)
        theirs = yield from self._receive(Hello)
        _compare_context(mine.context, theirs.context)
        if len(theirs.nonce) != NONCE_BYTES or theirs.nonce == mine.nonce:
            raise ProtocolError("a session nonce of the wrong size, or my own", expected=f"{NONCE_BYTES} fresh bytes")
        self._floors = (
            max(mine.triples_floor, theirs.triples_floor),
            max(mine.bits_floor, theirs.bits_floor),
        )
        nonces = (mine.nonce, theirs.nonce) if self._share.is_plus else (theirs.nonce, mine.nonce)
        self.session_id = digest("session id", mine.context, *nonces)

    def _convert_lanes(self, *, masked: bool) -> Generator[Action, Any, tuple[Array, Array]]:
        """Return this holder's lanes and their ring share, exact for every valid vector."""
        parameters, is_plus = self._scheme.parameters, self._share.is_plus
        local = yield from self._agree(
            self._ciphertexts, digest_all("lanes", map(self._scheme.serialise, self._ciphertexts))
        )
        for _ in range(MAX_CONVERSIONS):
            shares = yield from self._beaver(local)
            fields = lanes.unpack(shares, parameters)
            ring = lanes.ring_share(fields, parameters, is_plus=is_plus)
            if is_plus:
                verdict = yield from self._receive(Verdict)
                _check_verdict(verdict, masked=masked)
            else:
                again = lanes.wraps_modulus(shares, self._scheme.modulus) or lanes.at_risk(fields, parameters)
                seed = b"" if again or not masked else self._mask_seed(ring)
                verdict = Verdict(again, seed)
                yield from self._send(verdict)
            if not verdict.again:
                if verdict.mask_seed:
                    ring = (ring + self._mask(verdict.mask_seed)) & ((1 << parameters.ring_bits) - 1)
                return fields, ring
        raise ProtocolError("the minus holder asks for conversions without end", expected=f"<= {MAX_CONVERSIONS}")

    def _convert_results(self, results: Results) -> Generator[Action, Any, list[Integer]]:
        """Return this holder's w of every V."""
        parameters = self._scheme.parameters
        if results.wanted.shape != (len(results.ciphertexts), parameters.slots) or not results.wanted.any():
            raise ProtocolError(
                "the mask of wanted slots does not fit the results",
                got=results.wanted.shape,
                expected=f"({len(results.ciphertexts)}, {parameters.slots}), not empty",
            )
        listed = digest_all("results", map(self._scheme.serialise, results.ciphertexts))
        wanted = np.packbits(results.wanted).tobytes()
        local = yield from self._agree(
            list(results.ciphertexts), digest("wanted results", self.session_id, listed, wanted)
        )
        for _ in range(MAX_CONVERSIONS):
            shares = yield from self._beaver(local)
            if self._share.is_plus:
                verdict = yield from self._receive(Verdict)
                _check_verdict(verdict, masked=False)
            else:
                verdict = Verdict(lanes.wraps_modulus(shares, self._scheme.modulus), b"")
                yield from self._send(verdict)
            if not verdict.again:
                return shares
        raise ProtocolError("the minus holder asks for conversions without end", expected=f"<= {MAX_CONVERSIONS}")

    def _decide(self, wanted: Array) -> _Steps:
        k, is_plus = self._scheme.parameters.ring_bits, self._share.is_plus
        verify = self.request.operation == "verify"
        cost = decide_cost(len(wanted), k) + (any_cost(len(wanted)) if verify else 0)
        reserved = yield from self._reserve("bits", cost)
        if not isinstance(reserved.material, BitTriples):
            raise ProtocolError("reserved stock of the wrong kind", expected="bit triples")
        evaluator = Evaluator(reserved.material, is_plus=is_plus)
        inputs = decision_input(wanted, self.request.threshold, k, is_plus=is_plus)
        bits = yield from self._run_circuit(decide(inputs, k, evaluator))
        count = len(wanted)
        if verify:
            bits = yield from self._run_circuit(any_of(bits, count, evaluator))
            count = 1
        yield DecisionShare(np.unpackbits(bits, count=count, bitorder="little"))

    # -- parts of steps ----------------------------------------------------------------------

    def _agree(self, ciphertexts: list[Integer], ciphertext_digest: bytes) -> Generator[Action, Any, list[LocalShare]]:
        """Convert locally, then compare digest and fingerprints with the peer's, before anything is opened."""
        local: list[LocalShare] = yield LocalWork(ciphertexts)
        if len(local) != len(ciphertexts):
            raise ProtocolError("number of local shares", got=len(local), expected=len(ciphertexts))
        mine, other = ("plus", "minus") if self._share.is_plus else ("minus", "plus")
        N = self._scheme.modulus
        yield from self._send(Agreement(ciphertext_digest, fingerprint_hashes(local, self.session_id, mine, N)))
        theirs = yield from self._receive(Agreement)
        if not hashes_agree(theirs.ciphertexts, ciphertext_digest):
            raise ProtocolError("the two key holders were given different ciphertexts")
        if not hashes_agree(theirs.fingerprints, fingerprint_hashes(local, self.session_id, other, N)):
            raise CiphertextError("a ciphertext is not well-formed under this key and epoch")
        return local

    def _beaver(self, local: list[LocalShare]) -> Generator[Action, Any, list[Integer]]:
        """Multiply every z by kappa with a fresh triple: this holder's w of every ciphertext."""
        N, is_plus = self._scheme.modulus, self._share.is_plus
        reserved = yield from self._reserve("triples", len(local))
        triples = _triples(reserved.material, len(local))
        kappa = self._share.kappa(SECRET_ACCESS)
        mine = [open_masked(share.z, kappa, triple, N) for share, triple in zip(local, triples, strict=True)]
        yield from self._send(Openings(_join_openings(mine, N)))
        received = yield from self._receive(Openings)
        theirs = _split_openings(received.values, len(local), N)
        return [
            output_share(triple, x, y, N, is_plus=is_plus) for triple, x, y in zip(triples, mine, theirs, strict=True)
        ]

    def _reserve(self, kind: Literal["triples", "bits"], count: int) -> Generator[Action, Any, Reserved]:
        """Plus holder allocates and says where; minus holder reserves the same range."""
        floor = self._floors[0 if kind == "triples" else 1]
        if self._share.is_plus:
            reserved: Reserved = yield Reserve(kind, count, floor, None)
            yield from self._send(Allocation(kind, reserved.start))
            return reserved
        allocation = yield from self._receive(Allocation)
        if allocation.kind != kind or allocation.start < floor:
            raise ProtocolError("stock allocated where it may not be", got=allocation.start, expected=f">= {floor}")
        reserved = yield Reserve(kind, count, floor, allocation.start)
        return reserved

    def _run_circuit(self, circuit: Circuit) -> Generator[Action, Any, Any]:
        try:
            payload = next(circuit)
            while True:
                yield from self._send(GateLayer(payload))
                received = yield from self._receive(GateLayer)
                payload = circuit.send(received.payload)
        except StopIteration as stop:
            return stop.value

    def _mask_seed(self, ring: Array) -> bytes:
        """Return b"" if the wraps are within bounds, else a seed whose mask brings them there."""
        parameters = self._scheme.parameters
        seed = b""
        while lanes.wraps_at_risk((ring + self._mask(seed)) & ((1 << parameters.ring_bits) - 1), parameters) > (
            parameters.wrap_limit
        ):
            seed = to_bytes(random_bits(8 * MASK_SEED_BYTES), MASK_SEED_BYTES)
        return seed

    def _mask(self, seed: bytes) -> Array:
        """Return the common mask of `seed`, int64[D] in [0, 2^k); zeros for b""."""
        dimension = self._scheme.parameters.dimension
        if not seed:
            return np.zeros(dimension, dtype=np.int64)
        stream = Cipher(algorithms.AES(seed), modes.CTR(bytes(16))).encryptor().update(bytes(4 * dimension))
        return np.frombuffer(stream, dtype="<u4").astype(np.int64) & ((1 << self._scheme.parameters.ring_bits) - 1)

    def _send(self, message: Message) -> _Steps:
        number, self._sent = 2 * self._sent + (not self._share.is_plus), self._sent + 1
        yield Send(Envelope(self.session_id, number, message))

    def _receive(self, kind: type[_M]) -> Generator[Action, Any, _M]:
        envelope = yield Receive()
        number, self._received = 2 * self._received + self._share.is_plus, self._received + 1
        if not isinstance(envelope, Envelope) or not isinstance(envelope.message, kind):
            raise ProtocolError("a message of the wrong kind from the peer", expected=kind.__name__)
        if envelope.session_id != self.session_id or envelope.number != number:
            raise ProtocolError("a message of another session or out of order", got=envelope.number, expected=number)
        return envelope.message


def _compare_context(mine: bytes, theirs: bytes) -> None:
    """Raise the error that names what differs; see Request.context."""
    if len(theirs) != 3 * DIGEST_BYTES:
        raise ProtocolError("a context digest of the wrong size", got=len(theirs), expected=3 * DIGEST_BYTES)
    if mine[2 * DIGEST_BYTES :] != theirs[2 * DIGEST_BYTES :]:
        raise KeyMismatchError("the two key holders do not use the same key, epoch, pair and stock")
    if mine[:DIGEST_BYTES] != theirs[:DIGEST_BYTES]:
        raise ProtocolError("the two key holders were given different requests")
    if mine != theirs:
        raise GalleryMismatchError("the two matchers do not hold the same gallery")


def _check_verdict(verdict: Verdict, *, masked: bool) -> None:
    sizes = (0, MASK_SEED_BYTES) if masked and not verdict.again else (0,)
    if len(verdict.mask_seed) not in sizes:
        raise ProtocolError("a mask seed of the wrong size", got=len(verdict.mask_seed), expected=sizes)


def _triples(material: object, count: int) -> list[Triple]:
    triples = [item for item in material if isinstance(item, Triple)] if isinstance(material, list) else []
    if not isinstance(material, list) or not len(triples) == len(material) == count:
        raise ProtocolError("reserved stock of the wrong kind", expected=f"{count} triples mod N")
    return triples


def _join_openings(openings: list[Opening], modulus: Integer) -> bytes:
    size = (modulus.bit_length() + 7) // 8
    return b"".join(to_bytes(x, size) for opening in openings for x in (opening.d, opening.e))


def _split_openings(values: bytes, count: int, modulus: Integer) -> list[Opening]:
    size = (modulus.bit_length() + 7) // 8
    if len(values) != 2 * size * count:
        raise ProtocolError("openings of the wrong size", got=len(values), expected=2 * size * count)
    parts = [from_bytes(values[i : i + size]) for i in range(0, len(values), size)]
    if any(part >= modulus for part in parts):
        raise ProtocolError("an opening is not reduced mod N", expected="0 <= d, e < N")
    return [Opening(d, e) for d, e in zip(parts[0::2], parts[1::2], strict=True)]
