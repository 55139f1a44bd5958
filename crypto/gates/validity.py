"""The validity gate: are these plaintexts vectors of the parameter set, on shares and without opening anything.

Valid is a plaintext m = sum v_j * 2^(l*j) over its used lanes of l = `lane_bits` bits with every v_j in [1, 2c+1],
and a vector whose squared norm is in [M_lo, M]. The plus holder has w_plus, the minus holder w_minus, both in [0, N),
with w_plus - w_minus = m mod N; p_j and q_j are their fields at lane j. After the minus holder's rule
(`lanes.at_risk`) every q_j < 2^l - 2(2c+2). The gate checks

    for every used lane j:  p_j = q_j + d_j as integers, for some d_j in [1, 2c+1];
    for every ciphertext:   the bits of w_plus and w_minus above the last used lane are equal;
    for every vector:       M_lo <= sum (p_j - q_j - offset)^2 <= M.

**Sound for every m in [0, N).** If the first two hold, then w_plus - w_minus = sum d_j * 2^(l*j) over the
integers, field by field. That number is in [0, N), so it is m itself and not merely m mod N: whatever
wraps mod N, carries between lanes or bits at the top a dishonest m would cause, it does not pass. **Complete:** for
a valid m nothing wraps or carries (docs/parameters.md), so all three hold, always.

How the first line is checked. With 2^h the smallest power above 2c+1, p_j and q_j are cut into a low part of h
bits and a high part. d = p_low - q_low mod 2^h has to be in [1, 2c+1], and p_high = q_high + carry with carry = 1
if and only if q_low + d >= 2^h, which is p_low < q_low. Both are functions of p_low and q_low: the plus holder
shares the unit vector of its p_low, the minus holder the table of the function at its q_low, and their inner
product is one layer of ANDs. In the second layer carry is multiplied by q_high ^ (q_high + 1), which the minus
holder knows: p_high ^ q_high ^ that product is zero if and only if the high parts fit. q_high + 1 does not
overflow, because 2^h <= 2(2c+2).

All these bits, and the XOR of the bits above, have to be zero. 64 random parities of them are computed without
communication, and two layers AND those (lookup.py): a string that is not zero passes with probability 2^-64. The
parities come from the session id, which both holders' nonces make and no device knows before its request, hence
m, is fixed. Several vectors are checked side by side, each with a bit of its own.

The norm is an inner product of what each holder knows, with dealt products mod 2^64 and one message, and two
comparisons in two layers. It says something only if the coordinates are in range, hence the AND at the end, which is
that of all that is left of the parities.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from veilmatch.crypto.dealing import Products, keystream
from veilmatch.crypto.digests import digest
from veilmatch.crypto.gates.boolean import Circuit, Evaluator, Wire, together
from veilmatch.crypto.gates.lookup import all_at_once, all_one, lookup_cost, lookups, reaches, reaches_cost
from veilmatch.crypto.gates.multiplication import Multiplication, multiply
from veilmatch.crypto.packing.fields import Array
from veilmatch.crypto.parameters import ParameterSet

#: A string of checked bits that is not zero passes with probability 2^-64.
PARITIES = 64
#: They become so many in the third layer, eight at a time, and what comes out is joined with the norms in the fourth.
_GROUPS = 8
#: The strings are taken in pieces of this size, so that large ones need no table of many megabytes.
_PIECE_WORDS = 1 << 13


def validate(
    lanes: Array, above: Wire, parameters: ParameterSet, session_id: bytes, products: Products, evaluator: Evaluator
) -> Circuit:
    """Circuit: return shares of "this vector is valid" of n vectors, packed, little-endian; 4 layers.

    lanes: this holder's lanes of n vectors, int64[n*D] in [0, 2^lane_bits), after the minus holder's rule. above: all
    bits above the last used lanes, uint8 (lanes.above). products: n*D of them, fresh. Uses `validity_cost` triple
    bytes.
    """
    coordinates, norms = yield from together(
        _coordinates(lanes, above, parameters, session_id, evaluator),
        _norms(lanes, parameters, products, evaluator),
    )
    (valid,) = yield from all_at_once(np.concatenate([coordinates, norms]), evaluator)
    return _packed(valid)


def validity_cost(vectors: int, parameters: ParameterSet) -> int:
    """Return how many triple bytes `validate` uses for so many vectors."""
    h, lanes = _low_bits(parameters.clip), -(-vectors * parameters.dimension // 8)
    deviations = (2 * (1 << h) + parameters.lane_bits - h) * lanes
    parities = lookup_cost(_GROUPS * vectors, PARITIES // _GROUPS, 1)
    norms = reaches_cost(2 * vectors, _norm_bits(parameters))
    return deviations + parities + norms + lookup_cost(vectors, _GROUPS + 2, 1)


def deviations(lanes: Array, clip: int, width: int, evaluator: Evaluator) -> Circuit:
    """Circuit: return uint8[rows, bytes]; column j is zero if and only if lane j is in range. Two layers.

    lanes: int64[n] in [0, 2^width), those of the minus holder below 2^width - 2^h. Columns: lanes, eight to a
    byte, little-endian.
    """
    h = _low_bits(clip)
    kind = np.min_scalar_type((1 << h) - 1)
    low, high = (lanes & ((1 << h) - 1)).astype(kind), lanes >> h
    value = np.arange(1 << h, dtype=kind)[:, None]
    known = np.empty((2, 1 << h, len(lanes)), dtype=np.bool_)
    if evaluator.is_plus:
        np.equal(value, low, out=known[0])
        known[1] = known[0]
    else:
        # 1 <= difference <= 2c+1: a difference of 0 is the largest of all, less one.
        np.less_equal((value - low & kind.type((1 << h) - 1)) - kind.type(1), 2 * clip, out=known[0])
        np.logical_and(known[0], value < low, out=known[1])
    looked_up = yield from evaluator.crossed(_packed(known).ravel())
    fits, carry = np.bitwise_xor.reduce(looked_up.reshape(2, 1 << h, -1), axis=1)

    step = _bit_rows(high ^ (high + 1), width - h)
    mine = np.zeros_like(step) if evaluator.is_plus else step
    (carried,) = yield from evaluator.all_of([np.tile(carry, width - h)], [mine.ravel()])
    unequal = _bit_rows(high, width - h) ^ carried.reshape(step.shape)
    misfits = evaluator.negate(fits) & _packed(
        np.ones(len(lanes), dtype=np.bool_)
    )  # the last byte has columns of no lane
    return np.concatenate([unequal, misfits[None]])


def _coordinates(
    lanes: Array, above: Wire, parameters: ParameterSet, session_id: bytes, evaluator: Evaluator
) -> Circuit:
    """Circuit: shares of rows that are all one if every lane of a vector is in range and every bit above zero.

    uint8[_GROUPS, vectors]. Three layers.
    """
    width = parameters.lane_bits
    rows = yield from deviations(lanes & ((1 << width) - 1), parameters.clip, width, evaluator)
    of_lanes = np.unpackbits(rows, axis=1, count=len(lanes), bitorder="little")
    vectors = len(lanes) // parameters.dimension
    by_vector = of_lanes.reshape(len(rows), vectors, parameters.dimension).swapaxes(0, 1)
    strings = np.concatenate([_packed(by_vector.reshape(vectors, -1)), above.reshape(vectors, -1)], axis=1)
    right = _parities(strings, session_id) ^ np.uint8(evaluator.is_plus)
    # Of each vector _GROUPS numbers, whose bits are to be all one.
    numbers = np.packbits(right.reshape(vectors, _GROUPS, -1), axis=2, bitorder="little")[:, :, 0]
    (found,) = yield from lookups([all_one(numbers.T.ravel().astype(np.int64), PARITIES // _GROUPS)], evaluator)
    return found.reshape(_GROUPS, vectors)


def _norms(lanes: Array, parameters: ParameterSet, products: Products, evaluator: Evaluator) -> Circuit:
    """Circuit: shares of "the norm not below its window", and "not above it", if every coordinate is in range.

    uint8[2, vectors]. Three layers.
    """
    norms = yield from _norm_shares(lanes, parameters, products, evaluator)
    low, high = np.uint64(parameters.norm_min), np.uint64(parameters.norm_max)
    nothing = np.zeros_like(norms)
    inputs = [norms - low, high - norms] if evaluator.is_plus else [nothing - norms, norms]
    bits = _norm_bits(parameters)
    within = yield from reaches((np.concatenate(inputs) & np.uint64((1 << bits) - 1)).astype(np.int64), bits, evaluator)
    return within.reshape(2, -1)


def _norm_shares(lanes: Array, parameters: ParameterSet, products: Products, evaluator: Evaluator) -> Multiplication:
    """One layer: uint64[n]; the difference of both holders' is the squared norm of each vector mod 2^64.

    sum (p - q)^2 = sum p^2 + sum q^2 - 2 sum pq, with p - offset for p.
    """
    is_plus = evaluator.is_plus
    mine = (lanes - parameters.offset if is_plus else lanes).astype(np.uint64)
    crossed = yield from multiply(mine, products, is_plus=is_plus)
    own = mine * mine if is_plus else np.uint64(0) - mine * mine
    return np.asarray((own - np.uint64(2) * crossed).reshape(-1, parameters.dimension).sum(axis=1), dtype=np.uint64)


def _parities(strings: Wire, session_id: bytes) -> Wire:
    """Return uint8[n, PARITIES] of 0 or 1: parities of each string's bits at random places. Linear, hence local.

    strings: uint8[n, bytes]. The places are the same for all of them.
    """
    words = np.zeros((len(strings), -(-strings.shape[1] // 8)), dtype=np.uint64)
    words.view(np.uint8)[:, : strings.shape[1]] = strings
    folded = np.zeros((len(strings), PARITIES), dtype=np.uint64)
    for at in range(0, words.shape[1], _PIECE_WORDS):
        pieces = words[:, at : at + _PIECE_WORDS]
        stream = keystream(digest("validity parities", session_id, at), 0, 8 * PARITIES * pieces.shape[1])
        places = np.frombuffer(stream, dtype=np.uint64).reshape(PARITIES, -1)
        for vector, piece in enumerate(pieces):
            folded[vector] ^= np.bitwise_xor.reduce(places & piece, axis=1)
    return np.bitwise_count(folded) & np.uint8(1)


def _packed(bits: NDArray[np.bool_] | Wire) -> Wire:
    """Pack along the last axis, eight lanes to a byte."""
    return np.packbits(bits, axis=-1, bitorder="little")


def _bit_rows(values: Array, count: int) -> Wire:
    """Return uint8[count, bytes]: the lowest bits of values >= 0, a row each, eight values to a byte, little-endian."""
    data = values.astype("<i8").view(np.uint8).reshape(-1, 8)
    bits = np.unpackbits(data, axis=1, count=count, bitorder="little")
    return _packed(np.ascontiguousarray(bits.T))


def _low_bits(clip: int) -> int:
    """h: bits of the smallest power of two above 2c+1."""
    return (2 * clip + 1).bit_length()


def _norm_bits(parameters: ParameterSet) -> int:
    """Bits in which norms of vectors in range are compared with M_lo and M, the sign included."""
    return max(parameters.dimension * parameters.clip**2, parameters.norm_max).bit_length() + 1
