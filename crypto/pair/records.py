"""Enrol, erase and rotate: from lane ciphertexts to both matchers' shares of what they store. Nothing is opened.

Records that the matchers made themselves (earlier enrolments and rotations) are valid vectors or zero by
construction: they are converted without any gate. A vector that a device encrypted (an enrolment, or a record from
a bulk enrolment) passes the validity gate; its bit stays shared and is multiplied into every coordinate, so that a
valid vector comes out, or zero, and no server knows which. DESIGN.md section 6.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.dealing import Words
from veilmatch.crypto.digests import digest, digest_all
from veilmatch.crypto.gates.boolean import Wire
from veilmatch.crypto.gates.multiplication import only_valid, only_valid_cost
from veilmatch.crypto.gates.validity import validate, validity_cost
from veilmatch.crypto.packing import lanes
from veilmatch.crypto.pair.converting import Converter
from veilmatch.crypto.pair.exchange import Exchange, Steps
from veilmatch.crypto.pair.mask import last_masked_words
from veilmatch.crypto.pair.messages import TemplateShare


def template_steps(
    exchange: Exchange, converter: Converter, ciphertexts: list[Integer], by_device: NDArray[np.bool_], *, told: bool
) -> Steps[None]:
    """Convert vectors and end the session with this holder's shares of them.

    by_device: bool[n], which of them are gated. told: whether the device learns of each of those if it is valid.
    """
    parameters, count = exchange.scheme.parameters, len(by_device)
    listed = digest_all("lanes", map(exchange.scheme.serialise, ciphertexts))
    listed = digest("templates", listed, np.packbits(by_device).tobytes())
    vectors = yield from converter.lanes(ciphertexts, listed, wraps_bounded=False)
    yield from converter.check_key_safety()
    values = vectors.lanes.astype(np.uint64).reshape(count, parameters.dimension)
    valid = np.zeros(0, dtype=np.uint8)
    if by_device.any():
        gated = vectors.chosen(by_device)
        flags = yield from validity_of(exchange, gated)
        values[by_device] = yield from _only_valid(exchange, gated.lanes.astype(np.uint64), flags)
        if told:
            n = int(by_device.sum())
            valid = np.unpackbits(flags, count=n, bitorder="little") ^ exchange.mask.bits(n)
    yield TemplateShare(exchange.session_id, values.ravel(), exchange.is_plus, valid)


def validity_of(exchange: Exchange, vectors: lanes.Vectors) -> Steps[Wire]:
    """Return this holder's shares of which of the vectors are valid, one bit each, packed little-endian."""
    parameters = exchange.scheme.parameters
    products = yield from exchange.products(len(vectors.lanes))
    evaluator = yield from exchange.evaluator(validity_cost(len(vectors.lanes) // parameters.dimension, parameters))
    circuit = validate(vectors.lanes, vectors.above, parameters, exchange.session_id, products, evaluator)
    return (yield from exchange.run(circuit))


def _only_valid(exchange: Exchange, values: Words, flags: Wire) -> Steps[Words]:
    """Return this holder's share of every vector that is valid, and of zero for the others: uint64[n, D].

    What the plus holder has less what the minus holder has is coordinate + offset as an integer, not only mod 2^64:
    under the last mask, adding it to the minus holder's part does not wrap.
    """
    parameters, is_plus = exchange.scheme.parameters, exchange.is_plus
    count = len(values) // parameters.dimension
    products = yield from exchange.products(only_valid_cost(count, parameters.dimension))
    circuit = only_valid(flags, values, count, parameters.offset, products, is_plus=is_plus)
    shares = (yield from exchange.run(circuit)) + exchange.mask.words(len(values))
    seed = yield from exchange.last_mask(
        lambda seed: not lanes.words_at_risk(last_masked_words(shares, seed), parameters)
    )
    return last_masked_words(shares, seed).reshape(count, parameters.dimension)
