"""What the matchers and key holders compute is the same number on every backend."""

from __future__ import annotations

import secrets

import pytest

from tests.crypto.toys import TOY, split_toy_key, toy_key, toy_public_key
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.encryption.paillier import Paillier
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.crypto.rings import choice
from veilmatch.crypto.secret_access import SECRET_ACCESS

#: The smallest key and the one of an installation.
PARAMETERS = (TOY, ParameterSet(dimension=128, scale=60, clip=23, modulus_bits=3072))


@pytest.fixture(params=PARAMETERS, ids=lambda parameters: parameters.name, scope="module")
def schemes(request: pytest.FixtureRequest) -> dict[str, Paillier]:
    """One scheme on each backend, of one key."""
    with pytest.MonkeyPatch.context() as patch:
        made = {}
        for backend in choice.available():
            patch.setenv(choice.VARIABLE, backend)
            made[backend] = Paillier(toy_public_key(request.param))
    return made


@pytest.fixture(scope="module")
def reference(schemes: dict[str, Paillier]) -> Paillier:
    return schemes[choice.REFERENCE]


def test_schemes_are_on_unlike_backends(schemes: dict[str, Paillier]) -> None:
    assert len(schemes) > 1
    rings = [getattr(scheme.ring, "backend", choice.REFERENCE) for scheme in schemes.values()]
    assert rings == list(schemes)


