"""From shared factors to keys: N, biprimality, h, shares, Gammas and tags, on the toy key's factors."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

import gmpy2
import pytest

from tests.crypto.ceremony.factors import KeySession, toy_factors
from tests.crypto.ceremony.table import Ceremony, Played, combined, dealt, play
from tests.crypto.toys import TOY, toy_key
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.ceremony import biprimality, replicated
from veilmatch.crypto.ceremony.biprimality import require_two_primes
from veilmatch.crypto.ceremony.generator import make_generator
from veilmatch.crypto.ceremony.joint.sizes import Sizes
from veilmatch.crypto.ceremony.joint.steps import JointKey
from veilmatch.crypto.ceremony.masking import masked
from veilmatch.crypto.ceremony.session import Session
from veilmatch.crypto.ceremony.shared import Shared
from veilmatch.crypto.encryption.paillier import Paillier
from veilmatch.crypto.errors import IntegrityError, VeilmatchError
from veilmatch.crypto.keys import ceremony as dealers
from veilmatch.crypto.keys.parties import PAIRS, PARTIES, Pair, Party, dealer_of, other_party
from veilmatch.crypto.keys.shares import DealerGammas, KeyHolderKey, PairShare, SafetyShare
from veilmatch.crypto.secret_access import SECRET_ACCESS

KEY = toy_key(512)
SIZES = Sizes(TOY)
P_COFACTOR, Q_COFACTOR = (KEY.P - 1) // (2 * KEY.p), (KEY.Q - 1) // (2 * KEY.q)


@dataclass
class KeyCeremony(Ceremony):
    """Three sessions that have the toy key's factors."""

    def __post_init__(self) -> None:
        factors = toy_factors()
        self.sessions: dict[Party, Session[JointKey]] = {p: KeySession(p, factors[p]) for p in PARTIES}


@pytest.fixture
def few_repetitions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(biprimality, "REPETITIONS", 6)


# -- what a key has to be --------------------------------------------------------------------------------------


