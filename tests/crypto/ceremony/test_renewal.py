"""New shares of a key that is there: against plain arithmetic, and with one party that deviates."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

import pytest

from tests.crypto.ceremony.table import Alter, Ceremony, combined, play
from tests.crypto.ceremony.test_key import minus_of, plus_of, require_sound
from tests.crypto.toys import TOY
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.ceremony import replicated
from veilmatch.crypto.ceremony.joint import renewal as steps
from veilmatch.crypto.ceremony.joint.renewal import Renewal, RenewalSession, renewed_epoch, shared_secrets
from veilmatch.crypto.ceremony.joint.steps import JointKey
from veilmatch.crypto.ceremony.shared import Shared
from veilmatch.crypto.encryption.paillier import PublicKey
from veilmatch.crypto.errors import KeyFileError, KeyMismatchError, ParameterError, VeilmatchError
from veilmatch.crypto.keys.ceremony import run_ceremony
from veilmatch.crypto.keys.parties import PAIRS, PARTIES, Pair, Party, other_party, pairs_of
from veilmatch.crypto.keys.refreshing import RefreshName, common_seed, next_epoch, refreshed_key
from veilmatch.crypto.keys.shares import MAX_EPOCH, KeyHolderKey
from veilmatch.crypto.secret_access import SECRET_ACCESS

Keys = dict[Party, KeyHolderKey]
#: Whose place a fresh machine takes; None: all three are there.
LOST = (*PARTIES, None)


@cache
def dealt_before() -> tuple[PublicKey, Keys]:
    """A key, and what the three have of it before."""
    made = run_ceremony(TOY)
    return made.public_key, dict(zip(PARTIES, made.keys, strict=True))


def refreshed(keys: Keys) -> Keys:
    """The next epoch."""
    public_key = dealt_before()[0]
    seeds = {
        pair: common_seed(
            RefreshName(bytes(32), public_key.key_id, keys["a"].epoch + 1, pair),
            secrets.token_bytes(32), secrets.token_bytes(32),
        )
        for pair in PAIRS
    }  # fmt: skip
    return {
        p: refreshed_key(key, {pair: seeds[pair] for pair in pairs_of(p)}, secrets.token_bytes(32), public_key)
        for p, key in keys.items()
    }


@dataclass
class RenewalTable(Ceremony):
    """Three sessions, of which one may have no key. before: what they have; epoch: of the new shares."""

    lost: Party | None = None
    before: Keys = field(default_factory=lambda: dealt_before()[1])

    def __post_init__(self) -> None:
        renewal = Renewal(dealt_before()[0], renewed_epoch(self.before["a"].epoch), self.lost, bytes(32))
        self.sessions = {p: RenewalSession(p, renewal, None if p == self.lost else self.before[p]) for p in PARTIES}

    @property
    def made(self) -> Keys:
        assert not self.errors, self.errors
        return {p: session.result for p, session in self.sessions.items()}  # type: ignore[misc]


def renewed(lost: Party | None, before: Keys | None = None) -> Keys:
    keys = before or dealt_before()[1]
    return RenewalTable(TOY, lost=lost, before=keys).run().made


def exponent(keys: Keys, pair: Pair, holder: Party) -> int:
    return int(keys[holder].share(pair).stored_exponent(SECRET_ACCESS))


def order(plus: Keys, minus: Keys, pair: Pair) -> int:
    """o_plus - o_minus of a pair whose holders have their shares from these."""
    return exponent(plus, pair, plus_of(pair)) - exponent(minus, pair, minus_of(pair))


def secret_order() -> int:
    keys = dealt_before()[1]
    return order(keys, keys, "ab")


@pytest.mark.parametrize("lost", LOST)
def test_new_shares_are_those_that_a_dealer_of_the_same_key_would_make(lost: Party | None) -> None:
    public_key, before = dealt_before()
    keys = renewed(lost)
    require_sound({p: JointKey(public_key, key) for p, key in keys.items()}, epoch=3)
    assert all(order(keys, keys, pair) == secret_order() for pair in PAIRS)
    # Storage goes on where there is one; what is dealt, and Gammas, are other ones everywhere.
    kept = {p for p in PARTIES if keys[p].storage_seed(SECRET_ACCESS) == before[p].storage_seed(SECRET_ACCESS)}
    assert kept == set(PARTIES) - {lost}
    for p in PARTIES:
        assert keys[p].dealing_seed(SECRET_ACCESS) != before[p].dealing_seed(SECRET_ACCESS)
        assert keys[p].dealer_gammas(SECRET_ACCESS) != before[p].dealer_gammas(SECRET_ACCESS)
        for pair in pairs_of(p):
            assert keys[p].safety(pair).kappa_tag(SECRET_ACCESS) != before[p].safety(pair).kappa_tag(SECRET_ACCESS)


@pytest.mark.parametrize("lost", PARTIES)
def test_a_share_of_before_fits_none_of_after_and_only_another_one_of_before(lost: Party) -> None:
    before, after = dealt_before()[1], renewed(lost)
    N = dealt_before()[0].modulus
    for pair in pairs_of(lost):
        peer = other_party(pair, lost)
        mixed = {lost: before, peer: after}
        assert order(mixed[plus_of(pair)], mixed[minus_of(pair)], pair) != secret_order()
        kappa = {p: keys[p].share(pair).kappa(SECRET_ACCESS) for p, keys in mixed.items()}
        assert (kappa[plus_of(pair)] - kappa[minus_of(pair)]) * secret_order() % N != 1
        # What has to be destroyed with the old shares of the others: two of before are the key, for ever.
        assert order(before, before, pair) == secret_order()


def test_what_was_refreshed_is_as_short_again_as_at_first() -> None:
    public_key, keys = dealt_before()
    for _ in range(3):
        keys = refreshed(keys)
    assert keys["a"].epoch == 4 and keys["a"].since == 1
    after = renewed("b", keys)
    assert {key.epoch for key in after.values()} == {key.since for key in after.values()} == {6}
    bits = public_key.subgroup_order_bits + 128
    assert all(exponent(after, pair, minus_of(pair)).bit_length() <= bits for pair in PAIRS)
    assert all(order(after, after, pair) == secret_order() for pair in PAIRS)
    assert order(refreshed(after), refreshed(after), "ab") != secret_order()
    again = refreshed(after)
    assert {(key.epoch, key.since) for key in again.values()} == {(7, 6)}
    assert all(order(again, again, pair) == secret_order() for pair in PAIRS)


def test_the_limit_of_refreshes_counts_from_when_shares_were_dealt() -> None:
    with pytest.raises(ParameterError, match="recover --renew"):
        next_epoch(MAX_EPOCH)
    assert next_epoch(MAX_EPOCH, 3) == MAX_EPOCH + 1
    assert next_epoch(MAX_EPOCH + 100, 102) == MAX_EPOCH + 101
    with pytest.raises(ParameterError):
        next_epoch(MAX_EPOCH + 101, 102)
    assert renewed_epoch(MAX_EPOCH) == MAX_EPOCH + 2
    with pytest.raises(ParameterError, match="no epoch is left"):
        renewed_epoch((1 << 32) - 2)


def test_a_key_of_renewed_shares_has_one_encoding_as_long_as_before() -> None:
    public_key, before = dealt_before()
    key = renewed("c")["a"]
    data = key.to_secret_bytes(public_key, SECRET_ACCESS)
    assert KeyHolderKey.from_secret_bytes(data, public_key) == key and key.since == 3
    assert len(data) == len(before["a"].to_secret_bytes(public_key, SECRET_ACCESS))
    for since in (0, 1, 4):  # the first epoch is written otherwise, and none is later than the key's own
        with pytest.raises(KeyFileError):
            KeyHolderKey.from_secret_bytes(b"VMS3" + since.to_bytes(4, "big") + data[8:], public_key)


def test_secrets_are_shared_in_one_round() -> None:
    public_key, before = dealt_before()
    for lost in LOST:
        renewal = Renewal(public_key, 3, lost, bytes(32))
        played = play(lambda seat, r=renewal: shared_secrets(seat, r, before[seat.party]))  # type: ignore[misc]
        assert played.rounds == 1
        o, kappa = ([getattr(x, what) for x in played.of_all()] for what in ("o", "kappa"))
        assert combined(o) == [secret_order()] and combined(kappa)[0] * secret_order() % int(public_key.modulus) == 1


# -- what ends one --------------------------------------------------------------------------------------------

ROUNDS = 18


def test_as_many_rounds_are_altered_below_as_there_are() -> None:
    assert RenewalTable(TOY, lost="c").run().rounds == ROUNDS


def flipping(at: int, to: Party) -> Alter:
    """Another bit in one message."""

    def alter(number: int, peer: Party, payload: bytes) -> bytes:
        if number != at or peer != to or not payload:
            return payload
        place = len(payload) // 2
        return payload[:place] + bytes([payload[place] ^ 1]) + payload[place + 1 :]

    return alter


#: Where verifiers get their parts of the key-safety check. Who errs there fails to verify others, and nobody else has
#: anything of it.
OF_VERIFIERS = (5, 6, 7)
PRODUCTS_ROUND = 5


@pytest.mark.parametrize("number", range(ROUNDS))
def test_no_honest_party_keeps_shares_after_a_message_that_was_altered(number: int) -> None:
    # By the fresh machine, c, and by each of those that are left.
    altered = 0
    for deviates in PARTIES:
        for to in (p for p in PARTIES if p != deviates):
            table = RenewalTable(TOY, deviates, flipping(number, to), lost="c").run()
            altered += table.was_altered
            if table.was_altered and not table.errors:
                # A copy of a share that whoever got it has no use for: the third party learns that number.
                assert number == PRODUCTS_ROUND
                keys = {p: JointKey(dealt_before()[0], key) for p, key in table.made.items()}
                require_sound(keys, epoch=3)
            elif table.was_altered:
                assert set(table.errors) - ({deviates} if number not in OF_VERIFIERS else set()), "it was noticed"
                if number < ROUNDS - 1:
                    assert all(session.result is None for session in table.sessions.values())
    assert altered > 1


@pytest.fixture
def wrong_share(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """Let one of the two that are left put in another number: [party, "o" or "kappa", error]."""
    lie: list[object] = ["", "", 0]
    honest = steps._own

    def own(seat, renewal, key, owner, what):  # type: ignore[no-untyped-def]
        values = honest(seat, renewal, key, owner, what)
        return [x + lie[2] for x in values] if (seat.party, what) == (lie[0], lie[1]) else values

    monkeypatch.setattr(steps, "_own", own)
    yield lie


@pytest.mark.parametrize("what", ["o", "kappa"])
@pytest.mark.parametrize("error", [1, -1, 2**200, 2**640])
def test_who_puts_in_another_share_is_noticed_by_every_honest_pair(
    what: str, error: int, wrong_share: list[object]
) -> None:
    for liar, lost in (("a", "c"), ("b", "c"), ("c", "a")):
        wrong_share[:] = [liar, what, Integer(error) if what == "o" else Integer(error) % dealt_before()[0].modulus]
        table = RenewalTable(TOY, lost=lost).run()
        # The liar tests its own pairs as well; the pair of the two honest ones is enough.
        assert set(table.errors) - {liar}
        assert not any(session.result for session in table.sessions.values())
        assert all(len(str(error)) < 200 for error in table.errors.values())


PRODUCTS = tuple(f"{what} {way}" for way in ("ab a", "ab b", "ac a", "ac c", "bc b", "bc c") for what in ("t", "tag"))


@pytest.mark.parametrize("product", PRODUCTS)
def test_an_error_in_a_product_is_noticed(product: str, monkeypatch: pytest.MonkeyPatch) -> None:
    honest, seen = replicated.local_products, [0]

    def products(x: Shared, y: Shared) -> list[Integer]:
        made = honest(x, y)
        if x.party == "b":
            seen[0] += 1
            if seen[0] - 1 == PRODUCTS.index(product):
                made = [e + 123456 for e in made]
        return made

    monkeypatch.setattr(replicated, "local_products", products)
    table = RenewalTable(TOY, lost="c").run()
    if product.endswith(" b"):
        # b verifies with it: who errs there fails to verify others, and nobody else has anything of it.
        assert set(table.errors) == {"b"}
    else:
        assert set(table.errors) - {"b"} and not any(session.result for session in table.sessions.values())


def test_parties_that_mean_different_things_do_not_begin() -> None:
    public_key, before = dealt_before()
    usual = Renewal(public_key, 3, "c", bytes(32))
    for other in (
        Renewal(public_key, 5, "c", bytes(32)), Renewal(public_key, 3, None, bytes(32)),
        Renewal(public_key, 3, "c", bytes(31) + b"1"), Renewal(run_ceremony(TOY).public_key, 3, "c", bytes(32)),
    ):  # fmt: skip
        table = RenewalTable(TOY, lost="c")
        key = None if other.lost == "c" else before["c"]
        table.sessions["c"] = RenewalSession("c", other, key)
        errors = table.run().errors
        assert {type(e) for e in errors.values()} == {KeyMismatchError} and set(errors) == set(PARTIES)
        assert errors["a"].party == "keyholder-c"
    with pytest.raises(KeyMismatchError, match="no part of"):
        RenewalSession("a", usual, None)
    with pytest.raises(KeyMismatchError, match="no part of"):
        RenewalSession("c", usual, before["c"])
    for wrong in (before["b"], run_ceremony(TOY).keys[0], renewed("c")["a"]):
        with pytest.raises(KeyMismatchError, match="another key or epoch"):
            RenewalSession("a", usual, wrong)


def test_an_error_quotes_no_number() -> None:
    for number in (3, 5, 9, 15):
        table = RenewalTable(TOY, "a", flipping(number, "b"), lost="c").run()
        for error in table.errors.values():
            assert isinstance(error, VeilmatchError) and len(str(error)) < 160
            assert not any(len(word) > 20 and word.isdigit() for word in str(error).split())
