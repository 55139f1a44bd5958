"""Products mod 2^64, and the multiplication of a vector by its validity bit.

The code works mod 2^64, which cannot be enumerated. Everything that it does up to the mask is ring operations: +, -,
* and reading numbers from bytes. Reduction mod 2^k is a homomorphism of rings, so what the code does on numbers below
2^k, taken mod 2^k, is exactly the protocol over the integers mod 2^k, the same formulas in a smaller ring; that is
enumerated, for k = 2 and 3. It is the claim for that ring and not for 2^64. The proof is the same for all: whatever
is sent is the sum of a value and of a uniform number that is used once (docs/security-argument.md).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tests.enumeration.dealt import product_material, wire
from tests.enumeration.steps import MINUS, PLUS, Alter, run_circuits
from tests.enumeration.views import MINUS_VIEW, PLUS_VIEW, Case, Codes, Views, assignments, joined
from veilmatch.crypto.dealing import Products
from veilmatch.crypto.gates.multiplication import Multiplication, multiply, only_valid, only_valid_cost

#: Of one vector of one coordinate: its bit by its bit, and two cross terms.
FACTORS = only_valid_cost(1, 1)
OFFSET = 2
#: What a holder of `only_valid` has of its dealt factors and products.
HELD = 4


def words(payload: bytes, size: int) -> Codes:
    """Numbers of a message, mod `size`."""
    return (np.frombuffer(payload, dtype="<u8") % np.uint64(size)).astype(np.int64)


def altered(payload: bytes, received: list[bytes]) -> bytes:
    """A holder that sends something else than it should, and lets it depend on what it has received."""
    mine, theirs = (np.frombuffer(part, dtype="<u8") for part in (payload, received[-1]))
    return (np.uint64(3) * mine + theirs + np.uint64(1)).tobytes()


def product_seen_by(holder: int, k: int, alter: Alter | None = None, *, reused: bool = False) -> Views:
    """What a holder sees of one product of its number by each one of the other. reused: the factor of another product,
    of the number 1 of the other holder.
    """
    size = 1 << k
    v = assignments({"mine": size, "factor": size, "product": size, "other": size})
    parts = product_material((v["factor"], v["product"]), v["other"], is_plus=holder == PLUS)
    codes = []
    for secret in range(size):
        numbers = v["mine"], np.full_like(v["mine"], secret)
        circuits = [
            multiply(numbers[at].astype(np.uint64), parts[at], is_plus=(at == 0) == (holder == PLUS)) for at in (0, 1)
        ]
        ordered = circuits if holder == PLUS else circuits[::-1]
        run = run_circuits(ordered[PLUS], ordered[MINUS], holder, alter)
        seen = [words(run.received[holder][0], size), words(run.ended[holder].tobytes(), size)]
        if reused:
            seen.append((1 - v["other"]) % size)
        codes.append(joined(*((part, size) for part in (v["mine"], v["factor"], v["product"], *seen))))
    return Views(np.array(codes))


def masked_vector_seen_by(holder: int, k: int, alter: Alter | None = None) -> Views:
    """What a holder sees while a coordinate is multiplied by its validity bit, for each of both.

    It holds its lane, its share of the bit, and some value of its dealt products.
    """
    size = 1 << k
    names = [f"other {i}" for i in range(FACTORS)]
    v = assignments({"lane": size, "flag": 2, "held": HELD} | dict.fromkeys(names, size))
    n = len(v["lane"])
    rng = np.random.default_rng(5)
    factors, products = (rng.integers(0, size, (FACTORS, HELD))[:, v["held"]] for _ in range(2))
    # `only_valid` takes the products of all vectors' bits first, then those of the plus holder's bits by the minus
    # holder's lanes, then those of the plus holder's lanes by the minus holder's bits.
    material = product_material(
        (factors.ravel(), products.ravel()), np.concatenate([v[name] for name in names]), is_plus=holder == PLUS
    )
    codes = []
    for coordinate in range(size):
        for valid in (0, 1):
            shift = coordinate + OFFSET
            lanes = v["lane"], v["lane"] + (-shift if holder == PLUS else shift)
            flags = v["flag"], v["flag"] ^ valid
            circuits = [
                only_valid(
                    wire(flags[at]), (lanes[at] % size).astype(np.uint64), n, OFFSET, material[at],
                    is_plus=(at == 0) == (holder == PLUS),
                )
                for at in (0, 1)
            ]  # fmt: skip
            ordered = circuits if holder == PLUS else circuits[::-1]
            run = run_circuits(ordered[PLUS], ordered[MINUS], holder, alter)
            seen = [words(payload, size).reshape(-1, n) for payload in (*run.received[holder], run.ended[holder])]
            assert sum(map(len, seen)) == FACTORS + 1
            held = (v["lane"], size), (v["flag"], 2), (v["held"], HELD)
            codes.append(joined(*held, *((row, size) for row in np.concatenate(seen))))
    return Views(np.array(codes))


def masked_vector_opened_is_right(k: int) -> bool:
    """Whether v * x + offset mod 2^k comes out: the circuits that are enumerated are those of the protocol."""
    size, n = 1 << k, 8
    rng = np.random.default_rng(6)
    held = rng.integers(0, size, FACTORS * n), rng.integers(0, size, FACTORS * n)
    plus, minus = product_material(held, rng.integers(0, size, FACTORS * n), is_plus=True)
    lanes, x, flags, valid = (rng.integers(0, high, n) for high in (size, size, 2, 2))

    def circuit(flag: Codes, lane: Codes, material: Products, *, is_plus: bool) -> Multiplication:
        return only_valid(wire(flag), (lane % size).astype(np.uint64), n, OFFSET, material, is_plus=is_plus)

    run = run_circuits(
        circuit(flags, lanes, plus, is_plus=True), circuit(flags ^ valid, lanes - x - OFFSET, minus, is_plus=False)
    )
    return bool(
        np.array_equal((run.ended[PLUS] - run.ended[MINUS]).astype(np.int64) % size, (valid * x + OFFSET) % size)
    )


def cases() -> Iterator[Case]:
    """Both holders."""
    for holder, name in ((PLUS, PLUS_VIEW), (MINUS, MINUS_VIEW)):
        yield Case("product, mod 8", name, "its number, its factor and product", lambda h=holder: product_seen_by(h, 3))
        yield Case("product, mod 8", name, "alters what it opens", lambda h=holder: product_seen_by(h, 3, altered))
        holds = f"its shares, {HELD} values of its products"
        yield Case("vector times valid, mod 4", name, holds, lambda h=holder: masked_vector_seen_by(h, 2))
        yield Case("vector times valid, mod 4", name, "alters what it opens",
                   lambda h=holder: masked_vector_seen_by(h, 2, altered))  # fmt: skip