def require_sound(keys: dict[Party, JointKey], parameters: object = TOY, epoch: int = 1) -> None:
    """Everything that the ceremony with a dealer checks, and what only somebody with all shares can."""
    (public_key,) = {k.public_key for k in keys.values()}
    N, hs = public_key.modulus, public_key.hs
    assert public_key.parameters == parameters
    of: dict[tuple[Pair, Party], tuple[PairShare, SafetyShare]] = {
        (pair, p): (keys[p].key.share(pair), keys[p].key.safety(pair)) for pair in PAIRS for p in PARTIES if p in pair
    }
    exponents = {at: int(share.stored_exponent(SECRET_ACCESS)) for at, (share, _) in of.items()}
    (o,) = {exponents[pair, plus_of(pair)] - exponents[pair, minus_of(pair)] for pair in PAIRS}
    assert o.bit_length() == public_key.subgroup_order_bits
    assert gmpy2.powmod(hs, o, N * N) == 1 and all(gmpy2.powmod(hs, o // f, N * N) != 1 for f in (2, *factors_of(o)))
    for pair in PAIRS:
        shares, safety = zip(*(of[pair, p] for p in (plus_of(pair), minus_of(pair))), strict=True)
        assert (shares[0].kappa(SECRET_ACCESS) - shares[1].kappa(SECRET_ACCESS)) * o % N == 1
        gammas = keys[dealer_of(pair)].key.dealer_gammas(SECRET_ACCESS)
        require_safety(pair, o, N, shares, safety, gammas)  # type: ignore[arg-type]
        dealers._check_conversions(public_key, shares, safety, gammas)  # type: ignore[arg-type]
    for p in PARTIES:
        data = keys[p].key.to_secret_bytes(public_key, SECRET_ACCESS)
        again = KeyHolderKey.from_secret_bytes(data, public_key)
        assert again.to_secret_bytes(public_key, SECRET_ACCESS) == data and again.party == p
        assert again == keys[p].key and (again.epoch, again.since) == (epoch, epoch)
    scheme = Paillier(public_key)
    u, v = (
        scheme.local_shares([scheme.encrypt(Integer(7))], of["bc", p][0].exponent(public_key, SECRET_ACCESS))[0]
        for p in ("b", "c")
    )
    assert u.z != v.z
    assert len({keys[p].key.dealing_seed(SECRET_ACCESS) for p in PARTIES}) == 3


def require_safety(
    pair: Pair,
    o: int,
    N: int,
    shares: tuple[PairShare, PairShare],
    safety: tuple[SafetyShare, SafetyShare],
    gammas: DealerGammas,
) -> None:
    """Gamma of each direction: at verifier and dealer, t_plus - t_minus = Gamma*o, tag = key + Gamma*kappa."""
    for verifier in (0, 1):
        gamma = gammas.of_verifier(is_plus=verifier == 0, access=SECRET_ACCESS)
        assert safety[verifier].gamma(SECRET_ACCESS) == gamma
        t = [safety[holder].stored_exponents(SECRET_ACCESS)[0 if holder == verifier else 1] for holder in (0, 1)]
        assert t[0] - t[1] == gamma * o
        prover = 1 - verifier
        tag = safety[verifier].kappa_key(SECRET_ACCESS) + gamma * shares[prover].kappa(SECRET_ACCESS)
        assert safety[prover].kappa_tag(SECRET_ACCESS) == tag % N


def factors_of(o: int) -> tuple[int, ...]:
    """p and q, where they are those of the toy key."""
    return (KEY.p, KEY.q) if o == 2 * KEY.p * KEY.q else ()


def plus_of(pair: Pair) -> Party:
    return next(p for p in PARTIES if p == pair[0])


def minus_of(pair: Pair) -> Party:
    return other_party(pair, plus_of(pair))


def keys_of(ceremony: Ceremony) -> dict[Party, JointKey]:
    assert not ceremony.errors, ceremony.errors
    made = {p: session.result for p, session in ceremony.sessions.items()}
    assert all(made.values())
    return made  # type: ignore[return-value]


def test_shared_factors_become_the_keys_that_a_dealer_would_make() -> None:
    keys = keys_of(KeyCeremony(TOY).run())
    require_sound(keys)
    assert keys["a"].public_key.modulus == KEY.N
    assert "JointKey" in repr(keys["a"]) and str(KEY.p) not in repr(keys["a"])


def test_shares_are_as_long_as_a_dealer_makes_them() -> None:
    keys = [keys_of(KeyCeremony(TOY).run()) for _ in range(3)]
    for pair in PAIRS:
        lengths = [int(k[minus_of(pair)].key.share(pair).stored_exponent(SECRET_ACCESS)).bit_length() for k in keys]
        assert max(lengths) > SIZES.order_bits + 128 - 24 and max(lengths) <= SIZES.order_bits + 128


# -- the pieces ----------------------------------------------------------------------------------------------


def two_primes(P: int, Q: int, N: int | None = None, bits: int = 256) -> Played:
    """Ask the three whether N is a product of two primes, of shared P + Q."""
    total = dealt([P + Q], int(SIZES.room))
    return play(lambda seat: require_two_primes(seat, Integer(N or P * Q), total[seat.party], bits))


@pytest.mark.parametrize("bits", [20, 64, 256])
def test_products_of_two_primes_that_are_3_mod_4_are_accepted(bits: int) -> None:
    P, Q = (prime_3_mod_4(bits) for _ in range(2))
    played = two_primes(P, Q, bits=bits)
    assert not played.errors and played.rounds == 5


@pytest.mark.parametrize("case", ["P composite", "both composite", "another sum", "prime power"])
def test_others_are_refused_by_all(case: str) -> None:
    P, Q = (prime_3_mod_4(64) for _ in range(2))
    composite = prime_3_mod_4(32) * int(gmpy2.next_prime(1 << 31 | random.randrange(1 << 20) * 4))
    composite = next(x for x in range(composite | 3, composite + 10_000, 4) if not gmpy2.is_prime(x))
    numbers = {
        "P composite": (composite, Q, None), "both composite": (composite, composite + 4 * 3 * 5 * 7, None),
        "another sum": (P, Q + 4, P * Q), "prime power": (P, P * P, None),
    }[case]  # fmt: skip
    played = two_primes(*numbers, bits=130)
    assert set(played.errors) == set(PARTIES)
    assert all(type(error) is IntegrityError for error in played.errors.values())


def test_of_small_products_those_of_two_primes_are_accepted() -> None:
    accepted, refused = 0, 0
    for P in (7, 11, 15, 19, 27, 35):
        for Q in (23, 31, 39, 43):
            right = bool(gmpy2.is_prime(P) and gmpy2.is_prime(Q))
            if math.gcd(P * Q, P + Q - 1) == 1:
                assert bool(two_primes(P, Q, bits=8).errors) != right
                accepted, refused = accepted + right, refused + (not right)
    assert accepted > 3 and refused > 3


def prime_3_mod_4(bits: int) -> int:
    while True:
        x = int(gmpy2.next_prime(random.randrange(3 << (bits - 2), (1 << bits) - (1 << (bits // 2)))))
        if x % 4 == 3 and x.bit_length() == bits:
            return x


def test_the_generator_has_the_order_of_a_dealers() -> None:
    cofactors = dealt([P_COFACTOR * Q_COFACTOR], int(SIZES.room))
    played = play(lambda seat: make_generator(seat, Integer(KEY.N), cofactors[seat.party], SIZES.cofactor_bits + 2))
    (h,) = set(played.of_all())
    assert pow(int(h), KEY.p * KEY.q, KEY.N) == KEY.N - 1
    assert math.gcd(pow(int(h), 2, KEY.N) - 1, KEY.N) == 1
    assert played.rounds == 5


def test_pairs_that_get_different_generators_refuse_them() -> None:
    cofactors = dealt([P_COFACTOR * Q_COFACTOR], int(SIZES.room))
    wrong = Shared("b", [x + 2 for x in cofactors["b"].behind], cofactors["b"].ahead, cofactors["b"].modulus)
    given = {**cofactors, "b": wrong}
    played = play(lambda seat: make_generator(seat, Integer(KEY.N), given[seat.party], SIZES.cofactor_bits + 2))
    assert played.errors


@pytest.mark.parametrize("learner", PARTIES)
@pytest.mark.parametrize("drawer", PARTIES)
def test_a_number_under_a_mask_is_their_sum_and_two_know_a_part(learner: Party, drawer: Party) -> None:
    if learner == drawer:
        return
    x = dealt([12345], 2**64)
    played = play(lambda seat: masked(seat, x[seat.party], learner, drawer, lambda: Integer(777)))
    made = dict(zip(PARTIES, played.of_all(), strict=True))
    assert {p: m.mine for p, m in made.items() if m.mine} == {learner: (13122,), drawer: (777,)}
    assert combined([m.of_learner for m in made.values()]) == [13122]
    assert combined([m.of_drawer for m in made.values()]) == [777] and played.rounds == 2


# -- a party that deviates --------------------------------------------------------------------------------------

KEY_ROUNDS = 38


def altered(at: int, deviates: Party, to: Party) -> Ceremony:
    """A run in which one message has another bit."""

    def alter(number: int, peer: Party, payload: bytes) -> bytes:
        if number != at or peer != to or not payload:
            return payload
        place = len(payload) // 2
        return payload[:place] + bytes([payload[place] ^ 1]) + payload[place + 1 :]

    return KeyCeremony(TOY, deviates, alter).run()


def test_as_many_rounds_are_altered_below_as_there_are(few_repetitions: None) -> None:
    assert KeyCeremony(TOY).run().rounds == KEY_ROUNDS


#: P and Q mod N are for gcd(N, P + Q - 1) = 1 alone: an error there hides that N is a product of powers of one form,
#: which nobody can bring about. Whatever else is altered ends the session.
GCD_ALONE = 11


@pytest.mark.parametrize("number", range(KEY_ROUNDS))
def test_no_honest_party_keeps_a_key_after_a_message_that_was_altered(number: int, few_repetitions: None) -> None:
    deviates = PARTIES[number % 3]
    others = [p for p in PARTIES if p != deviates]
    ceremonies = [altered(number, deviates, to) for to in others]
    some = [c for c in ceremonies if c.was_altered]
    assert some, "this party speaks in this round"
    for ceremony in some:
        if number == GCD_ALONE:
            assert not ceremony.errors
            continue
        assert set(ceremony.errors) - {deviates}, "an honest party has noticed"
        if number < KEY_ROUNDS - 1:
            assert all(ceremony.sessions[p].result is None for p in PARTIES)


@pytest.fixture
def adding(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Let b add an error to the product of this number, to what it sends and to what it keeps: [number, error]."""
    which, honest, seen = [-1, 123456], replicated.local_products, [0]

    def products(x: Shared, y: Shared) -> list[Integer]:
        made = honest(x, y)
        if x.party == "b":
            seen[0] += 1
            if seen[0] - 1 == which[0]:
                made = [e + which[1] for e in made]
        return made

    monkeypatch.setattr(replicated, "local_products", products)
    yield which


PRODUCTS = (
    "P", "Q", "N", "P mod N", "Q mod N", "P+Q-1", "P'Q'", "o", "o mod N", "rho*o",
    *(f"{what} {direction}" for direction in ("ab a", "ab b", "ac a", "ac c", "bc b", "bc c") for what in ("t", "tag")),
)  # fmt: skip


@pytest.mark.parametrize("product", PRODUCTS)
def test_an_error_in_a_product_is_noticed(product: str, adding: list[int], few_repetitions: None) -> None:
    adding[0] = PRODUCTS.index(product)
    ceremony = KeyCeremony(TOY).run()
    if product in ("P mod N", "Q mod N", "P+Q-1"):
        require_sound(keys_of(ceremony))  # as above: of the gcd alone
    elif product.endswith(" b"):
        # b verifies with it: who errs there fails to verify others, and nobody else has anything of it.
        assert set(ceremony.errors) == {"b"}
    else:
        assert set(ceremony.errors) - {"b"} and not any(s.result for s in ceremony.sessions.values())


@pytest.mark.parametrize("product", ["N", "P'Q'", "o", "t ab a", "t ac c"])
def test_a_large_error_in_a_product_is_noticed(product: str, adding: list[int], few_repetitions: None) -> None:
    adding[:] = PRODUCTS.index(product), 1 << 620
    ceremony = KeyCeremony(TOY).run()
    assert set(ceremony.errors) - {"b"} and not any(s.result for s in ceremony.sessions.values())


def test_a_composite_that_was_let_pass_as_prime_is_noticed(few_repetitions: None) -> None:
    # P' + 4 keeps P = 3 mod 4 and its size, and P is as good as certainly composite.
    factors = toy_factors(cofactor_error=4)
    ceremony = KeyCeremony(TOY)
    ceremony.sessions = {p: KeySession(p, factors[p]) for p in PARTIES}
    assert set(ceremony.run().errors) == set(PARTIES)


def test_an_error_of_a_session_quotes_no_number() -> None:
    for number in (4, 8, 20, 30):
        for error in altered(number, "a", "b").errors.values():
            assert isinstance(error, VeilmatchError) and len(str(error)) < 160
            assert not any(len(word) > 20 and word.isdigit() for word in str(error).split())
