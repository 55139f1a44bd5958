"""Enrol unless known: a search and an enrolment in one session, and nothing of what was found is opened.

The probe is what is to be stored. `known` is searched for in the gallery as it is; then every coordinate is multiplied
by valid AND NOT known, a bit that stays shared, as an enrolment does by valid alone (records.py). What the matchers
store is the vector, or zero, which matches nobody: they see the same messages either way. The device alone learns the
two bits, in shares. docs/protocol.md.

A probe may have several views. The face is known if any of them is; the first one is stored.
"""

from __future__ import annotations

import numpy as np

from veilmatch.crypto.gates.multiplication import only_valid_cost
from veilmatch.crypto.pair.answers import searched
from veilmatch.crypto.pair.converting import Converter
from veilmatch.crypto.pair.exchange import Exchange, Steps
from veilmatch.crypto.pair.messages import TemplateShare
from veilmatch.crypto.pair.records import only_if_valid

#: What the device is told: whether all views are valid, and whether the face is known.
TOLD_BITS = 2


def unless_known_steps(exchange: Exchange, converter: Converter, threshold: int, views: int) -> Steps[None]:
    """Convert a probe, search for it, and end the session with this holder's shares of what is to be stored."""
    dimension = exchange.scheme.parameters.dimension
    found = yield from searched(exchange, converter, "known", threshold, views, only_valid_cost(1, dimension))
    valid, known = found.valid & np.uint8(1), found.bits & np.uint8(1)
    # known is ANDed with valid already, so this is valid AND NOT known.
    stored = valid ^ known
    first = found.probe.lanes[:dimension].astype(np.uint64)
    values = yield from only_if_valid(exchange, first, stored)
    told = np.concatenate([valid, known]) ^ exchange.mask.bits(TOLD_BITS)
    yield TemplateShare(exchange.session_id, values.ravel(), exchange.is_plus, told)
