"""Verify: from the lanes of probes and the records of their subjects to this holder's shares of the answers.

A probe may have several views: each is compared with each record, and the answer is whether any of all these reaches
the threshold, and all views are valid.

Verifications that wait at the same time go together, each with a request, a threshold and records of its own; one that
is alone goes together with none. Probes and records are converted together, and everything else is a circuit on their
shares (gates/verification.py): no share of a probe leaves the key holders. The circuit of each request is its own, all
run side by side, and no gate takes values of two of them. Both holders were given the records by their matchers, and
compare them as they compare the probe, before anything is opened: what a verification is about is what both matchers
hold of the subject. docs/protocol.md.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from veilmatch.crypto.dealing import Kind
from veilmatch.crypto.digests import digest
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
from veilmatch.crypto.pair.records import listed_with_origins, validity_of, validity_stock
from veilmatch.crypto.pair.request import Part
from veilmatch.crypto.parameters import ParameterSet

#: Of one verification, which of its vectors are gated: all views of the probe, and records that a device encrypted.
Origins = NDArray[np.bool_]


def verification_steps(exchange: Exchange, converter: Converter) -> Steps[None]:
    """Convert the probe of each part and the records after it, and end the session with a decision of each."""
    parameters = exchange.scheme.parameters
    # Of shares mod 2^64 the products are exact wherever they wrap: nothing bounds how often they do.
    parts, vectors = yield from converter.lanes(
        lambda part: listed_with_origins("verification", exchange.scheme, part),
        lambda parts: verification_stock([part.by_device for part in parts], parameters, [p.views for p in parts]),
        wraps_bounded=False,
        last=True,
    )
    deciding = exchange.running(_decided(exchange, vectors, parts))
    yield from deciding.start()
    yield from converter.check_key_safety(deciding)
    answers, valid = yield from deciding.finish()
    # Not before here: the other one has proved that all it opened was true.
    for i, part in enumerate(parts):
        named = verification_id(exchange.session_id, part.request.context())
        yield masked(exchange, answers[i : i + 1], 1, valid[i : i + 1], named)


def verification_id(session_id: bytes, context: bytes) -> bytes:
    """Return the 32 bytes by which a request knows a session that it may share with others. context: of the request."""
    return digest("verification in a session", session_id, context)


def verification_stock(
    origins: Sequence[Origins], parameters: ParameterSet, views: Sequence[int] | None = None
) -> dict[Kind, int]:
    """Return what verifications use up together beside triples mod N. views: of each probe; None: one each."""
    of_probes = [1] * len(origins) if views is None else views
    counts = validity_stock(sum(int(gated.sum()) for gated in origins), parameters)
    counts["products"] += inner_products_cost(_compared(origins, of_probes), parameters.dimension)
    counts["bits"] += _deciding_cost(origins, parameters, of_probes)
    return counts


def _compared(origins: Sequence[Origins], views: Sequence[int]) -> int:
    """How many scores there are: of each view with each record."""
    return sum(n * (len(gated) - n) for gated, n in zip(origins, views, strict=True))


def _of_pairs(origins: Sequence[Origins], views: Sequence[int]) -> list[NDArray[np.bool_]]:
    """Which of the compared records of each request are gated: those of its first view, then of the next."""
    return [np.tile(gated[n:], n) for gated, n in zip(origins, views, strict=True)]


def _deciding_cost(origins: Sequence[Origins], parameters: ParameterSet, views: Sequence[int]) -> int:
    compared = reached_cost(_compared(origins, views), parameters)
    return compared + any_reached_cost(_of_pairs(origins, views), views)


def _decided(exchange: Exchange, vectors: lanes.Vectors, parts: Sequence[Part]) -> Layer:
    """Circuit: return this holder's shares of the answers, and of whether the probes are valid, uint8[m] each."""
    parameters, origins = exchange.scheme.parameters, [part.by_device for part in parts]
    views = [part.views for part in parts]
    validity = validity_of(exchange, vectors.chosen(np.concatenate(origins)))
    compared = _of_pairs(origins, views)
    values = np.split(vectors.lanes.reshape(sum(map(len, origins)), -1), np.cumsum([len(g) for g in origins])[:-1])
    probes = [np.repeat(of_one[:n], len(of_one) - n, axis=0) for of_one, n in zip(values, views, strict=True)]
    templates = [np.tile(of_one[n:], (n, 1)) for of_one, n in zip(values, views, strict=True)]
    thresholds = np.repeat([part.request.threshold for part in parts], list(map(len, compared)))
    products = exchange.products(inner_products_cost(_compared(origins, views), parameters.dimension))
    evaluator = exchange.evaluator(_deciding_cost(origins, parameters, views))
    reaching = reached(
        np.concatenate(probes).ravel(), np.concatenate(templates).ravel(), thresholds, parameters, products, evaluator
    )
    return any_reached(validity, reaching, compared, evaluator, views)
