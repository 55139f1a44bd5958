"""Candidates and identify: from the lanes of a probe to this holder's share of the answer about a whole gallery.

The matchers get their shares of the probe and work while the validity gate runs. What leaves towards the device are
shares of answer AND valid, and of valid, both masked (mask.py). docs/protocol.md.
"""

from __future__ import annotations

import numpy as np

from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.digests import digest_all
from veilmatch.crypto.gates.answer import answer, answer_bits, answer_cost
from veilmatch.crypto.gates.boolean import Wire
from veilmatch.crypto.gates.decision import decision_input
from veilmatch.crypto.packing import slots
from veilmatch.crypto.packing.fields import Array
from veilmatch.crypto.pair.converting import Converter
from veilmatch.crypto.pair.exchange import Exchange, Running, Steps
from veilmatch.crypto.pair.messages import AwaitResults, DecisionShare, ProbeShare, Results
from veilmatch.crypto.pair.records import validity_of, validity_stock


def search_steps(
    exchange: Exchange, converter: Converter, ciphertexts: list[Integer], operation: str, threshold: int
) -> Steps[None]:
    """Convert a probe, then the results that the matchers make with it, and end the session with the decision."""
    parameters = exchange.scheme.parameters
    listed = digest_all("lanes", map(exchange.scheme.serialise, ciphertexts))
    counts = validity_stock(1, parameters)
    probe = yield from converter.lanes(ciphertexts, listed, counts, wraps_bounded=True, last=False)
    yield ProbeShare(exchange.session_id, probe.ring, exchange.is_plus)
    validity = exchange.running(validity_of(exchange, probe))
    yield from validity.start()
    results: Results = yield AwaitResults()
    converter.require_fit(results)
    counts = {"bits": answer_cost(operation, int(results.wanted.sum()), parameters.ring_bits)}
    shares = yield from converter.results(results, counts, validity)
    valid = yield from validity.finish()
    wanted = slots.unpack(shares, parameters)[results.wanted]
    answering = answer_of(exchange, wanted, valid, operation, threshold)
    yield from answering.start()
    yield from converter.check_key_safety(answering)
    packed = yield from answering.finish()
    # Not before here: the other one has proved that all it opened was true.
    yield masked(exchange, packed, answer_bits(operation, len(wanted)), valid)


def answer_of(exchange: Exchange, wanted: Array, valid: Wire, operation: str, threshold: int) -> Running[Wire]:
    """Return what computes this holder's share of every answer bit AND valid, packed little-endian."""
    k = exchange.scheme.parameters.ring_bits
    evaluator = exchange.evaluator(answer_cost(operation, len(wanted), k))
    inputs = decision_input(wanted, threshold, k, is_plus=exchange.is_plus)
    return exchange.running(answer(operation, inputs, k, valid, evaluator))


def masked(exchange: Exchange, packed: Wire, count: int, valid: Wire) -> DecisionShare:
    """Return what leaves: this holder's shares of `count` answer bits, and of valid, under the session's mask."""
    bits = np.unpackbits(packed, count=count, bitorder="little")
    mask = exchange.mask.bits(count + 1)
    return DecisionShare(exchange.session_id, bits ^ mask[:count], int(valid[0] & 1 ^ mask[count]))
