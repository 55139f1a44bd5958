"""Proof of plaintext knowledge: complete on every backend, bound to all it says, sound by its extractor, and hiding."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from threading import Barrier
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.crypto.toys import TOY, plaintexts, toy_key, toy_public_key
from veilmatch.crypto.arithmetic import Integer, from_bytes, invert, power, to_bytes
from veilmatch.crypto.encryption import knowledge
from veilmatch.crypto.encryption.knowledge import KnownCiphertexts, check, proof_bytes
from veilmatch.crypto.encryption.paillier import CHALLENGE_BITS, STATISTICAL_BITS, Paillier
from veilmatch.crypto.errors import KnowledgeProofError
from veilmatch.crypto.parameters import D512, DEFAULT, ParameterSet
from veilmatch.crypto.requests import MAX_VIEWS
from veilmatch.crypto.rings.choice import VARIABLE, available
from veilmatch.crypto.rings.fixed_base import ROUNDING_BITS, KnownPower

SETS = (ParameterSet(4, 8, 3, 512), TOY, ParameterSet(modulus_bits=1024), DEFAULT, D512)
KEY = toy_public_key(TOY)
FIELDS: dict[str, Any] = {
    "parameter_set": TOY.name, "key_id": KEY.key_id, "device": "kiosk-1", "device_key": bytes(range(32)),
    "gallery": "main", "operation": 1, "threshold": 40, "pair": "ab", "nonce": bytes(range(32)), "token": b"",
    "issued_at_ms": 1_700_000_000_000, "expires_at_ms": 1_700_000_060_000, "payload_digest": bytes(32),
    "subject_digest": bytes(32), "model": "embedding", "recipient": bytes(range(32)), "challenge": b"question",
}  # fmt: skip
CONTEXT = knowledge.context_digest(**FIELDS)


@cache
def scheme() -> Paillier:
    return Paillier(KEY)


@cache
def known() -> KnownCiphertexts:
    return KnownCiphertexts.encrypt(scheme(), [Integer(5 + i) for i in range(TOY.lane_ciphertexts)])


@cache
def proof() -> bytes:
    return known().prove(CONTEXT)


def accepted(ciphertexts: Any, data: bytes, context: bytes = CONTEXT) -> bool:
    try:
        check(KEY, context, ciphertexts, data)
    except KnowledgeProofError as error:
        assert error.fields() == KnowledgeProofError().fields(), "one text for every cause"
        return False
    return True


def response(data: bytes) -> Integer:
    return from_bytes(data[32:])


# -- complete ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", available())
@pytest.mark.parametrize("parameters", SETS, ids=lambda parameters: parameters.name)
def test_who_encrypted_proves_it(backend: str, parameters: ParameterSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, backend)
    key = toy_public_key(parameters)
    made = KnownCiphertexts.encrypt(Paillier(key), [Integer(-i) for i in range(parameters.lane_ciphertexts)])
    first, second = made.prove(CONTEXT), made.prove(CONTEXT)
    assert len(first) == len(second) == proof_bytes(key) and first[:32] != second[:32]
    for data in (first, second):
        check(key, CONTEXT, made.ciphertexts, data)
        with pytest.raises(KnowledgeProofError):
            check(key, bytes(32), made.ciphertexts, data)


@pytest.mark.parametrize("parameters", [DEFAULT, D512], ids=lambda parameters: parameters.name)
def test_a_proof_is_short(parameters: ParameterSet) -> None:
    assert proof_bytes(toy_public_key(parameters)) == 147


@pytest.mark.parametrize("backend", available())
def test_ciphertexts_hold_what_was_encrypted(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, backend)
    secret, fresh = toy_key(512), Paillier(KEY)
    made = KnownCiphertexts.encrypt(fresh, [Integer(7), Integer(-1)])
    for data, r, m in zip(made.ciphertexts, made._randomisers, (7, secret.N - 1), strict=True):
        assert from_bytes(data) == (1 + m * secret.N) * pow(secret.hs, int(r), secret.square) % secret.square
        assert KEY.randomiser_bits - 64 < r.bit_length() <= KEY.randomiser_bits + ROUNDING_BITS


@pytest.mark.parametrize("backend", available())
def test_a_commitment_is_the_power_of_its_exponent(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, backend)
    secret, fresh = toy_key(512), Paillier(KEY)
    made = [fresh.commit() for _ in range(20)]
    assert all(x.value == pow(secret.hs, int(x.exponent), secret.square) for x in made)
    bits = [x.exponent.bit_length() for x in made]
    assert KEY.commitment_bits - 64 < max(bits) <= KEY.commitment_bits + ROUNDING_BITS
    assert len({x.exponent for x in made}) == len(made)


@pytest.mark.parametrize("backend", available())
@pytest.mark.parametrize("byte", [0, 255])
def test_the_largest_and_the_smallest_response_fit(backend: str, byte: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, backend)
    fresh = Paillier(KEY)
    fresh.commit()  # builds the tables
    monkeypatch.setattr("secrets.token_bytes", lambda size: bytes([byte]) * size)
    made = KnownCiphertexts.encrypt(fresh, [Integer(1)] * TOY.lane_ciphertexts)
    monkeypatch.setattr(knowledge, "challenges", lambda seed, count: [Integer(2**128 - 1)] * count)
    assert accepted(made.ciphertexts, made.prove(CONTEXT))


# -- bound ------------------------------------------------------------------------------------------


def other(value: Any) -> Any:
    if isinstance(value, int):
        return value + 1
    return value + "x" if isinstance(value, str) else value[:-1] + bytes([(value or b"\0")[-1] ^ 1])


@pytest.mark.parametrize("field", FIELDS)
def test_a_proof_is_of_no_other_request(field: str) -> None:
    context = knowledge.context_digest(**FIELDS | {field: other(FIELDS[field])})
    assert accepted(known().ciphertexts, proof()) and not accepted(known().ciphertexts, proof(), context)


def test_a_context_says_which_value_is_of_which_field() -> None:
    swapped = FIELDS | {"device": "main", "gallery": "kiosk-1"}
    joined = FIELDS | {"device": "kiosk-1m", "gallery": "ain"}
    assert len({knowledge.context_digest(**fields) for fields in (FIELDS, swapped, joined)}) == 3


def test_a_proof_is_of_no_other_ciphertexts() -> None:
    first, second = known().ciphertexts
    again = KnownCiphertexts.encrypt(scheme(), [Integer(5), Integer(6)]).ciphertexts
    N = KEY.modulus
    negated = scheme().serialise(N * N - from_bytes(first))
    added = scheme().serialise(scheme().multiply(from_bytes(first), scheme().encode(Integer(1))))
    for sent in (
        again, (first, again[1]), (second, first), (first, first), (negated, second), (added, second),
        (first,), (first, second, second), (), (first + b"\0", second), (b"\0" + first, second), (first[1:], second),
        (b"", b""), (bytes(len(first)), second), (scheme().serialise(3 * N), second), (b"\xff" * len(first), second),
    ):  # fmt: skip
        assert not accepted(sent, proof())


def test_a_proof_is_of_no_other_key() -> None:
    other_key = replace(KEY, hs=power(KEY.hs, Integer(2), KEY.modulus**2))
    with pytest.raises(KnowledgeProofError):
        check(other_key, CONTEXT, known().ciphertexts, proof())


@pytest.mark.parametrize("change", [1, -1, 2**128])
def test_who_has_the_randomisers_almost_right_proves_nothing(change: int) -> None:
    r, *rest = known()._randomisers
    assert not accepted(known().ciphertexts, replace(known(), _randomisers=(r + change, *rest)).prove(CONTEXT))
    # The same power of hs: as good a randomiser.
    assert accepted(known().ciphertexts, replace(known(), _randomisers=(r + toy_key(512).o, *rest)).prove(CONTEXT))


# -- one encoding -----------------------------------------------------------------------------------


def test_no_bit_of_a_proof_can_be_changed() -> None:
    data = int.from_bytes(proof(), "big")
    changed = ((data ^ 1 << bit).to_bytes(len(proof()), "big") for bit in range(0, 8 * len(proof()), 5))
    assert not any(accepted(known().ciphertexts, each) for each in changed)


def test_a_response_has_one_encoding() -> None:
    seed, w = proof()[:32], response(proof())
    top = KEY.commitment_bits + ROUNDING_BITS + 1
    steps, size = ((1 << top) - 1 - w) // toy_key(512).o, len(proof()) - 32
    largest = w + steps * toy_key(512).o  # the same power of hs; only whoever knows o can do that
    assert accepted(known().ciphertexts, seed + to_bytes(largest, size))
    assert not accepted(known().ciphertexts, seed + to_bytes(w, size + 1))
    beyond = largest + toy_key(512).o
    assert top < beyond.bit_length() <= 8 * size
    assert not accepted(known().ciphertexts, seed + to_bytes(beyond, size))


@given(st.one_of(st.binary(max_size=200), st.binary(min_size=proof_bytes(KEY), max_size=proof_bytes(KEY))))
@settings(deadline=None)
def test_any_bytes_are_refused_as_a_proof(data: bytes) -> None:
    assert not accepted(known().ciphertexts, data)


@given(st.lists(st.binary(max_size=130) | st.sampled_from(known().ciphertexts), max_size=4), st.data())
@settings(deadline=None)
def test_any_bytes_are_refused_as_ciphertexts(sent: list[bytes], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(proof())))
    assert accepted(sent, proof()[:cut] + proof()[cut:]) == (tuple(sent) == known().ciphertexts)


# -- sound ------------------------------------------------------------------------------------------


def transcript(
    made: KnownCiphertexts, committed: KnownPower, es: list[Integer], patch: pytest.MonkeyPatch
) -> tuple[bytes, Integer]:
    """Seed and w of an accepted proof with this commitment, to these challenges."""
    patch.setattr(Paillier, "commit", lambda _, low=None: committed)
    patch.setattr(knowledge, "challenges", lambda seed, count: es)
    data = made.prove(CONTEXT)
    check(KEY, CONTEXT, made.ciphertexts, data)
    return data[:32], response(data)


@given(st.lists(plaintexts(KEY.modulus), min_size=2, max_size=2), st.integers(0, 1), st.data())
@settings(max_examples=40, deadline=None)
def test_two_answers_to_one_commitment_give_the_plaintext(ms: list[Integer], i: int, data: st.DataObject) -> None:
    """The extractor of the proof of soundness: whoever can answer often enough knows m."""
    challenge = st.integers(0, 2**CHALLENGE_BITS - 1).map(Integer)
    es = data.draw(st.lists(challenge, min_size=2, max_size=2))
    others = list(es)
    others[i] = data.draw(challenge.filter(lambda e: e != es[i]))
    made, committed = KnownCiphertexts.encrypt(scheme(), ms), scheme().commit()
    with pytest.MonkeyPatch.context() as patch:
        seed, w = transcript(made, committed, es, patch)
        again, v = transcript(made, committed, others, patch)
    assert seed == again
    N, c, d = KEY.modulus, from_bytes(made.ciphertexts[i]), es[i] - others[i]
    found = power(c, d, N * N) * power(KEY.hs, v - w, N * N) % (N * N)
    assert found % N == 1
    assert found // N * invert(d, N) % N == ms[i]


def test_who_knows_the_challenges_before_needs_no_randomisers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The simulator of the proof that nothing is learnt: w first, then T; the hash is what forbids it."""
    N, es, sent = KEY.modulus, [Integer(3), Integer(2**127 + 1)], known().ciphertexts
    w = scheme().commit().exponent
    product = power(from_bytes(sent[0]), es[0], N) * power(from_bytes(sent[1]), es[1], N) % N
    commitment = power(KEY.hs, w, N) * invert(product, N) % N
    forged = knowledge._seed(KEY, CONTEXT, commitment, sent) + to_bytes(w, proof_bytes(KEY) - 32)
    assert not accepted(sent, forged)
    monkeypatch.setattr(knowledge, "challenges", lambda seed, count: es)
    assert accepted(sent, forged)


