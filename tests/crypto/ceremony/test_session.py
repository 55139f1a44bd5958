"""The whole ceremony of three sessions, from nothing to keys; and what ends one."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import gmpy2
import pytest

from tests.crypto.ceremony.table import Ceremony, combined, play, seats
from tests.crypto.ceremony.test_key import keys_of, require_sound
from tests.crypto.toys import TOY
from veilmatch.crypto.ceremony.joint import search, sizes
from veilmatch.crypto.ceremony.joint.search import find_large, find_pool
from veilmatch.crypto.ceremony.joint.session import CeremonySession
from veilmatch.crypto.ceremony.joint.sizes import Sizes
from veilmatch.crypto.ceremony.session import Transcript
from veilmatch.crypto.ceremony.shared import Shared
from veilmatch.crypto.errors import IntegrityError, KeyMismatchError, ProtocolError, VeilmatchError
from veilmatch.crypto.keys.parties import PARTIES, Party
from veilmatch.crypto.parameters import SUBGROUP_BITS, ParameterSet

OF_TESTS = Sizes(TOY)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches and a pool that are as small as one of 512 bits may be, and patience that does not end by chance."""
    monkeypatch.setitem(sizes._BATCHES, 256, 40)
    monkeypatch.setattr(sizes, "_PATIENCE", 40)
    for module in (sizes, search):
        monkeypatch.setattr(module, "POOL", 3)
        monkeypatch.setattr(module, "BASES_OF_A_PAIR", 2)


@pytest.mark.parametrize("modulus_bits", SUBGROUP_BITS)
def test_sizes_fit_together(modulus_bits: int) -> None:
    s = Sizes(ParameterSet(12, 8, 3, modulus_bits))
    low, high = s._cofactors
    n, L = s.small_bits, s.large_bits
    for p in (3 << (n - 2), (1 << n) - 1):
        for cofactor in (low, high - 1):
            P = 2 * p * int(cofactor) + 1
            assert P.bit_length() == L and (P * P).bit_length() == modulus_bits
        assert (2 * p * p).bit_length() == s.order_bits
    assert int(high - 1).bit_length() * 2 <= s.cofactor_bits
    assert s.small_range.spread > 1 << 30 and s.large_range.spread > 1 << 30
    assert s.room.bit_length() > max(modulus_bits, s.order_bits + 128 + 128, L + 130, s.cofactor_bits + 129)
    # Of a batch, more than two are expected to be prime, or all but.
    assert s.most_tests >= 2 * s.batch


def test_sizes_of_3072_bits_are_those_of_the_design() -> None:
    s = Sizes(ParameterSet())
    assert s.small_sieve.constructed[-1] == 157 and s.small_sieve.modulus.bit_length() == 204
    assert s.large_sieve.constructed[-1] == 811 and s.large_sieve.modulus.bit_length() == 1114
    assert s.large_sieve.tested[-1] == 65521 and s.small_sieve.tested[-1] == 4093
    assert s.most_tests == 604 and s.order_bits == 513
    assert (s.small_test.field.bits, s.large_test.field.bits, s.large_test.window) == (607, 3217, 3)


def test_what_is_found_is_prime_and_nobody_has_it(small: None) -> None:
    at = seats()
    pool = play(lambda seat: find_pool(seat, OF_TESTS), at).of_all()
    small_primes = combined(pool)
    assert len(small_primes) == 3 and all(gmpy2.is_prime(p) and p >> 62 == 3 for p in small_primes)
    shared = {x.party: x for x in pool}
    found = play(lambda seat: find_large(seat.named("large"), shared[seat.party], OF_TESTS), at).of_all()
    chosen, cofactors = (combined([factors[k] for factors in found]) for k in (0, 1))
    assert len(set(chosen)) == 2 and set(chosen) <= set(small_primes)
    large = [2 * p * cofactor + 1 for p, cofactor in zip(chosen, cofactors, strict=True)]
    assert all(gmpy2.is_prime(P) and P % 4 == 3 and P.bit_length() == 256 for P in large)
    assert (large[0] * large[1]).bit_length() == 512
    assert gmpy2.gcd(large[0] - 1, large[1] - 1) == 2 or all(
        (large[0] - 1) % r or (large[1] - 1) % r for r in OF_TESTS.large_sieve.constructed
    )
    # Both shares of a party are independent of the number: the third one is missing.
    for x in pool:
        assert all(p - int(u) - int(v) > 0 for p, u, v in zip(small_primes, x.behind, x.ahead, strict=True))


def test_three_sessions_make_a_key(small: None) -> None:
    ceremony = Ceremony(TOY).run()
    keys = keys_of(ceremony)
    require_sound(keys)
    assert all(session.finished and not session.awaited for session in ceremony.sessions.values())


