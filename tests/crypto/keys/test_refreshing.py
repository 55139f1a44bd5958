"""Refreshed shares: every difference stays, every share changes, and nothing outgrows its fixed length."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.crypto.toys import TOY, toy_key, toy_public_key
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.encryption.paillier import Paillier, PublicKey
from veilmatch.crypto.errors import KeyMismatchError, ParameterError, ProtocolError
from veilmatch.crypto.keys.ceremony import run_ceremony, split_safety
from veilmatch.crypto.keys.parties import PAIRS, Pair, pairs_of
from veilmatch.crypto.keys.refreshing import (
    DECISION_BYTES,
    FIT_BYTES,
    CommonSeed,
    Held,
    RefreshName,
    commitment,
    common_seed,
    fit_hashes,
    is_decision,
    next_epoch,
    open_commitment,
    refresh_id_of,
    refreshed_key,
    refreshed_safety,
    refreshed_share,
)
from veilmatch.crypto.keys.shares import (
    GAMMA_BITS,
    MAX_EPOCH,
    DealerGammas,
    KeyHolderKey,
    PairShare,
    SafetyShare,
    exponent_bits,
    safety_exponent_bits,
)
from veilmatch.crypto.parameters import DEFAULT, ParameterSet
from veilmatch.crypto.secret_access import SECRET_ACCESS

PUBLIC_KEY = toy_public_key(TOY)
N = PUBLIC_KEY.modulus
ONE, TWO = bytes(31) + b"\1", bytes(31) + b"\2"
CONTRIBUTIONS = st.binary(min_size=32, max_size=32)


def named(pair: Pair = "ab", epoch: int = 2, refresh_id: bytes = bytes(32)) -> RefreshName:
    return RefreshName(refresh_id, PUBLIC_KEY.key_id, epoch, pair)


def seed_of(pair: Pair = "ab", epoch: int = 2, contribution: bytes = ONE) -> CommonSeed:
    return common_seed(named(pair, epoch), contribution, TWO)


def pair_shares(o_minus: int = 5, kappa_minus: int = 7) -> tuple[PairShare, PairShare]:
    toy = toy_key(512)
    o, kappa = Integer(toy.o), Integer(pow(toy.o, -1, toy.N))
    return (
        PairShare("ab", "a", o + o_minus, (kappa + kappa_minus) % N),
        PairShare("ab", "b", Integer(o_minus), Integer(kappa_minus)),
    )


def held() -> tuple[Held, Held]:
    """What both holders of the pair ab have."""
    shares = pair_shares()
    safety, _ = split_safety(shares, Integer(toy_key(512).o), N)
    return (shares[0], safety[0]), (shares[1], safety[1])


def refreshed(of: Held, seed: CommonSeed | None = None) -> Held:
    seed = seed or seed_of()
    return refreshed_share(of[0], seed, PUBLIC_KEY), refreshed_safety(of[1], seed, PUBLIC_KEY)


# -- shares -------------------------------------------------------------------------------------------


@given(CONTRIBUTIONS, st.integers(0, 2**PUBLIC_KEY.randomiser_bits - 1), st.integers(0, int(N) - 1))
def test_both_differences_stay_and_both_shares_change(contribution: bytes, o_minus: int, kappa_minus: int) -> None:
    plus, minus = pair_shares(o_minus, kappa_minus)
    seed = common_seed(named(), contribution, b"m" * 32) if contribution != b"m" * 32 else seed_of()
    new_plus, new_minus = (refreshed_share(share, seed, PUBLIC_KEY) for share in (plus, minus))
    assert new_plus._exponent - new_minus._exponent == plus._exponent - minus._exponent
    assert (new_plus._kappa - new_minus._kappa - plus._kappa + minus._kappa) % N == 0
    assert 0 <= new_minus._exponent - minus._exponent < 2**PUBLIC_KEY.randomiser_bits
    assert all(0 <= share._kappa < N for share in (new_plus, new_minus))
    assert (new_plus.pair, new_plus.party, new_minus.party) == ("ab", "a", "b")
    for new, old in ((new_plus, plus), (new_minus, minus)):
        assert new._exponent != old._exponent and new._kappa != old._kappa
        assert new.exponent(PUBLIC_KEY, SECRET_ACCESS).bit_length() == exponent_bits(PUBLIC_KEY)


@given(CONTRIBUTIONS)
def test_what_the_key_safety_check_relies_on_stays(contribution: bytes) -> None:
    """For each direction: t_plus - t_minus = Gamma * o, and tag = key + Gamma * kappa of the prover."""
    seed = common_seed(named(), contribution, b"m" * 32) if contribution != b"m" * 32 else seed_of()
    o = Integer(toy_key(512).o)
    (old_plus, new_plus), (old_minus, new_minus) = ((of, refreshed(of, seed)) for of in held())
    (kappa_plus, plus), (kappa_minus, minus) = new_plus, new_minus
    assert plus._verifying - minus._proving == plus._gamma * o
    assert plus._proving - minus._verifying == minus._gamma * o
    assert minus._kappa_tag == (plus._kappa_key + plus._gamma * kappa_minus._kappa) % N
    assert plus._kappa_tag == (minus._kappa_key + minus._gamma * kappa_plus._kappa) % N
    for old, new in ((old_plus[1], plus), (old_minus[1], minus)):
        added = new._verifying - old._verifying, new._proving - old._proving
        assert added[0] != added[1] and all(0 <= x < 2 ** (PUBLIC_KEY.randomiser_bits + GAMMA_BITS) for x in added)
        assert all(t.bit_length() == safety_exponent_bits(PUBLIC_KEY) for t in new.exponents(PUBLIC_KEY, SECRET_ACCESS))


def test_what_is_added_fills_its_whole_range() -> None:
    seeds = [common_seed(named(), i.to_bytes(32, "big"), b"t" * 32) for i in range(99)]
    added = [seed.bits("o", PUBLIC_KEY.randomiser_bits) for seed in seeds]
    assert len(set(added)) == 99
    assert any(x >> (PUBLIC_KEY.randomiser_bits - 1) for x in added)
    assert any(x >> (PUBLIC_KEY.randomiser_bits - 2) == 0 for x in added)
    kappas = [seed.below("kappa", N) for seed in seeds]
    assert any(2 * x > N for x in kappas) and any(2 * x < N for x in kappas)


def test_old_and_new_shares_do_not_convert_together() -> None:
    scheme, (plus, minus) = Paillier(PUBLIC_KEY), pair_shares()
    new_plus, new_minus = (refreshed_share(share, seed_of(), PUBLIC_KEY) for share in (plus, minus))
    c = scheme.encrypt(Integer(123))

    def prints(*shares: PairShare) -> set[int]:
        return {scheme.local_shares([c], s.exponent(PUBLIC_KEY, SECRET_ACCESS))[0].fingerprint for s in shares}

    assert len(prints(plus, minus)) == len(prints(new_plus, new_minus)) == 1
    assert len(prints(plus, new_minus)) == len(prints(new_plus, minus)) == 2


def test_a_pair_takes_no_seed_of_another_pair_epoch_or_key() -> None:
    with pytest.raises(KeyMismatchError):
        refreshed_share(pair_shares()[0], seed_of("ac"), PUBLIC_KEY)
    key = key_of(1)
    good = {pair: seed_of(pair) for pair in pairs_of("a")}
    assert refreshed_key(key, good, b"n" * 32, PUBLIC_KEY).epoch == 2
    for wrong in (
        good | {"ac": seed_of("ac", 3)},
        good | {"ac": common_seed(RefreshName(bytes(32), bytes(16), 2, "ac"), ONE, TWO)},
    ):
        with pytest.raises(KeyMismatchError):
            refreshed_key(key, wrong, b"n" * 32, PUBLIC_KEY)
    with pytest.raises(ProtocolError):
        refreshed_key(key, good, b"short", PUBLIC_KEY)


def key_of(epoch: int, exponent: int = 5) -> KeyHolderKey:
    ab, ac = (PairShare(pair, "a", Integer(exponent), Integer(7)) for pair in pairs_of("a"))
    safety = [SafetyShare(pair, "a", *map(Integer, range(5))) for pair in pairs_of("a")]
    gammas = DealerGammas(Integer(1), Integer(2))
    return KeyHolderKey("a", PUBLIC_KEY.key_id, epoch, (ab, ac), (safety[0], safety[1]), gammas, b"d" * 32, b"s" * 32)


def test_a_refreshed_key_deals_from_another_seed_and_stores_under_the_same() -> None:
    """With the old dealing seed, a thief of it could compute what this party deals to the other two."""
    new = refreshed_key(key_of(1), {pair: seed_of(pair) for pair in pairs_of("a")}, b"n" * 32, PUBLIC_KEY)
    assert (new.dealing_seed(SECRET_ACCESS), new.storage_seed(SECRET_ACCESS)) == (b"n" * 32, b"s" * 32)
    assert (new.party, new.key_id) == ("a", PUBLIC_KEY.key_id)


@pytest.mark.parametrize("parameters", [TOY, DEFAULT, ParameterSet(128, 60, 23, 2048)], ids=lambda p: p.name)
def test_the_last_epoch_has_room_for_the_largest_shares_and_one_more_would_not(parameters: ParameterSet) -> None:
    public_key = PublicKey(parameters, Integer(1), Integer(1))
    refreshes = MAX_EPOCH - 1
    for extra, length in ((0, exponent_bits(public_key)), (GAMMA_BITS, safety_exponent_bits(public_key))):
        bits = public_key.randomiser_bits + extra
        largest = (1 << public_key.subgroup_order_bits + extra) - 1 + (refreshes + 1) * ((1 << bits) - 1)
        assert largest.bit_length() < length <= (largest + (2 << bits)).bit_length()


def test_no_epoch_follows_the_last_one() -> None:
    assert next_epoch(MAX_EPOCH - 1) == MAX_EPOCH == 65535
    for epoch in (MAX_EPOCH, MAX_EPOCH + 1, 2**32 - 1):
        with pytest.raises(ParameterError):
            next_epoch(epoch)
        with pytest.raises(ParameterError):
            refreshed_key(key_of(epoch), {p: seed_of(p, epoch + 1) for p in pairs_of("a")}, b"n" * 32, PUBLIC_KEY)


def test_every_pair_of_a_ceremony_converts_after_refreshes_of_all_three() -> None:
    made = run_ceremony(TOY)
    scheme, holders = Paillier(made.public_key), list(made.keys)
    name = {p: RefreshName(bytes(32), made.public_key.key_id, 2, p) for p in PAIRS}
    seeds = {p: common_seed(name[p], ONE, TWO) for p in PAIRS}
    new = {k.party: refreshed_key(k, seeds, b"n" * 32, made.public_key) for k in holders}
    c = scheme.encrypt(Integer(99))
    for pair in PAIRS:
        plus, minus = (new[p].share(pair) for p in pair)  # type: ignore[index]
        z, y = (scheme.local_shares([c], s.exponent(made.public_key, SECRET_ACCESS))[0] for s in (plus, minus))
        assert z.fingerprint == y.fingerprint
        assert (z.z - y.z) * (plus._kappa - minus._kappa) % made.public_key.modulus == 99


# -- the common seed ----------------------------------------------------------------------------------


def test_the_decision_of_a_refresh_is_that_of_its_leader_key_and_epoch_alone() -> None:
    decision, key_id = b"d" * DECISION_BYTES, bytes(16)
    name = refresh_id_of(decision, key_id, 2)
    assert len(name) == 32 and is_decision(decision, name, key_id, 2)
    others = [
        (b"e" * DECISION_BYTES, name, key_id, 2), (decision, bytes(32), key_id, 2), (decision, name, b"k" * 16, 2),
        (decision, name, key_id, 3), (b"", name, key_id, 2), (decision + b"d", name, key_id, 2),
        (name, name, key_id, 2),
    ]  # fmt: skip
    assert not any(is_decision(*other) for other in others)
    # No room for a decision of another size, even one that its leader has prepared.
    assert not is_decision(b"short", refresh_id_of(b"short", key_id, 2), key_id, 2)


@given(CONTRIBUTIONS, CONTRIBUTIONS)
def test_a_commitment_opens_to_what_was_committed_to_alone(committed: bytes, other: bytes) -> None:
    assert open_commitment(named(), commitment(named(), committed), committed) == committed
    if other != committed:
        with pytest.raises(ProtocolError):
            open_commitment(named(), commitment(named(), committed), other)


def test_everything_depends_on_refresh_key_epoch_pair_and_both_contributions() -> None:
    names = [named(), named("ac"), named(epoch=3), named(refresh_id=ONE), RefreshName(bytes(32), ONE[:16], 2, "ab")]
    seeds = [common_seed(name, ONE, TWO) for name in names]
    seeds += [common_seed(named(), TWO, ONE), common_seed(named(), bytes(32), TWO)]
    assert len({seed._seed for seed in seeds}) == len({int(seed.bits("o", 300)) for seed in seeds}) == len(seeds)
    assert len({commitment(name, ONE) for name in names}) == len(names)
    seed = seeds[0]
    assert len({int(seed.bits(what, 300)) for what in ("o", "kappa", "test randomiser", "o ")}) == 4


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_contribution_of_another_size_or_the_others_own_is_none(size: int) -> None:
    with pytest.raises(ProtocolError):
        commitment(named(), bytes(size))
    with pytest.raises(ProtocolError):
        common_seed(named(), bytes(size), TWO)
    with pytest.raises(ProtocolError):
        common_seed(named(), TWO, TWO)


def test_a_seed_shows_nothing_of_itself() -> None:
    assert repr(seed_of()) == "<CommonSeed>"


# -- the test of new shares ---------------------------------------------------------------------------


def both(plus: Held, minus: Held, new_plus: Held, new_minus: Held) -> list[bool]:
    """Whether each holder, from its own shares, expects what the other shows."""
    scheme, seed = Paillier(PUBLIC_KEY), seed_of()
    shown = {"plus": (plus, new_plus), "minus": (minus, new_minus)}
    made = {r: {s: fit_hashes(*of, seed, scheme, s) for s in ("plus", "minus")} for r, of in shown.items()}
    assert all(len(h) == FIT_BYTES for by in made.values() for h in by.values())
    # A hash of one role is not one of the other: nothing can be sent back.
    assert (
        not set(made["plus"].values()) & {made["plus"]["minus"][:32]} and made["plus"]["plus"] != made["plus"]["minus"]
    )
    return [made["plus"]["plus"] == made["minus"]["plus"], made["minus"]["minus"] == made["plus"]["minus"]]


def test_shares_refreshed_alike_fit_and_no_others_do() -> None:
    plus, minus = held()
    new_plus, new_minus = (refreshed(of) for of in (plus, minus))
    share, safety = new_minus
    assert both(plus, minus, new_plus, new_minus) == [True, True]
    for wrong in (
        refreshed(minus, seed_of(contribution=bytes(32))),
        (replace(share, _exponent=share._exponent + 1), safety),
        (replace(share, _kappa=share._kappa + 1), safety),
        (share, replace(safety, _verifying=safety._verifying + 1)),
        (share, replace(safety, _proving=safety._proving + 1)),
        (share, refreshed_safety(minus[1], seed_of(contribution=bytes(32)), PUBLIC_KEY)),
    ):
        assert both(plus, minus, new_plus, wrong) == [False, False]


def test_an_old_exponent_that_does_not_belong_to_the_pair_shows_in_the_fingerprint() -> None:
    """Both add the same, so only the fingerprint of the test ciphertext tells."""
    plus, minus = held()
    stale = replace(minus[0], _exponent=minus[0]._exponent + 12345), minus[1]
    new_plus, new_stale = refreshed(plus), refreshed(stale)
    scheme = Paillier(PUBLIC_KEY)
    one, other = (fit_hashes(*of, seed_of(), scheme, "plus") for of in ((plus, new_plus), (stale, new_stale)))
    assert one[:32] != other[:32] and one[32:] == other[32:]