# -- hides ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parameters", SETS, ids=lambda parameters: parameters.name)
def test_a_commitment_is_128_bits_longer_than_what_it_hides(parameters: ParameterSet) -> None:
    key, count = toy_public_key(parameters), parameters.lane_ciphertexts
    largest = count * (2**CHALLENGE_BITS - 1) * (2 ** (key.randomiser_bits + ROUNDING_BITS) - 1)
    assert largest < 1 << (key.commitment_bits - STATISTICAL_BITS)


def test_every_proof_has_a_commitment_of_its_own() -> None:
    proofs = [known().prove(CONTEXT) for _ in range(8)]
    assert len({data[:32] for data in proofs}) == len({response(data) for data in proofs}) == 8


def test_what_a_commitment_begins_with_serves_one_proof_whoever_proves_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made, count = KnownCiphertexts.encrypt(scheme(), [Integer(1)] * TOY.lane_ciphertexts), 8
    begun: list[KnownPower | None] = []
    commit, together = Paillier.commit, Barrier(count)

    def watched(of: Paillier, low: KnownPower | None = None) -> KnownPower:
        begun.append(low)
        return commit(of, low)

    def prove(_: int) -> bytes:
        together.wait(10)
        return made.prove(CONTEXT)

    monkeypatch.setattr(Paillier, "commit", watched)
    with ThreadPoolExecutor(count) as threads:
        proofs = list(threads.map(prove, range(count)))
    assert len(begun) == count and sum(low is not None for low in begun) == 1
    assert len({data[:32] for data in proofs}) == count and all(accepted(made.ciphertexts, data) for data in proofs)