def test_a_search_that_finds_nothing_ends(small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    # c says of every candidate that it has a small factor.
    honest = search.without_small_factors

    def none_is_good(seat, own, primes):  # type: ignore[no-untyped-def]
        kept = yield from honest(seat, own, primes)
        return [False] * len(kept)

    monkeypatch.setattr(search, "without_small_factors", none_is_good)
    played = play(lambda seat: find_pool(seat, OF_TESTS))
    assert {type(e) for e in played.errors.values()} == {IntegrityError} and set(played.errors) == set(PARTIES)


def test_a_p_that_is_not_prime_is_found_by_the_pairs(small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    # Whoever deals in the search may let anything pass: here all three believe that everything did.
    def everything_passes(_seat, _test, own):  # type: ignore[no-untyped-def]
        yield from ()
        return [True] * len(own)

    monkeypatch.setattr(search, "passing_in_turn", everything_passes)
    pool: dict[Party, Shared] = {}
    while not pool or all(gmpy2.is_prime(p) for p in combined(pool)):
        pool = {x.party: x for x in play(lambda seat: find_pool(seat, OF_TESTS)).of_all()}
    played = play(lambda seat: search.confirm(seat, pool[seat.party], OF_TESTS))
    assert played.errors and {type(e) for e in played.errors.values()} == {IntegrityError}


# -- what ends a session ---------------------------------------------------------------------------------------


def started() -> tuple[dict[Party, CeremonySession], dict[Party, dict]]:  # type: ignore[type-arg]
    sessions = {p: CeremonySession(p, TOY) for p in PARTIES}
    return sessions, {p: dict(sessions[p].start()) for p in PARTIES}


@pytest.mark.parametrize(
    "fault", ["dropped", "short", "long", "of another session", "repeated", "early", "from nobody that was asked"]
)
def test_a_message_that_is_not_the_awaited_one_ends_a_session(fault: str) -> None:
    sessions, out = started()
    while sessions["a"].awaited.keys() != {"c"}:
        arrived = {p: {peer: out[peer][p] for peer in sessions[p].awaited} for p in PARTIES}
        out = {p: dict(sessions[p].resume(arrived[p])) for p in PARTIES}
    honest = out["c"]["a"]
    assert honest.number > 2 and honest.session != bytes(32)
    wrong = {
        "short": {"c": replace(honest, payload=honest.payload[:-1])},
        "long": {"c": replace(honest, payload=honest.payload + b"0")},
        "of another session": {"c": replace(honest, session=bytes(32))},
        "repeated": {"c": replace(honest, number=honest.number - 1)},
        "early": {"c": replace(honest, number=honest.number + 1)},
        "from nobody that was asked": {"c": honest, "b": honest},
        "dropped": {},
    }
    with pytest.raises(ProtocolError):
        sessions["a"].resume(wrong[fault])
    assert sessions["a"].finished and sessions["a"].result is None
    with pytest.raises(ProtocolError, match="has ended"):
        sessions["a"].resume({"c": honest})


def test_a_session_begins_once() -> None:
    sessions, _ = started()
    with pytest.raises(ProtocolError, match="has begun"):
        sessions["a"].start()


def test_parties_with_different_parameters_do_not_begin() -> None:
    ceremony = Ceremony(TOY)
    ceremony.sessions["b"] = CeremonySession("b", replace(TOY, scale=9))
    errors = ceremony.run().errors
    assert {type(e) for e in errors.values()} == {KeyMismatchError} and set(errors) == set(PARTIES)
    assert errors["a"].party == "keyholder-b"


def test_no_two_sessions_have_the_same_name_or_messages() -> None:
    payloads: Counter[bytes] = Counter()
    names = set()
    for _ in range(2):
        sessions, out = started()
        for _ in range(3):
            arrived = {p: {q: out[q][p] for q in sessions[p].awaited} for p in PARTIES}
            out = {p: dict(sessions[p].resume(arrived[p])) for p in PARTIES}
            payloads.update(m.payload for messages in out.values() for m in messages.values() if len(m.payload) > 100)
        names.add(next(iter(out["a"].values())).session)
    assert len(names) == 2 and bytes(32) not in names and max(payloads.values()) == 1


def test_who_tells_two_peers_different_things_is_noticed_before_the_modulus_is_opened(small: None) -> None:
    # c tells b that other candidates have passed the first trial division than it tells a.
    told = [0]

    def alter(number: int, peer: Party, payload: bytes) -> bytes:
        if number == 6 and peer == "b":
            place = payload.index(1)
            told[0] += 1
            return payload[:place] + b"\0" + payload[place + 1 :]
        return payload

    ceremony = Ceremony(TOY, "c", alter)
    ceremony.run()
    assert told[0] == 1
    assert set(ceremony.errors) - {"c"} and all(isinstance(e, VeilmatchError) for e in ceremony.errors.values())
    assert not any(session.result for session in ceremony.sessions.values())


def test_a_transcript_depends_on_who_told_what_and_when() -> None:
    def digest(*notes: tuple[int, dict[Party, bytes]]) -> bytes:
        transcript = Transcript()
        for number, told in notes:
            transcript.note(number, told)
        return transcript.digest()

    told: dict[Party, bytes] = {"a": b"x", "b": b"yz"}
    assert digest((1, told)) == digest((1, {"b": b"yz", "a": b"x", "c": b""}))
    others = [(2, told), (1, {"a": b"xy", "b": b"z"}), (1, {"b": b"x", "c": b"yz"}), (1, {"a": b"x", "b": b"yy"})]
    assert len({digest((1, told)), digest((1, told), (2, told)), *(digest(x) for x in others)}) == 6  # type: ignore[arg-type]
    assert digest((1, told), (3, {})) == digest((1, told))


@pytest.mark.parametrize(("number", "deviates"), [(5, "b"), (60, "c"), (300, "a")])
def test_a_message_of_the_search_that_was_altered_costs_a_candidate_or_ends_it(
    number: int, deviates: Party, small: None
) -> None:
    def alter(at: int, peer: Party, payload: bytes) -> bytes:
        if at != number or not payload:
            return payload
        place = len(payload) // 2
        return payload[:place] + bytes([payload[place] ^ 1]) + payload[place + 1 :]

    ceremony = Ceremony(TOY, deviates, alter).run()
    assert ceremony.was_altered
    if ceremony.errors:
        assert not any(session.result for session in ceremony.sessions.values())
    else:
        require_sound(keys_of(ceremony))
