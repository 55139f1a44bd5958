"""Verify: from the lanes of a probe and the records of one subject to this holder's share of the answer.

Probe and records are converted together, and everything else is a circuit on their shares (gates/verification.py): no
share of the probe leaves the key holders. Both holders were given the records by their matchers, and compare them as
they compare the probe, before anything is opened: what a verification is about is what both matchers hold of the
subject. docs/protocol.md.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.dealing import Kind
from veilmatch.crypto.digests import digest, digest_all
from veilmatch.crypto.gates.boolean import Layer
from veilmatch.crypto.gates.verification import (
    any_reached,
    any_reached_cost,
    inner_products_cost,
    reached,
    reached_cost,
)
from veilmatch.crypto.packing import lanes
from veilmatch.crypto.pair.answers import masked
from veilmatch.crypto.pair.converting import Converter
from veilmatch.crypto.pair.exchange import Exchange, Steps
from veilmatch.crypto.pair.records import validity_of, validity_stock
from veilmatch.crypto.parameters import ParameterSet


def verification_steps(
    exchange: Exchange,
    converter: Converter,
    ciphertexts: list[Integer],
    by_device: NDArray[np.bool_],
    threshold: int,
) -> Steps[None]:
    """Convert a probe and n records after it, and end the session with the decision.

    by_device: bool[1 + n], which of them are gated: the probe, and records that a device encrypted.
    """
    parameters = exchange.scheme.parameters
    listed = digest_all("lanes", map(exchange.scheme.serialise, ciphertexts))
    listed = digest("verification", listed, np.packbits(by_device).tobytes())
    counts = verification_stock(by_device, parameters)
    # Of shares mod 2^64 the products are exact wherever they wrap: nothing bounds how often they do.
    vectors = yield from converter.lanes(ciphertexts, listed, counts, wraps_bounded=False, last=True)
    deciding = exchange.running(_decided(exchange, vectors, by_device, threshold))
    yield from deciding.start()
    yield from converter.check_key_safety(deciding)
    answer, valid = yield from deciding.finish()
    # Not before here: the other one has proved that all it opened was true.
    yield masked(exchange, answer, 1, valid)


def verification_stock(by_device: NDArray[np.bool_], parameters: ParameterSet) -> dict[Kind, int]:
    """Return what a verification uses up beside triples mod N."""
    templates = len(by_device) - 1
    counts = validity_stock(int(by_device.sum()), parameters)
    counts["products"] += inner_products_cost(templates, parameters.dimension)
    counts["bits"] += _deciding_cost(by_device, parameters)
    return counts


def _deciding_cost(by_device: NDArray[np.bool_], parameters: ParameterSet) -> int:
    templates = len(by_device) - 1
    return reached_cost(templates, parameters) + any_reached_cost(templates, gated=bool(by_device[1:].any()))


def _decided(exchange: Exchange, vectors: lanes.Vectors, by_device: NDArray[np.bool_], threshold: int) -> Layer:
    """Circuit: return this holder's shares of the answer, and of whether the probe is valid."""
    parameters = exchange.scheme.parameters
    validity = validity_of(exchange, vectors.chosen(by_device))
    probe, templates = np.split(vectors.lanes, [parameters.dimension])
    products = exchange.products(inner_products_cost(len(by_device) - 1, parameters.dimension))
    evaluator = exchange.evaluator(_deciding_cost(by_device, parameters))
    reaching = reached(probe, templates, threshold, parameters, products, evaluator)
    return any_reached(validity, reaching, by_device[1:], evaluator)