def test_the_handle_shows_nothing_and_is_not_copied() -> None:
    assert f"{known()!r} {known()}" == "<KnownCiphertexts> <KnownCiphertexts>"


# -- several views of a probe -------------------------------------------------------------------------


@pytest.mark.parametrize("backend", available())
@pytest.mark.parametrize("parameters", SETS, ids=lambda parameters: parameters.name)
def test_one_proof_is_of_all_views(backend: str, parameters: ParameterSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, backend)
    key = toy_public_key(parameters)
    made = Paillier(key)
    views = [KnownCiphertexts.encrypt(made, [Integer(i)] * parameters.lane_ciphertexts) for i in range(MAX_VIEWS + 1)]
    for count in range(1, MAX_VIEWS + 1):
        together = KnownCiphertexts.together(views[:count])
        data = together.prove(CONTEXT)
        assert len(data) == proof_bytes(key) and len(together.ciphertexts) == count * parameters.lane_ciphertexts
        check(key, CONTEXT, together.ciphertexts, data)
        # One view more, one less, in another order, or one ciphertext alone: not what was proved.
        fewer, more = (
            together.ciphertexts[: -parameters.lane_ciphertexts],
            (*together.ciphertexts, *views[-1].ciphertexts),
        )
        for other in (fewer, more, together.ciphertexts[:-1], together.ciphertexts[::-1] if count > 1 else ()):
            with pytest.raises(KnowledgeProofError):
                check(key, CONTEXT, other, data)


def test_who_knows_all_views_but_one_proves_nothing() -> None:
    """A captured view among views of one's own: the proof of the others does not do for it."""
    captured = KnownCiphertexts.encrypt(scheme(), plaintexts_of(9))
    own = [KnownCiphertexts.encrypt(scheme(), plaintexts_of(i)) for i in range(2)]
    claimed = replace(
        KnownCiphertexts.together([own[0], own[1]]), ciphertexts=(*own[0].ciphertexts, *captured.ciphertexts)
    )
    assert not accepted(claimed.ciphertexts, claimed.prove(CONTEXT))
    assert accepted(KnownCiphertexts.together(own).ciphertexts, KnownCiphertexts.together(own).prove(CONTEXT))


def plaintexts_of(i: int) -> list[Integer]:
    return [Integer(i)] * TOY.lane_ciphertexts


def test_views_and_unless_known_are_in_the_context_and_nothing_changes_without_them() -> None:
    assert knowledge.context_digest(**FIELDS, views=0, unless_known=False) == CONTEXT
    contexts = {
        knowledge.context_digest(**FIELDS, views=views, unless_known=unless, dated=dated)
        for views in (0, 2, 3)
        for unless in (False, True)
        for dated in (False, True)
    }
    assert len(contexts) == 12