def plaintext_edges(N: Integer) -> list[Integer]:
    return [Integer(m) for m in (0, 1, 2, N - 1, N // 2, N // 2 + 1, 12345)]


def test_local_shares_and_fingerprints_are_the_same(schemes: dict[str, Paillier], reference: Paillier) -> None:
    public_key = reference.public_key
    ciphertexts = [scheme.encrypt(m) for scheme in schemes.values() for m in plaintext_edges(reference.modulus)]
    ciphertexts += [Integer(1), reference.modulus**2 - 1, reference.encode(Integer(7))]
    for share in split_toy_key(public_key):
        exponent = share.exponent(public_key, SECRET_ACCESS)
        expected = reference.local_shares(ciphertexts, exponent)
        for scheme in schemes.values():
            found = scheme.local_shares(ciphertexts, exponent)
            assert [(s.z, s.fingerprint) for s in found] == [(s.z, s.fingerprint) for s in expected]


def test_shares_of_two_backends_convert_a_plaintext(schemes: dict[str, Paillier], reference: Paillier) -> None:
    """The two key holders of a pair need not run the same backend."""
    public_key, N = reference.public_key, reference.modulus
    plus, minus = (share.exponent(public_key, SECRET_ACCESS) for share in split_toy_key(public_key))
    o, edges = toy_key(public_key.parameters.modulus_bits).o, plaintext_edges(N)
    for one in schemes.values():
        ciphertexts = [one.encrypt(m) for m in edges]
        for other in schemes.values():
            pairs = zip(one.local_shares(ciphertexts, plus), other.local_shares(ciphertexts, minus), strict=True)
            assert [(a.z - b.z) % N for a, b in pairs] == [o * m % N for m in edges]


EXPONENTS = ("random", "zeros", "ones", "largest", "one of them")


@pytest.mark.parametrize("kind", EXPONENTS)
def test_products_of_packs_are_the_same(schemes: dict[str, Paillier], reference: Paillier, kind: str) -> None:
    p = reference.parameters
    top = (1 << p.ring_bits) - 1
    exponents = {
        "random": [secrets.randbits(p.ring_bits) for _ in range(p.dimension)],
        "zeros": [0] * p.dimension,
        "ones": [1] * p.dimension,
        "largest": [top] * p.dimension,
        "one of them": [top if i == p.dimension // 2 else 0 for i in range(p.dimension)],
    }[kind]
    packs = [reference.encrypt_many([Integer(i + 1)] * p.dimension) for i in range(3)]
    expected = [reference.product_of_powers(pack, exponents, p.ring_bits) for pack in packs]
    for scheme in schemes.values():
        assert [scheme.product_of_powers(pack, exponents, p.ring_bits) for pack in packs] == expected
        group, lanes = scheme.pack_group(), range(min(scheme.ring.lanes, len(packs)))
        for lane in lanes:
            group.put(lane, packs[lane])
        assert group.products_of_powers(exponents, p.ring_bits)[: len(lanes)] == expected[: len(lanes)]


@pytest.mark.parametrize("kind", ["random", "zeros", "one"])
def test_one_query_over_many_groups_is_the_same(schemes: dict[str, Paillier], reference: Paillier, kind: str) -> None:
    """As a matcher searches: one vector of exponents, all groups of packs at once, the last one not full."""
    p = reference.parameters
    exponents = {
        "random": [secrets.randbits(p.ring_bits) for _ in range(p.dimension)],
        "zeros": [0] * p.dimension,
        "one": [0] * (p.dimension - 1) + [1],
    }[kind]
    column = reference.encrypt_many([Integer(i) for i in range(9)])
    packs = [[column[(i + j) % 9] for j in range(p.dimension)] for i in range(9)]
    expected = [reference.product_of_powers(pack, exponents, p.ring_bits) for pack in packs]
    for scheme in schemes.values():
        lanes = scheme.ring.lanes
        groups = [scheme.pack_group() for _ in range(-(-len(packs) // lanes))]
        for number, pack in enumerate(packs):
            groups[number // lanes].put(number % lanes, pack)
        compiled = scheme.ring.compile(exponents, p.ring_bits)
        found = [x for group in groups for x in group.products(compiled, range(lanes))]
        assert found[: len(packs)] == expected


def test_fresh_zeros_of_every_backend_are_in_the_subgroup(schemes: dict[str, Paillier]) -> None:
    for scheme in schemes.values():
        key = toy_key(scheme.parameters.modulus_bits)
        zeros = scheme.encrypt_zeros(11)
        assert all(pow(int(zero), key.o, key.square) == 1 for zero in zeros)
        assert len(set(zeros)) == len(zeros)
        assert scheme.encrypt_zeros(0) == []


@pytest.mark.parametrize("asked", [[0], [8], [0, 1, 2, 5, 8], list(range(9))])
def test_randomised_products_are_products_times_powers_of_the_base(
    schemes: dict[str, Paillier], reference: Paillier, asked: list[int]
) -> None:
    """Each times an element of the subgroup, which is another one each time."""
    p, key = reference.parameters, toy_key(reference.parameters.modulus_bits)
    column = [reference.serialise(c) for c in reference.encrypt_many([Integer(i) for i in range(9)])]
    packs = [[column[(i + j) % 9] for j in range(p.dimension)] for i in range(9)]
    exponents = [secrets.randbits(p.ring_bits) for _ in range(p.dimension)]
    for scheme in schemes.values():
        lanes, by_group = scheme.ring.lanes, dict[int, list[int]]()
        groups = [scheme.pack_group() for _ in range(-(-len(packs) // lanes))]
        for number, pack in enumerate(packs):
            groups[number // lanes].load({number % lanes: b"".join(pack)})
        for number in asked:
            by_group.setdefault(number // lanes, []).append(number % lanes)
        compiled = scheme.ring.compile(exponents, p.ring_bits)
        of_groups = [(groups[group], chosen) for group, chosen in by_group.items()]
        products = [x for group, chosen in of_groups for x in group.products(compiled, chosen)]
        seen: set[int] = set()
        for _ in range(2):
            answer = scheme.randomised_products(of_groups, compiled)
            found = [answer[at : at + p.ciphertext_bytes] for at in range(0, len(answer), p.ciphertext_bytes)]
            zeros = [
                int(scheme.divide(scheme.parse(data), product)) for data, product in zip(found, products, strict=True)
            ]
            assert all(pow(zero, key.o, key.square) == 1 for zero in zeros)
            seen.update(zeros)
        assert len(seen) == 2 * len(asked) and 1 not in seen


@pytest.mark.parametrize("asked", [[0], [3, 8], [0, 1, 2, 5], [0, 1, 2, 5, 8], list(range(9))])
def test_products_times_are_products_times_these_numbers(
    schemes: dict[str, Paillier], reference: Paillier, asked: list[int]
) -> None:
    p, modulus = reference.parameters, int(reference.modulus)
    column = [reference.serialise(c) for c in reference.encrypt_many([Integer(i) for i in range(9)])]
    packs = [[column[(i + j) % 9] for j in range(p.dimension)] for i in range(9)]
    exponents = [secrets.randbits(p.ring_bits) for _ in range(p.dimension)]
    edges = [Integer(1), Integer(modulus**2 - 1), Integer(modulus), Integer(modulus - 1)]
    factors = [*edges, *reference.encrypt_zeros(5)][: len(asked)]
    joined = b"".join(map(reference.serialise, factors))
    numbers = [reference.parse_many(packs[number]) for number in asked]
    products = [reference.product_of_powers(pack, exponents, p.ring_bits) for pack in numbers]
    expected = [reference.serialise(reference.multiply(x, y)) for x, y in zip(products, factors, strict=True)]
    for scheme in schemes.values():
        lanes, by_group = scheme.ring.lanes, dict[int, list[int]]()
        groups = [scheme.pack_group() for _ in range(-(-len(packs) // lanes))]
        for number, pack in enumerate(packs):
            groups[number // lanes].load({number % lanes: b"".join(pack)})
        for number in asked:
            by_group.setdefault(number // lanes, []).append(number % lanes)
        compiled = scheme.ring.compile(exponents, p.ring_bits)
        of_groups = [(groups[group], chosen) for group, chosen in by_group.items()]
        assert scheme.products_times(of_groups, compiled, joined) == b"".join(expected)
        for wrong in (joined[p.ciphertext_bytes :], joined + joined[: p.ciphertext_bytes]):
            with pytest.raises(ValueError):
                scheme.products_times(of_groups, compiled, wrong)
