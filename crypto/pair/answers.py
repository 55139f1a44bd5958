"""Candidates, identify and known: from the lanes of a probe to this holder's share of the answer about a whole gallery.

The matchers get their shares of the probe and work while the validity gate runs. What leaves towards the device are
shares of answer AND valid, and of valid, both masked (mask.py). A probe may have several views, which are converted
together and compared alike. docs/protocol.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from veilmatch.crypto.dealing import Kind
from veilmatch.crypto.digests import digest_all
from veilmatch.crypto.gates.answer import answer, answer_bits, answer_cost
from veilmatch.crypto.gates.boolean import Wire
from veilmatch.crypto.gates.decision import decision_input
from veilmatch.crypto.packing import lanes, slots
from veilmatch.crypto.packing.fields import Array
from veilmatch.crypto.pair.converting import Converter
from veilmatch.crypto.pair.exchange import Exchange, Running, Steps
from veilmatch.crypto.pair.messages import AwaitResults, DecisionShare, ProbeShare, Results
from veilmatch.crypto.pair.records import validity_of, validity_stock
from veilmatch.crypto.secret_access import SecretHolder


@dataclass(frozen=True, slots=True, repr=False)
class Found(SecretHolder):
    """This holder's shares of what a search found. bits: answer AND valid, packed, `count` of them. valid: all views
    are. probe: its part of the vectors of the probe."""

    bits: Wire
    count: int
    valid: Wire
    probe: lanes.Vectors


def search_steps(
    exchange: Exchange, converter: Converter, operation: str, threshold: int, views: int = 1
) -> Steps[None]:
    """Convert a probe, then the results that the matchers make with it, and end the session with the decision."""
    found = yield from searched(exchange, converter, operation, threshold, views)
    yield masked(exchange, found.bits, found.count, found.valid, exchange.session_id)


def searched(
    exchange: Exchange, converter: Converter, operation: str, threshold: int, views: int, products: int = 0
) -> Steps[Found]:
    """Convert a probe of so many views, then the results that the matchers make with it, and decide.

    products: that are used after this, beside its own. When it returns the other holder has proved that all it opened
    was true.
    """
    parameters = exchange.scheme.parameters
    _, probe = yield from converter.lanes(
        lambda part: digest_all("lanes", map(exchange.scheme.serialise, part.ciphertexts)),
        lambda _: validity_stock(views, parameters),
        wraps_bounded=True,
        last=False,
    )
    yield ProbeShare(exchange.session_id, probe.ring, exchange.is_plus)
    validity = exchange.running(validity_of(exchange, probe))
    yield from validity.start()
    results: Results = yield AwaitResults()
    converter.require_fit(results, views)
    compared = int(results.wanted.sum()) // views
    counts: dict[Kind, int] = {"bits": answer_cost(operation, compared, parameters.ring_bits, views)}
    if products:
        counts["products"] = products
    shares = yield from converter.results(results, counts, validity)
    valid = yield from validity.finish()
    wanted = slots.unpack(shares, parameters)[results.wanted]
    answering = answer_of(exchange, wanted, valid, operation, threshold, views)
    yield from answering.start()
    yield from converter.check_key_safety(answering)
    bits, all_valid = yield from answering.finish()
    return Found(bits, answer_bits(operation, compared), all_valid, probe)


def answer_of(
    exchange: Exchange, wanted: Array, valid: Wire, operation: str, threshold: int, views: int = 1
) -> Running[list[Wire]]:
    """Return what computes this holder's share of every answer bit AND valid, packed little-endian, and of valid."""
    k = exchange.scheme.parameters.ring_bits
    evaluator = exchange.evaluator(answer_cost(operation, len(wanted) // views, k, views))
    inputs = decision_input(wanted, threshold, k, is_plus=exchange.is_plus)
    return exchange.running(answer(operation, inputs, k, valid, evaluator, views))


def masked(exchange: Exchange, packed: Wire, count: int, valid: Wire, session_id: bytes) -> DecisionShare:
    """Return what leaves: this holder's shares of `count` answer bits, and of valid, under the session's mask.

    session_id: by which its request knows the session.
    """
    bits = np.unpackbits(packed, count=count, bitorder="little")
    mask = exchange.mask.bits(count + 1)
    return DecisionShare(session_id, bits ^ mask[:count], int(valid[0] & 1 ^ mask[count]))
