"""Enrol, erase and rotate: from lane ciphertexts to both matchers' shares of what they store. Nothing is opened.

Records that the matchers made themselves (earlier enrolments and rotations) are valid vectors or zero by
construction: they are converted without any gate. A vector that a device encrypted (an enrolment, or a record from
a bulk enrolment) passes the validity gate; its bit stays shared and is multiplied into every coordinate, so that a
valid vector comes out, or zero, and no server knows which. docs/protocol.md.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from veilmatch.crypto.dealing import Kind, Words
from veilmatch.crypto.digests import digest, digest_all
from veilmatch.crypto.encryption.scheme import Scheme
from veilmatch.crypto.gates.boolean import Circuit, Wire
from veilmatch.crypto.gates.multiplication import only_valid, only_valid_cost
from veilmatch.crypto.gates.validity import validate, validity_cost
from veilmatch.crypto.packing import lanes
from veilmatch.crypto.pair.converting import Converter
from veilmatch.crypto.pair.exchange import Exchange, Steps
from veilmatch.crypto.pair.mask import last_masked_words
from veilmatch.crypto.pair.messages import TemplateShare
from veilmatch.crypto.pair.request import Part
from veilmatch.crypto.parameters import ParameterSet


def template_steps(
    exchange: Exchange, converter: Converter, by_device: NDArray[np.bool_], *, told: bool
) -> Steps[None]:
    """Convert vectors and end the session with this holder's shares of them.

    by_device: bool[n], which of them are gated. told: whether the device learns of each of those if it is valid.
    """
    parameters, count, gated_count = exchange.scheme.parameters, len(by_device), int(by_device.sum())
    counts = validity_stock(gated_count, parameters) if gated_count else {}
    if gated_count:
        counts["products"] += only_valid_cost(gated_count, parameters.dimension)
    _, vectors = yield from converter.lanes(
        lambda part: listed_with_origins("templates", exchange.scheme, part),
        lambda _: counts,
        wraps_bounded=False,
        last=True,
    )
    values = vectors.lanes.astype(np.uint64).reshape(count, parameters.dimension)
    valid = np.zeros(0, dtype=np.uint8)
    if not gated_count:
        yield from converter.check_key_safety()
    else:
        gated = vectors.chosen(by_device)
        validity = exchange.running(validity_of(exchange, gated))
        yield from validity.start()
        yield from converter.check_key_safety(validity)
        flags = yield from validity.finish()
        values[by_device] = yield from only_if_valid(exchange, gated.lanes.astype(np.uint64), flags)
        if told:
            valid = np.unpackbits(flags, count=gated_count, bitorder="little") ^ exchange.mask.bits(gated_count)
    yield TemplateShare(exchange.session_id, values.ravel(), exchange.is_plus, valid)


def listed_with_origins(label: str, scheme: Scheme, part: Part) -> bytes:
    """Return the digest of the ciphertexts of a part, and of which of its vectors a device encrypted."""
    listed = digest_all("lanes", map(scheme.serialise, part.ciphertexts))
    return digest(label, listed, np.packbits(part.by_device).tobytes())


def validity_stock(vectors: int, parameters: ParameterSet) -> dict[Kind, int]:
    """Return what `validity_of` uses up."""
    return {"products": vectors * parameters.dimension, "bits": validity_cost(vectors, parameters)}


def validity_of(exchange: Exchange, vectors: lanes.Vectors) -> Circuit:
    """Circuit: return this holder's shares of which of the vectors are valid, packed little-endian."""
    parameters = exchange.scheme.parameters
    products = exchange.products(len(vectors.lanes))
    evaluator = exchange.evaluator(validity_cost(len(vectors.lanes) // parameters.dimension, parameters))
    return validate(vectors.lanes, vectors.above, parameters, exchange.session_id, products, evaluator)


def only_if_valid(exchange: Exchange, values: Words, flags: Wire) -> Steps[Words]:
    """Return this holder's share of every vector that is valid, and of zero for the others: uint64[n, D].

    What the plus holder has less what the minus holder has is coordinate + offset as an integer, not only mod 2^64:
    under the last mask, adding it to the minus holder's part does not wrap.
    """
    parameters, is_plus = exchange.scheme.parameters, exchange.is_plus
    count = len(values) // parameters.dimension
    products = exchange.products(only_valid_cost(count, parameters.dimension))
    circuit = only_valid(flags, values, count, parameters.offset, products, is_plus=is_plus)
    shares = (yield from exchange.run(circuit)) + exchange.mask.words(len(values))
    seed = yield from exchange.last_mask(
        lambda seed: not lanes.words_at_risk(last_masked_words(shares, seed), parameters)
    )
    return last_masked_words(shares, seed).reshape(count, parameters.dimension)
