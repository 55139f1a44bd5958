"""The code gives the known answers of tests/vectors, which a second implementation made."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np
import pytest

from tests.crypto.toys import SIGNERS, toy_key, toy_public_key
from tests.vectors.generate import BODY_BYTES, CONTEXT_BYTES, load, outdated
from veilmatch.crypto import digests, errors, requests
from veilmatch.crypto.arithmetic import Integer, from_bytes
from veilmatch.crypto.dealing import (
    STOCK_KINDS,
    Block,
    BlockName,
    Products,
    Words,
    bit_triples,
    check_block,
    deal,
    deal_tagged,
    products,
    tagged_triples,
    triples,
)
from veilmatch.crypto.encryption import knowledge
from veilmatch.crypto.encryption.paillier import Paillier
from veilmatch.crypto.encryption.public_key_format import PublicFile
from veilmatch.crypto.encryption.scheme import LocalShare
from veilmatch.crypto.errors import VeilmatchError
from veilmatch.crypto.gates.multiplication import only_valid
from veilmatch.crypto.keys.device_certificate import DeviceCertificate
from veilmatch.crypto.keys.refreshing import RefreshName, commitment, common_seed, open_commitment, refreshed_share
from veilmatch.crypto.keys.shares import DealerGammas, KeyHolderKey, PairShare, SafetyShare
from veilmatch.crypto.packing import lanes, slots
from veilmatch.crypto.pair.conversion import (
    Opening,
    Triple,
    fingerprint_hashes,
    hashes_agree,
    open_masked,
    output_share,
)
from veilmatch.crypto.pair.key_safety import (
    Conversion,
    TaggedTriple,
    combination,
    draw_weights,
    expected_proof,
    proof,
)
from veilmatch.crypto.pair.mask import SEED_BYTES, SessionMask, last_masked, last_masked_words
from veilmatch.crypto.pair.messages import Composed, Hello, LocalWork, Receive, Reserve, Reserved, Send
from veilmatch.crypto.pair.request import Part, Request
from veilmatch.crypto.pair.session import PairSession
from veilmatch.crypto.parameters import D512, DEFAULT, ParameterSet
from veilmatch.crypto.requests import check_model
from veilmatch.crypto.rings import fixed_base
from veilmatch.crypto.secret_access import SECRET_ACCESS
from veilmatch.protos.v1 import request_pb2
from veilmatch.server.admission.certification import certified_statement

Case = dict[str, Any]


def cases(file: str, key: str = "cases", **fixed: object) -> list[Any]:
    """The cases of a file whose fields are as given, as pytest parameters with a readable name."""
    found = [c for c in load(file)[key] if all(c.get(name) == value for name, value in fixed.items())]
    assert found, "no such cases"
    return [pytest.param(case, id=f"{i}-{_title(case)}") for i, case in enumerate(found)]


def _title(case: Case) -> str:
    for field in ("name", "what", "why", "function", "kind"):
        if isinstance(case.get(field), str):
            return f"{case['expect']}: {case[field]}"
    return str(case["expect"])


def error(name: str) -> type[VeilmatchError]:
    kind = getattr(errors, name)
    assert issubclass(kind, VeilmatchError)
    return kind  # type: ignore[no-any-return]


def integers(values: Iterable[str]) -> list[Integer]:
    return [Integer(int(v, 16)) for v in values]


def words(values: Iterable[str]) -> Words:
    return np.array([int(v, 16) for v in values], dtype=np.uint64)


@cache
def paillier(modulus_bits: int) -> Paillier:
    return Paillier(toy_public_key(ParameterSet(4, 8, 3, modulus_bits)))


def test_files_are_what_the_generator_makes() -> None:
    assert outdated() == []


def test_keys_of_the_vectors_say_unsafe() -> None:
    assert "UNSAFE" in load("keys")["warning"]
    assert "UNSAFE" in load("key_shares")["warning"]


FIELDS = ("dimension", "scale", "clip", "modulus_bits", "lane_bits")


@pytest.mark.parametrize("case", cases("parameter_sets", "sets", expect="valid"))
def test_parameter_set_has_the_known_numbers(case: Case) -> None:
    p = ParameterSet(*(case[x] for x in FIELDS))
    found = {
        "name": p.name, "k": p.ring_bits, "M": p.norm_max, "M_lo": p.norm_min, "W": p.wrap_limit, "B": p.slot_bits,
        "threshold_max": p.threshold_max, "offset": p.offset, "lane_risk": p.lane_risk, "lanes": p.lanes,
        "lane_ciphertexts": p.lane_ciphertexts, "slots": p.slots, "ciphertext_bytes": p.ciphertext_bytes,
    }  # fmt: skip
    assert found == {name: case[name] for name in found}
    assert ParameterSet.from_name(case["name"]) == p


def test_named_sets_are_those_of_the_design() -> None:
    assert (DEFAULT.ring_bits, DEFAULT.wrap_limit, DEFAULT.slot_bits, DEFAULT.slots) == (17, 5, 27, 111)
    assert (D512.ring_bits, D512.wrap_limit, D512.slot_bits, D512.slots) == (17, 5, 26, 115)


@pytest.mark.parametrize("case", cases("parameter_sets", "sets", expect="ParameterError"))
def test_unsound_parameter_set_is_refused(case: Case) -> None:
    with pytest.raises(error(case["expect"])):
        ParameterSet(*(case[x] for x in FIELDS))


@pytest.mark.parametrize("case", cases("parameter_sets", "names"))
def test_name_of_no_parameter_set_is_refused(case: Case) -> None:
    with pytest.raises(error(case["expect"])):
        ParameterSet.from_name(case["name"])


@pytest.mark.parametrize("case", cases("packing", kind="lanes"))
def test_lanes_are_packed_and_cut_as_known(case: Case) -> None:
    p = ParameterSet.from_name(case["parameter_set"])
    assert lanes.pack(np.array(case["vector"]), p) == integers(case["plaintexts"])
    for role in ("plus", "minus"):
        fields = lanes.unpack(integers(case[f"w_{role}"]), p)
        assert fields.tolist() == case["lanes"][role]
        assert lanes.ring_share(fields, p, is_plus=role == "plus").tolist() == case["ring"][role]


@pytest.mark.parametrize("case", cases("packing", kind="words"))
def test_words_of_both_matchers_become_the_known_parts_of_a_record_and_a_column(case: Case) -> None:
    p = ParameterSet.from_name(case["parameter_set"])

    def hashed(values: list[Integer]) -> str:
        return hashlib.sha256("\n".join(f"{int(v):x}" for v in values).encode()).hexdigest()

    parts = []
    for role in ("plus", "minus"):
        share, is_plus = words(case["words"][role]), role == "plus"
        parts.append(lanes.record_part(share, p, is_plus=is_plus))
        assert parts[-1] == integers(case["record"][role])
        column = slots.lane_column(share, case["slot"], p, is_plus=is_plus)
        assert hashed(column) == case["columns_sha256"][role]
        erasing = slots.lane_column(share, case["slot"], p, is_plus=is_plus, erase=True)
        assert hashed(erasing) == case["erasing_sha256"][role]
    assert [a + b for a, b in zip(*parts, strict=True)] == lanes.pack(np.array(case["vector"]), p)
    assert not lanes.words_at_risk(words(case["words"]["minus"]), p)


@pytest.mark.parametrize("case", cases("packing", kind="slots", expect="valid"))
def test_slots_are_packed_and_cut_as_known(case: Case) -> None:
    p = ParameterSet.from_name(case["parameter_set"])
    plain = slots.pack(np.array(case["templates"]), p)
    assert plain[0] == int(case["first_plaintext"], 16)
    listed = "\n".join(f"{int(v):x}" for v in plain)
    assert hashlib.sha256(listed.encode()).hexdigest() == case["plaintexts_sha256"]
    assert slots.unpack(integers(case["w"]), p).tolist() == case["slots"]
    assert slots.half(p) == int(case["half"], 16)


@pytest.mark.parametrize("case", cases("packing", kind="slots", expect="ParameterError"))
def test_templates_that_do_not_fit_a_pack_are_refused(case: Case) -> None:
    with pytest.raises(error(case["expect"])):
        slots.pack(np.zeros(case["shape"], dtype=np.int64), ParameterSet.from_name(case["parameter_set"]))


@pytest.mark.parametrize("case", cases("encryption", kind="encrypt"))
def test_encryption_with_a_fixed_randomiser_gives_the_known_ciphertext(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VEILMATCH_BACKEND", "gmpy2")  # the digits of the vectors are bytes
    scheme, digits = Paillier(paillier(case["modulus_bits"]).public_key), bytes.fromhex(case["digits"])
    asked: list[int] = []
    monkeypatch.setattr(fixed_base.secrets, "token_bytes", lambda size: asked.append(size) or digits)
    c = scheme.encrypt(Integer(int(case["m"], 16)))
    assert asked == [len(digits)]
    assert scheme.serialise(c).hex() == case["ciphertext"]
    assert scheme.parse(bytes.fromhex(case["ciphertext"])) == c


@pytest.mark.parametrize("case", cases("encryption", kind="parse"))
def test_bytes_are_a_ciphertext_or_refused(case: Case) -> None:
    scheme, data = paillier(case["modulus_bits"]), bytes.fromhex(case["ciphertext"])
    good = scheme.serialise(scheme.encrypt(Integer(7)))
    if case["expect"] == "valid":
        assert scheme.parse_many([good, data]) == [from_bytes(good), scheme.parse(data)]
        assert scheme.serialise(scheme.parse(data)) == data
        return
    with pytest.raises(error(case["expect"])):
        scheme.parse(data)
    with pytest.raises(error(case["expect"])):
        scheme.parse_many([good, data])


@pytest.mark.parametrize("case", cases("conversion"))
def test_conversion_with_fixed_shares_and_triples_gives_the_known_values(case: Case) -> None:
    scheme = paillier(case["modulus_bits"])
    N, c, session_id = scheme.modulus, Integer(int(case["ciphertext"], 16)), bytes.fromhex(case["session_id"])
    local, w, hashed = {}, {}, {}
    openings: dict[str, Opening] = {}
    for role, party in (("plus", "a"), ("minus", "b")):
        known = case[role]
        share = PairShare("ab", party, *integers([known["o"], known["kappa"]]))  # type: ignore[arg-type]
        assert share.is_plus == (role == "plus")
        (local[role],) = scheme.local_shares([c], share.exponent(scheme.public_key, SECRET_ACCESS))
        assert local[role].z == int(known["z"], 16)
        opening = open_masked(local[role].z, share.kappa(SECRET_ACCESS), Triple(*integers(known["triple"])), N)
        assert [opening.d, opening.e] == integers(known["opening"])
        hashed[role] = fingerprint_hashes([local[role]], session_id, role, N)
        assert hashed[role].hex() == known["fingerprint_hash"]
        openings[role] = opening
    for role, other in (("plus", "minus"), ("minus", "plus")):
        triple = Triple(*integers(case[role]["triple"]))
        w[role] = output_share(triple, openings[role], openings[other], N, is_plus=role == "plus")
        assert w[role] == int(case[role]["w"], 16)
    agree = hashes_agree(hashed["minus"], fingerprint_hashes([local["plus"]], session_id, "minus", N))
    assert agree == (case["expect"] == "valid")
    assert ((w["plus"] - w["minus"]) % N == int(case["m"], 16)) == (case["expect"] == "valid")


@pytest.mark.parametrize("case", cases("dealing", "blocks"))
def test_dealt_block_has_the_known_bytes(case: Case) -> None:
    N, name = Integer(toy_key(case["modulus_bits"]).N), dict(case["name"])
    name["stock"] = bytes.fromhex(name["stock"])
    plus, minus = (
        deal(bytes.fromhex(case["dealing_seed"]), BlockName(**name), N, for_plus=for_plus) for for_plus in (True, False)
    )
    assert (plus.seed.hex(), minus.seed.hex(), minus.corrections) == (case["plus_seed"], case["minus_seed"], b"")
    assert len(plus.corrections) == case["corrections_bytes"]
    assert hashlib.sha256(plus.corrections).hexdigest() == case["corrections_sha256"]
    for unit in case["units"]:
        for role, block in (("plus", plus), ("minus", minus)):
            if name["kind"] == "bits":
                part = bit_triples(block, unit["at"], 1)
                assert [int(x[0]) for x in (part.a, part.b, part.c)] == unit[role]
            elif name["kind"] == "products":
                word = products(block, unit["at"], 1)
                assert [int(word.factor[0]), int(word.product[0])] == integers(unit[role])
            else:
                (triple,) = triples(block, unit["at"], 1, N)
                assert [triple.a, triple.b, triple.ab] == integers(unit[role])


@pytest.mark.parametrize("case", cases("dealing", "tagged"))
def test_tagged_block_has_the_known_bytes(case: Case) -> None:
    N, name = Integer(toy_key(case["modulus_bits"]).N), dict(case["name"])
    name["stock"] = bytes.fromhex(name["stock"])
    gammas, seed = DealerGammas(*integers(case["gammas"])), bytes.fromhex(case["dealing_seed"])
    for role in ("plus", "minus"):
        block = deal_tagged(seed, BlockName(**name), N, gammas, for_plus=role == "plus")
        assert len(block.corrections) == case[role]["corrections_bytes"]
        assert hashlib.sha256(block.corrections).hexdigest() == case[role]["corrections_sha256"]
        for unit in case[role]["units"]:
            (triple,) = tagged_triples(block, unit["at"], 1, N)
            assert [triple.tag_a, triple.tag_b] == integers(unit["tags"])
            assert [triple.key_a, triple.key_b] == integers(unit["keys"])


@pytest.mark.parametrize("case", cases("key_safety"))
def test_proof_of_fixed_conversions_is_the_known_one(case: Case) -> None:
    """Weights, c*, and the proofs of both holders, each equal to what the other expects."""
    scheme, session_id = paillier(case["modulus_bits"]), bytes.fromhex(case["session_id"])
    N, roles = scheme.modulus, ("plus", "minus")
    weights = draw_weights(session_id, *(bytes.fromhex(case[f"{role}_coins"]) for role in roles), len(case["of"]))
    assert list(zip(weights.rho, weights.sigma, strict=True)) == [tuple(integers(x["weights"])) for x in case["of"]]
    made = {
        role: [
            Conversion(
                *integers([x["ciphertext"], x[role]["z"]]), TaggedTriple(*integers(x[role]["triple"])),
                Opening(*integers(x[other]["opening"])),
            )
            for x in case["of"]
        ]
        for role, other in zip(roles, roles[::-1], strict=True)
    }  # fmt: skip
    for role, other in zip(roles, roles[::-1], strict=True):
        party = "ab"[roles.index(role)]
        share = SafetyShare("ab", party, *integers(case[role]["safety"]))  # type: ignore[arg-type]
        c_star = scheme.combine(*combination(made[role], weights))
        assert c_star == int(case["c_star"], 16)
        local = [scheme.local_shares([c_star], t)[0] for t in share.exponents(scheme.public_key, SECRET_ACCESS)]
        assert proof(made[role], weights, local[1].z, share, N).hex() == case[role]["proof"]
        assert expected_proof(made[role], weights, local[0].z, share, N).hex() == case[other]["proof"]


@pytest.mark.parametrize("case", cases("dealing", "sizes"))
def test_dealt_block_of_the_wrong_size_is_refused(case: Case) -> None:
    block = Block(bytes(case["seed_bytes"]), bytes(case["corrections_bytes"]))
    N = Integer(toy_key(512).N)
    if case["expect"] == "valid":
        assert check_block(block, case["kind"], N, is_plus=case["is_plus"]) is block
        return
    with pytest.raises(error(case["expect"])):
        check_block(block, case["kind"], N, is_plus=case["is_plus"])


def _request(fields: Case) -> Request:
    raw = ("request_digest", "device_nonce", "chain", "key_id", "stock")
    return Request(**{name: bytes.fromhex(value) if name in raw else value for name, value in fields.items()})


@pytest.mark.parametrize("case", cases("digests", "sessions"))
def test_session_has_the_known_context_and_id(case: Case) -> None:
    request, scheme = _request(case["request"]), paillier(512)
    assert request.subject_matter().hex() == case["subject_matter"]
    assert request.context().hex() == case["context"]
    coins = {role: bytes.fromhex(case[f"{role}_coins"]) for role in ("plus", "minus")}
    nonces = {role: bytes.fromhex(case[f"{role}_nonce"]) for role in ("plus", "minus")}
    masks = {role: bytes.fromhex(case[f"{role}_mask"]) for role in ("plus", "minus")}
    vectors = 2 if request.operation == "verify" else 1  # a record beside the probe
    ciphertexts = [scheme.encrypt(Integer(1)) for _ in range(vectors)]
    sessions = [
        PairSession(
            [Part(request, ciphertexts, np.arange(vectors) == 0)],
            PairShare(request.pair, party, Integer(5), Integer(7)),  # type: ignore[arg-type]
            SafetyShare(request.pair, party, *(Integer(i) for i in range(5))),  # type: ignore[arg-type]
            scheme,
            coins[role],
            masks[role],
            (0, 0, 0),
        )
        for role, party in zip(("plus", "minus"), request.pair, strict=True)
    ]
    begun = [session.start() for session in sessions]
    assert all(isinstance(action, LocalWork) for action in begun)
    plus, minus = sessions
    local = [LocalShare(Integer(3), Integer(4))] * vectors
    assert plus.resume(local) == Receive()
    hello = minus.resume(local)
    assert isinstance(hello, Send) and minus.resume(None) == Receive()
    answered = plus.resume(hello.envelope)
    while isinstance(answered, Reserve):
        answered = plus.resume(Reserved(0, []))
    assert isinstance(answered, Send)
    for role, action in (("minus", hello), ("plus", answered)):
        said = action.envelope.message
        assert isinstance(said, Hello)
        assert (said.context, said.nonce, said.mask_secret) == (request.context(), nonces[role], masks[role])
        assert said.floors == dict.fromkeys(STOCK_KINDS, 0) == said.starts
    assert minus.resume(answered.envelope) == Composed((0,), {}) and isinstance(minus.resume(None), Reserve)
    for session in sessions:
        assert session.session_id.hex() == case["session_id"]
        assert session._exchange.mask.words(4).tolist() == integers(case["mask_words"])


@pytest.mark.parametrize("case", cases("session_mask", expect="valid"))
def test_mask_of_a_session_draws_the_known_streams(case: Case) -> None:
    session_id, plus, minus = (bytes.fromhex(case[name]) for name in ("session_id", "plus", "minus"))
    mask, N = SessionMask(session_id, plus, minus), Integer(toy_key(case["modulus_bits"]).N)
    for draw in case["draws"]:
        arguments = (draw["count"], N) if draw["kind"] == "residues" else (draw["count"],)
        found = getattr(mask, draw["kind"])(*arguments)
        assert [int(x) for x in found] == integers(draw["values"]) and len(found) == draw["count"]


@pytest.mark.parametrize("case", cases("session_mask", expect="ProtocolError"))
def test_mask_of_a_secret_of_another_size_is_refused(case: Case) -> None:
    with pytest.raises(error(case["expect"])):
        SessionMask(*(bytes.fromhex(case[name]) for name in ("session_id", "plus", "minus")))


@pytest.mark.parametrize("case", cases("last_mask"))
def test_last_masks_of_a_seed_are_the_known_ones(case: Case) -> None:
    seed = bytes.fromhex(case["seed"])
    assert len(seed) == SEED_BYTES
    for known in (case["plus"], case["minus"]):
        if "modulus_bits" in case:
            N = Integer(toy_key(case["modulus_bits"]).N)
            assert last_masked(integers(known["shares"]), seed, N) == integers(known["masked"])
        else:
            assert np.array_equal(last_masked_words(words(known["shares"]), seed), words(known["masked"]))


@pytest.mark.parametrize("case", cases("multiplication"))
def test_vectors_times_their_valid_bit_are_the_known_shares(case: Case) -> None:
    circuits = {}
    for role in ("plus", "minus"):
        known = case[role]
        dealt = Products(*(words(known[x]) for x in ("factors", "products")))
        bits = np.frombuffer(bytes.fromhex(known["bits"]), dtype=np.uint8)
        circuits[role] = only_valid(
            bits, words(known["lanes"]), len(case["valid"]), case["offset"], dealt, is_plus=role == "plus"
        )
        assert next(circuits[role]).hex() == known["messages"][0]
    for role, other in (("plus", "minus"), ("minus", "plus")):
        assert circuits[role].send(bytes.fromhex(case[other]["messages"][0])).hex() == case[role]["messages"][1]
    for role, other in (("plus", "minus"), ("minus", "plus")):
        with pytest.raises(StopIteration) as ended:
            circuits[role].send(bytes.fromhex(case[other]["messages"][1]))
        assert ended.value.value.tolist() == integers(case[role]["shares"])


@pytest.mark.parametrize("case", cases("digests", "bodies"))
def test_signed_body_has_the_known_encoding(case: Case) -> None:
    fields = {x: bytes.fromhex(v) if x in BODY_BYTES else v for x, v in case["fields"].items()}
    encoded = request_pb2.RequestBody(**fields).SerializeToString(deterministic=True)
    assert encoded.hex() == case["body"]
    assert check_model(fields.get("model", "-"))


@pytest.mark.parametrize("case", cases("digests", "requests"))
def test_digest_of_a_request_is_the_known_one(case: Case) -> None:
    function = getattr(requests, case["function"])
    if "items" in case:
        found = function([bytes.fromhex(item) for item in case["items"]])
    elif "templates" in case:
        found = function(bytes.fromhex(case["pack"]), [(s, bytes.fromhex(r)) for s, r in case["templates"]])
    elif "subject" in case:
        found = function(bytes.fromhex(case["salt"]), case["subject"])
    else:
        found = function(bytes.fromhex(case["body"]))
    assert found.hex() == case["result"]
    assert case["function"] == "signed_bytes" or len(found) == digests.DIGEST_BYTES


@pytest.mark.parametrize("case", cases("key_shares", expect="valid"))
def test_key_share_has_the_known_encoding(case: Case) -> None:
    file = load("key_shares")
    public_key = toy_public_key(ParameterSet.from_name(file["parameter_set"]))
    key = KeyHolderKey.from_secret_bytes(bytes.fromhex(case["encoding"]), public_key)
    assert (key.party, key.epoch, key.key_id) == (case["party"], case["epoch"], public_key.key_id)
    for pair, exponent, kappa in zip(case["pairs"], case["exponents"], case["kappas"], strict=True):
        share = key.share(pair)
        assert (share.pair, share.party) == (pair, case["party"])
        assert share.exponent(public_key, SECRET_ACCESS) == int(exponent, 16)
        assert share.kappa(SECRET_ACCESS) == int(kappa, 16)
    for pair, known in zip(case["pairs"], case["safety"], strict=True):
        safety = key.safety(pair)
        assert (safety.pair, safety.party, safety.gamma(SECRET_ACCESS)) == (
            pair,
            case["party"],
            int(known["gamma"], 16),
        )
        assert list(safety.exponents(public_key, SECRET_ACCESS)) == integers(known["exponents"])
        assert [safety.kappa_key(SECRET_ACCESS), safety.kappa_tag(SECRET_ACCESS)] == integers(known["kappa"])
    dealt = key.dealer_gammas(SECRET_ACCESS)
    assert [dealt.of_verifier(is_plus=is_plus, access=SECRET_ACCESS) for is_plus in (True, False)] == integers(
        case["dealer_gammas"]
    )
    assert key.dealing_seed(SECRET_ACCESS).hex() == case["dealing_seed"]
    assert key.storage_seed(SECRET_ACCESS).hex() == case["storage_seed"]
    assert key.to_secret_bytes(public_key, SECRET_ACCESS).hex() == case["encoding"]


@pytest.mark.parametrize(
    "case", cases("key_shares", expect="KeyFileError") + cases("key_shares", expect="KeyMismatchError")
)
def test_malformed_key_share_is_refused(case: Case) -> None:
    public_key = toy_public_key(ParameterSet.from_name(load("key_shares")["parameter_set"]))
    with pytest.raises(error(case["expect"])) as raised:
        KeyHolderKey.from_secret_bytes(bytes.fromhex(case["encoding"]), public_key)
    assert type(raised.value) is error(case["expect"])


# -- refreshing ---------------------------------------------------------------------------------------


def refresh_name(case: Case) -> RefreshName:
    refresh_id, key_id = (bytes.fromhex(case[n]) for n in ("refresh_id", "key_id"))
    return RefreshName(refresh_id, key_id, case["epoch"], case["pair"])


@pytest.mark.parametrize("case", cases("refreshing", expect="valid"))
def test_a_refresh_adds_the_known_values(case: Case) -> None:
    public_key, name = paillier(512).public_key, refresh_name(case)
    plus, minus = (bytes.fromhex(case[n]) for n in ("plus", "minus"))
    assert commitment(name, plus).hex() == case["commitment"]
    seed = common_seed(name, plus, minus)
    assert seed._seed.hex() == case["seed"]
    assert [
        seed.bits("o", public_key.randomiser_bits), seed.below("kappa", public_key.modulus)
    ] == integers(case["added"])  # fmt: skip
    for party in case["pair"]:
        before = PairShare(case["pair"], party, *integers(case["before"][party]))
        after = refreshed_share(before, seed, public_key)
        assert after == PairShare(case["pair"], party, *integers(case["after"][party]))
        assert after.exponent(public_key, SECRET_ACCESS) == int(case["exponents"][party], 16)


@pytest.mark.parametrize("case", cases("refreshing", expect="ProtocolError"))
def test_contributions_that_are_none_are_refused(case: Case) -> None:
    name = refresh_name(case)
    committed, plus, minus = (bytes.fromhex(case[n]) for n in ("commitment", "plus", "minus"))
    with pytest.raises(error(case["expect"])):
        common_seed(name, open_commitment(name, committed, plus), minus)


@pytest.mark.parametrize("case", cases("device_certificates"))
def test_certificate_of_a_device_is_the_known_one_or_refused(case: Case) -> None:
    file = load("device_certificates")
    organisations = tuple(bytes.fromhex(key) for key in file["organisations"].values())
    key = toy_public_key(ParameterSet.from_name("UNSAFE-d12-s8-c3-n512"))
    public, data = PublicFile(key, bytes.fromhex(file["installation"]), organisations, SIGNERS), case["file"].encode()
    if case["expect"] == "valid":
        found = DeviceCertificate.decode(data)
        assert found.encode() == data and list(found.organisations) == case["organisations"]
        assert certified_statement(found, public).signed_bytes().hex() == case["signed_bytes"]
        return
    with pytest.raises(error(case["expect"])):
        certified_statement(DeviceCertificate.decode(data), public)


@pytest.mark.parametrize("case", cases("knowledge"))
def test_proof_of_knowledge_is_the_known_one_or_refused(case: Case) -> None:
    key = toy_public_key(ParameterSet.from_name(case["fields"]["parameter_set"]))
    fields = {x: bytes.fromhex(v) if x in CONTEXT_BYTES else v for x, v in case["fields"].items()}
    proof, ciphertexts = bytes.fromhex(case["proof"]), [bytes.fromhex(c) for c in case["ciphertexts"]]
    context = knowledge.context_digest(**fields)
    if case["expect"] == "valid":
        assert fields["key_id"] == key.key_id and fields["payload_digest"] == requests.payload_digest(ciphertexts)
        assert context.hex() == case["context"]
        assert knowledge.challenges(proof[:32], len(ciphertexts)) == integers(case["challenges"])
        assert len(proof) == knowledge.proof_bytes(key)
        return knowledge.check(key, context, ciphertexts, proof)
    with pytest.raises(error(case["expect"])):
        knowledge.check(key, context, ciphertexts, proof)
