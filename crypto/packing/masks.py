"""Common fresh masks: the minus holder's remedy where too many shares of a probe lie near the wrap point of 2^k.

It sends a seed, and both holders add the mask that the seed makes to their shares of the probe: the difference stays,
the shares are as uniform as before. Its choice depends on its own uniform share only. DESIGN.md section 3.
"""

from __future__ import annotations

import numpy as np

from veilmatch.crypto.arithmetic import random_bits, to_bytes
from veilmatch.crypto.dealing import keystream
from veilmatch.crypto.packing import lanes
from veilmatch.crypto.packing.fields import Array
from veilmatch.crypto.parameters import ParameterSet

MASK_SEED_BYTES = 16


def seed_for(ring: Array, parameters: ParameterSet) -> bytes:
    """Return b"" if the wraps of the minus holder's share are within bounds, else a seed that brings them there."""
    seed = b""
    while lanes.wraps_at_risk(masked(ring, seed, parameters), parameters) > parameters.wrap_limit:
        seed = to_bytes(random_bits(8 * MASK_SEED_BYTES), MASK_SEED_BYTES)
    return seed


def masked(ring: Array, seed: bytes, parameters: ParameterSet) -> Array:
    """Return ring plus the mask of `seed`, int64[D] in [0, 2^k); ring itself for b""."""
    if not seed:
        return ring
    mask = np.frombuffer(keystream(seed, 0, 4 * len(ring)), dtype="<u4").astype(np.int64)
    return (ring + mask) & ((1 << parameters.ring_bits) - 1)
