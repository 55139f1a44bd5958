"""The session of a pair of key holders: one request, from its lane ciphertexts to shares of the answer.

A state machine without I/O: `start` and `resume` return what it wants next (messages.Action), the
surroundings do it and resume it with the outcome. Both holders run the same steps:

1. hello: compare what the session is about, make its id from three nonces;
2. convert the lanes: compare digests and fingerprints, reserve triples, exchange openings; the minus
   holder asks for another conversion at a risk of carry, or for a fresh mask at too many wraps;
3. for enrol: validity gate, open its bit, and hand the matcher its share of the template, or refuse; for erase and
   rotate the same of many templates, of which those that are not valid are sifted out; the session ends here;
4. hand the matcher its share of the probe, and run the validity gate while the matchers work;
5. convert the matchers' results in the same way;
6. prove to each other that all conversions of the session, repeated ones too, were of true values
   (key_safety.py); for enrol, erase and rotate this comes before the validity gate;
7. decision gate or tournament on the wanted slots; hand over this holder's share of answer AND valid, and of valid.

Rules: no opening leaves before both comparisons succeeded; a triple is reserved before it is used; before the
key-safety check nothing is opened that depends on a conversion, and nothing leaves towards the device. What
comes before it tells nobody anything, whatever was opened: the share of a probe goes to the holder's own matcher and
is uniform on its own, the results made from it are encrypted, openings and gate messages are masked afresh. The
validity of a probe is opened to no server, and nothing derived from a template that is not valid leaves;
a message of another kind, number or session ends in ProtocolError, and a session that ended with an
error answers nothing more. DESIGN.md sections 2 to 5.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.dealing import STOCK_KINDS, BitTriples, Kind, Products
from veilmatch.crypto.digests import NONCE_BYTES, digest, digest_all
from veilmatch.crypto.encryption.scheme import LocalShare, Scheme
from veilmatch.crypto.errors import (
    CiphertextError,
    InvalidVectorError,
    KeySafetyError,
    ProtocolError,
)
from veilmatch.crypto.gates.answer import answer, answer_bits, answer_cost
from veilmatch.crypto.gates.boolean import Circuit, Evaluator, Wire
from veilmatch.crypto.gates.decision import decision_input
from veilmatch.crypto.gates.validity import validate, validity_cost
from veilmatch.crypto.keys.shares import PairShare, SafetyShare, other_party
from veilmatch.crypto.packing import lanes, masks, slots
from veilmatch.crypto.packing.fields import Array
from veilmatch.crypto.pair.conversion import (
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
    session_nonce,
)
from veilmatch.crypto.pair.messages import (
    Action,
    Agreement,
    Allocation,
    AwaitResults,
    Coins,
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
    SafetyProof,
    SafetyWork,
    Send,
    Validity,
    Verdict,
)
from veilmatch.crypto.pair.request import ON_RECORDS, Request, compare_context
from veilmatch.crypto.secret_access import SECRET_ACCESS

#: An honest minus holder asks for a second conversion once in 2^34 vectors, for an eighth never.
MAX_CONVERSIONS = 8

_M = TypeVar("_M", bound=Message)
_T = TypeVar("_T")
_Steps = Generator[Action, Any, None]


class PairSession:
    """One holder's side. Make one per request, call `start`, then `resume` until `finished`."""

    def __init__(
        self,
        request: Request,
        ciphertexts: Sequence[Integer],
        share: PairShare,
        safety: SafetyShare,
        scheme: Scheme,
        coins: bytes,
        floors: tuple[int, int, int],
    ) -> None:
        """ciphertexts: the lanes, parsed. coins: 32 random bytes, fresh. floors: of triples, bits and products."""
        self.request = request
        self.finished = False
        self.session_id = b""
        self._ciphertexts = list(ciphertexts)
        self._share = share
        self._safety = safety
        self._scheme = scheme
        self._coins = coins
        self._nonce = session_nonce(coins)
        self._peer_nonce = b""
        #: All of this session, in order: the key-safety check covers those that were repeated as well.
        self._conversions: list[Conversion] = []
        self._floors: dict[Kind, int] = dict(zip(STOCK_KINDS, floors, strict=True))
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
        if rest or vectors < 1 or (vectors > 1 and self.request.operation not in ON_RECORDS):
            raise CiphertextError(
                "number of lane ciphertexts",
                got=len(self._ciphertexts),
                expected=self._scheme.parameters.lane_ciphertexts,
            )
        yield from self._hello()
        template = self.request.operation == "enrol" or self.request.operation in ON_RECORDS
        converted = yield from self._convert_lanes(masked=not template)
        if template:
            yield from self._check_key_safety()
            valid = yield from self._sift(converted, vectors)
            if self.request.operation == "enrol" and not valid.all():
                raise InvalidVectorError()
            lanes_of_valid = converted.lanes.reshape(vectors, -1)[valid].ravel()
            yield LaneShare(self.session_id, lanes_of_valid, self._share.is_plus, valid)
            return
        yield ProbeShare(self.session_id, converted.ring, self._share.is_plus)
        share = yield from self._validate(converted)
        results: Results = yield AwaitResults()
        shares = yield from self._convert_results(results)
        yield from self._check_key_safety()
        yield from self._decide(slots.unpack(shares, self._scheme.parameters)[results.wanted], share)

    def _hello(self) -> _Steps:
        mine = Hello(self.request.context(), self._nonce, *self._floors.values())
        yield from self._send(mine)
        theirs = yield from self._receive(Hello)
        compare_context(mine.context, theirs.context)
        if len(theirs.nonce) != NONCE_BYTES or theirs.nonce == mine.nonce:
            raise ProtocolError("a session nonce of the wrong size, or my own", expected=f"{NONCE_BYTES} fresh bytes")
        self._peer_nonce = theirs.nonce
        self._floors = {
            "triples": max(mine.triples_floor, theirs.triples_floor),
            "bits": max(mine.bits_floor, theirs.bits_floor),
            "products": max(mine.products_floor, theirs.products_floor),
        }
        nonces = (mine.nonce, theirs.nonce) if self._share.is_plus else (theirs.nonce, mine.nonce)
        self.session_id = digest("session id", mine.context, *nonces)

    def _convert_lanes(self, *, masked: bool) -> Generator[Action, Any, lanes.Vectors]:
        """Return this holder's part of the vectors, exact for every valid one."""
        parameters, is_plus = self._scheme.parameters, self._share.is_plus
        local = yield from self._agree(
            self._ciphertexts, digest_all("lanes", map(self._scheme.serialise, self._ciphertexts))
        )
        for _ in range(MAX_CONVERSIONS):
            shares = yield from self._beaver(self._ciphertexts, local)
            fields = lanes.unpack(shares, parameters)
            ring = lanes.ring_share(fields, parameters, is_plus=is_plus)
            if is_plus:
                verdict = yield from self._receive(Verdict)
                _check_verdict(verdict, masked=masked)
            else:
                again = lanes.wraps_modulus(shares, self._scheme.modulus) or lanes.at_risk(fields, parameters)
                seed = b"" if again or not masked else masks.seed_for(ring, parameters)
                verdict = Verdict(again, seed)
                yield from self._send(verdict)
            if not verdict.again:
                ring = masks.masked(ring, verdict.mask_seed, parameters)
                return lanes.Vectors(fields, lanes.above(shares, parameters), ring)
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
        ciphertexts = list(results.ciphertexts)
        listed = digest_all("results", map(self._scheme.serialise, ciphertexts))
        wanted = np.packbits(results.wanted).tobytes()
        local = yield from self._agree(ciphertexts, digest("wanted results", self.session_id, listed, wanted))
        for _ in range(MAX_CONVERSIONS):
            shares = yield from self._beaver(ciphertexts, local)
            if self._share.is_plus:
                verdict = yield from self._receive(Verdict)
                _check_verdict(verdict, masked=False)
            else:
                verdict = Verdict(lanes.wraps_modulus(shares, self._scheme.modulus), b"")
                yield from self._send(verdict)
            if not verdict.again:
                return shares
        raise ProtocolError("the minus holder asks for conversions without end", expected=f"<= {MAX_CONVERSIONS}")

    def _check_key_safety(self) -> _Steps:
        """Prove true openings to the peer and check its proof: key_safety.py. Raises KeySafetyError.

        Called when both holders have received the last opening. Coins are shown only now: whoever opened something
        was bound to it, and to its own coins, before it saw those of its peer.
        """
        yield from self._send(Coins(self._coins))
        theirs = yield from self._receive(Coins)
        if len(theirs.coins) != NONCE_BYTES or session_nonce(theirs.coins) != self._peer_nonce:
            raise ProtocolError("coins that are not those of the nonce", expected=f"the {NONCE_BYTES} bytes behind it")
        N, made = self._scheme.modulus, self._conversions
        coins = (self._coins, theirs.coins) if self._share.is_plus else (theirs.coins, self._coins)
        weights = draw_weights(self.session_id, *coins, len(made))
        verifying, proving = yield SafetyWork(*combination(made, weights))
        yield from self._send(SafetyProof(proof(made, weights, proving.z, self._safety, N)))
        received = yield from self._receive(SafetyProof)
        expected = expected_proof(made, weights, verifying.z, self._safety, N)
        if len(received.proof) != len(expected):
            raise ProtocolError("a proof of the wrong size", got=len(received.proof), expected=len(expected))
        if not proofs_agree(received.proof, expected):
            peer = other_party(self._share.pair, self._share.party)
            raise KeySafetyError(f"key holder {peer} did not prove that it opened true values", got="another proof")

    def _validate(self, vectors: lanes.Vectors) -> Generator[Action, Any, Wire]:
        """Return this holder's share of whether all the vectors are valid, in the lowest bit of one byte."""
        parameters, count = self._scheme.parameters, len(vectors.lanes)
        products = yield from self._dealt("products", count, Products)
        evaluator = yield from self._evaluator(validity_cost(count // parameters.dimension, parameters))
        circuit = validate(vectors.lanes, vectors.above, parameters, self.session_id, products, evaluator)
        valid: Wire = yield from self._run_circuit(circuit)
        return valid

    def _sift(self, vectors: lanes.Vectors, count: int) -> Generator[Action, Any, NDArray[np.bool_]]:
        """Open to both holders which of the vectors are valid, bool[count].

        One bit says that all are. Only if they are not, each half is asked about alone, down to single vectors.
        """
        valid = np.ones(count, dtype=np.bool_)
        parts = [(0, count)]
        while parts:
            first, end = parts.pop()
            mine = bool((yield from self._validate(vectors.part(first, end, count)))[0] & 1)
            yield from self._send(Validity(mine))
            theirs = yield from self._receive(Validity)
            if mine != theirs.share:
                continue
            middle = (first + end) // 2
            if middle == first:
                valid[first] = False
            else:
                parts += [(middle, end), (first, middle)]
        return valid

    def _decide(self, wanted: Array, valid: Wire) -> _Steps:
        """Hand over this holder's share of every answer bit AND valid, and of valid."""
        k, operation = self._scheme.parameters.ring_bits, self.request.operation
        evaluator = yield from self._evaluator(answer_cost(operation, len(wanted), k))
        inputs = decision_input(wanted, self.request.threshold, k, is_plus=self._share.is_plus)
        bits = yield from self._run_circuit(answer(operation, inputs, k, valid, evaluator))
        count = answer_bits(operation, len(wanted))
        yield DecisionShare(np.unpackbits(bits, count=count, bitorder="little"), int(valid[0] & 1))

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

    def _beaver(self, ciphertexts: list[Integer], local: list[LocalShare]) -> Generator[Action, Any, list[Integer]]:
        """Multiply every z by kappa with a fresh triple: this holder's w of every ciphertext."""
        N, is_plus = self._scheme.modulus, self._share.is_plus
        triples = _triples((yield from self._dealt("triples", len(local), list)), len(local))
        kappa = self._share.kappa(SECRET_ACCESS)
        mine = [open_masked(share.z, kappa, triple, N) for share, triple in zip(local, triples, strict=True)]
        yield from self._send(Openings(join_openings(mine, N)))
        received = yield from self._receive(Openings)
        theirs = split_openings(received.values, len(local), N)
        self._conversions += [
            Conversion(c, share.z, triple, opening)
            for c, share, triple, opening in zip(ciphertexts, local, triples, theirs, strict=True)
        ]
        return [
            output_share(triple, x, y, N, is_plus=is_plus) for triple, x, y in zip(triples, mine, theirs, strict=True)
        ]

    def _evaluator(self, triple_bytes: int) -> Generator[Action, Any, Evaluator]:
        """An evaluator with fresh bit triples."""
        triples = yield from self._dealt("bits", triple_bytes, BitTriples)
        return Evaluator(triples, is_plus=self._share.is_plus)

    def _dealt(self, kind: Kind, count: int, material: type[_T]) -> Generator[Action, Any, _T]:
        """Reserve stock and return what it is."""
        reserved = yield from self._reserve(kind, count)
        if not isinstance(reserved.material, material):
            raise ProtocolError("reserved stock of the wrong kind", expected=kind)
        return reserved.material

    def _reserve(self, kind: Kind, count: int) -> Generator[Action, Any, Reserved]:
        """Plus holder allocates and says where; minus holder reserves the same range."""
        floor = self._floors[kind]
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


def _check_verdict(verdict: Verdict, *, masked: bool) -> None:
    sizes = (0, masks.MASK_SEED_BYTES) if masked and not verdict.again else (0,)
    if len(verdict.mask_seed) not in sizes:
        raise ProtocolError("a mask seed of the wrong size", got=len(verdict.mask_seed), expected=sizes)


def _triples(material: list[object], count: int) -> list[TaggedTriple]:
    triples = [item for item in material if isinstance(item, TaggedTriple)]
    if not len(triples) == len(material) == count:
        raise ProtocolError("reserved stock of the wrong kind", expected=f"{count} tagged triples mod N")
    return triples
