"""Verify, candidates and identify: from the lanes of a probe to this holder's share of the answer.

The matchers get their shares of the probe and work while the validity gate runs. What leaves towards the device are
shares of answer AND valid, and of valid, both masked (mask.py). DESIGN.md section 4.
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
from veilmatch.crypto.pair.exchange import Exchange, Steps
from veilmatch.crypto.pair.messages import AwaitResults, DecisionShare, ProbeShare, Results
from veilmatch.crypto.pair.records import validity_of


def query_steps(
    exchange: Exchange, converter: Converter, ciphertexts: list[Integer], operation: str, threshold: int
) -> Steps[None]:
    """Convert a probe, then the results that the matchers make with it, and end the session with the decision."""
    listed = digest_all("lanes", map(exchange.scheme.serialise, ciphertexts))
    probe = yield from converter.lanes(ciphertexts, listed, wraps_bounded=True)
    yield ProbeShare(exchange.session_id, probe.ring, exchange.is_plus)
    valid = yield from validity_of(exchange, probe)
    results: Results = yield AwaitResults()
    shares = yield from converter.results(results)
    yield from converter.check_key_safety()
    wanted = slots.unpack(shares, exchange.scheme.parameters)[results.wanted]
    yield from _decide(exchange, wanted, valid, operation, threshold)


def _decide(exchange: Exchange, wanted: Array, valid: Wire, operation: str, threshold: int) -> Steps[None]:
    """Hand over this holder's share of every answer bit AND valid, and of valid."""
    k = exchange.scheme.parameters.ring_bits
    evaluator = yield from exchange.evaluator(answer_cost(operation, len(wanted), k))
    inputs = decision_input(wanted, threshold, k, is_plus=exchange.is_plus)
    packed = yield from exchange.run(answer(operation, inputs, k, valid, evaluator))
    count = answer_bits(operation, len(wanted))
    bits = np.unpackbits(packed, count=count, bitorder="little")
    mask = exchange.mask.bits(count + 1)
    yield DecisionShare(bits ^ mask[:count], int(valid[0] & 1 ^ mask[count]))
