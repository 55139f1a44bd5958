"""No class that holds a secret shows it, and none can be pickled or copied."""

from __future__ import annotations

import copy
import importlib
import json
import pickle
import pkgutil
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import pytest

import veilmatch.crypto
from tests.crypto.toys import TOY, keys_of, repeated, toy_primes, toy_public_key
from tests.simulator import PairSimulator
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.ceremony.handing_out import PairPart, SafetyPart
from veilmatch.crypto.ceremony.joint.key_shares import Own, Secrets
from veilmatch.crypto.ceremony.joint.renewal import Renewal, RenewalSession
from veilmatch.crypto.ceremony.joint.session import CeremonySession
from veilmatch.crypto.ceremony.joint.steps import JointKey
from veilmatch.crypto.ceremony.masking import Masked
from veilmatch.crypto.ceremony.rounds import Received, Round
from veilmatch.crypto.ceremony.seats import Randomness, Seat, Stream
from veilmatch.crypto.ceremony.session import Message, Session
from veilmatch.crypto.ceremony.shared import Shared
from veilmatch.crypto.ceremony.two.checking import CheckedComputation
from veilmatch.crypto.ceremony.two.computation import Computation, Operand, Roles
from veilmatch.crypto.ceremony.two.field import MERSENNE, Field
from veilmatch.crypto.dealing import BitTriples, Block, BlockCheck, BlockName, CheckedBlock, Products
from veilmatch.crypto.dealing.sacrifice import BitBuckets, ProductBuckets, TripleSacrifice
from veilmatch.crypto.dealing.tag_check import TagCheck, TaggedSacrifice
from veilmatch.crypto.encryption.knowledge import KnownCiphertexts
from veilmatch.crypto.encryption.paillier import Paillier
from veilmatch.crypto.encryption.scheme import LocalShare
from veilmatch.crypto.keys.ceremony import run_ceremony
from veilmatch.crypto.keys.refreshing import CommonSeed, RefreshName
from veilmatch.crypto.keys.shares import DealerGammas, KeyHolderKey, PairShare, SafetyShare
from veilmatch.crypto.packing.lanes import Vectors
from veilmatch.crypto.pair.answers import Found
from veilmatch.crypto.pair.beginning import Mine
from veilmatch.crypto.pair.conversion import Opening, Triple
from veilmatch.crypto.pair.key_safety import Conversion, TaggedTriple
from veilmatch.crypto.pair.mask import SessionMask
from veilmatch.crypto.pair.messages import (
    Agreement,
    Coins,
    DecisionShare,
    GateLayer,
    Hello,
    LastMask,
    LocalWork,
    Openings,
    ProbeShare,
    Reserved,
    Results,
    SafetyProof,
    SafetyWork,
    TemplateShare,
)
from veilmatch.crypto.pair.request import Part
from veilmatch.crypto.pair.session import PairSession
from veilmatch.crypto.rings.fixed_base import KnownPower
from veilmatch.crypto.rings.primes import SpecialPrime
from veilmatch.crypto.secret_access import SecretHolder

NUMBER = Integer(9182736455463728)
BYTES = b"material of a secret, 32 bytes.."
ARRAY = np.array([918273, 645546, 372819], dtype=np.int64)
BITS = np.array([173, 199, 251], dtype=np.uint8)
SHARE = PairShare("ab", "a", NUMBER, NUMBER)
SAFETY = SafetyShare("ab", "a", NUMBER, NUMBER, NUMBER, NUMBER, NUMBER)
GAMMAS = DealerGammas(NUMBER, NUMBER)
TRIPLE = Triple(NUMBER, NUMBER, NUMBER)

HANDLES: list[Any] = [
    SHARE,
    SAFETY,
    GAMMAS,
    KeyHolderKey("a", bytes(16), 1, (SHARE, SHARE), (SAFETY, SAFETY), GAMMAS, BYTES, BYTES),
    Block(BYTES, BYTES),
    CheckedBlock(BYTES),
    Hello(BYTES, BYTES, BYTES, 0, 0, 0, 0, 0, 0, BYTES, BYTES),
    Agreement(BYTES, BYTES),
    Openings(BYTES),
    LastMask(BYTES),
    GateLayer(BYTES),
    Coins(BYTES),
    SafetyProof(BYTES),
    LocalWork([NUMBER]),
    SafetyWork([NUMBER], [int(NUMBER)]),
    Reserved(0, [TRIPLE]),
    ProbeShare(bytes(32), ARRAY, True),
    TemplateShare(bytes(32), ARRAY.astype(np.uint64), True, BITS),
    Results([NUMBER], BITS.astype(bool)),
    DecisionShare(bytes(32), BITS, 1),
    Vectors(ARRAY, BITS, ARRAY),
    Found(BITS, 3, BITS, Vectors(ARRAY, BITS, ARRAY)),
    KnownCiphertexts((BYTES,), (NUMBER,), Paillier(toy_public_key(TOY))),
]
#: Values that pass through the memory of a key holder, and what a ceremony holds for a moment.
VALUES: list[Any] = [
    TRIPLE,
    TaggedTriple(NUMBER, NUMBER, NUMBER, NUMBER, NUMBER, NUMBER, NUMBER),
    Opening(NUMBER, NUMBER),
    Conversion(NUMBER, NUMBER, TRIPLE, Opening(NUMBER, NUMBER)),  # type: ignore[arg-type]
    LocalShare(NUMBER, NUMBER),
    KnownPower(NUMBER, NUMBER),
    CommonSeed(RefreshName(bytes(32), bytes(16), 2, "ab"), BYTES),
    BitTriples(BITS, BITS, BITS),
    Products(ARRAY.view(np.uint64), ARRAY.view(np.uint64)),
    SpecialPrime(NUMBER, NUMBER, NUMBER),
    run_ceremony(TOY),
]
#: Checks of dealt blocks: their material is in other handles.
CHECKS: list[Any] = [
    BlockCheck(
        BlockName("ab", bytes(32), 1, "bits", 0), Block(BYTES, b""), (BYTES, BYTES), NUMBER, NUMBER, is_plus=False
    ),
    TripleSacrifice(Block(BYTES, b""), BYTES, NUMBER, is_plus=False),
    TaggedSacrifice(Block(BYTES, b""), BYTES, NUMBER, NUMBER, is_plus=False),
    TagCheck([NUMBER, NUMBER], BYTES, NUMBER),
    BitBuckets(Block(BYTES, b""), BYTES, is_plus=False),
    ProductBuckets(Block(BYTES, b""), BYTES, is_plus=False),
]
#: A session and its parts: what they hold they made themselves.
(SESSION, _) = PairSimulator(keys_of("stand-in")).sessions(
    PairSimulator(keys_of("stand-in")).request("enrol", 0), ([NUMBER] * TOY.lane_ciphertexts,) * 2
)
MASK = SessionMask(bytes(32), BYTES, BYTES)
PARTS: list[Any] = [
    MASK, SESSION, SESSION._exchange, SESSION._converter, SESSION._converter._beginning,
    Mine(cast(Part, SESSION._parts[0]), BYTES, BYTES, [LocalShare(NUMBER, NUMBER)]),
]  # fmt: skip
#: What a party of a key ceremony without a dealer holds for a while.
RANDOMNESS = Randomness(BYTES, {"b": BYTES, "c": BYTES})
SEAT = Seat("a", RANDOMNESS)
SHARED = Shared("a", [NUMBER], [NUMBER], NUMBER)
FIELD, ROLES = Field(MERSENNE[0]), cast(Roles, ("b", "c", "a"))
PARTS += [
    RANDOMNESS, SEAT, Stream(BYTES), SHARED, Masked((NUMBER,), SHARED, SHARED), Round(told=BYTES),
    Received({"b": BYTES}, {"b": BYTES}), Operand([NUMBER], [NUMBER]), Secrets(SHARED, SHARED),
    Computation(SEAT.named("one"), FIELD, ROLES, 1), CheckedComputation(SEAT.named("two"), FIELD, ROLES, 1),
    PairPart((NUMBER,), {"b": SHARED}), SafetyPart((NUMBER,), (NUMBER,), (NUMBER,), (NUMBER,)),
    Message(BYTES, 1, BYTES), CeremonySession("a", TOY), Session("a", BYTES, lambda *_: iter(())), Own(BYTES, BYTES),
    RenewalSession("c", Renewal(toy_public_key(TOY), 3, "c", BYTES), None), JointKey(toy_public_key(TOY), HANDLES[3]),
]  # fmt: skip
#: Shares of one bit: nothing that could be told from other text.
BIT, OTHER_BIT = (DecisionShare(bytes(32), np.array([bit], dtype=np.uint8), bit) for bit in (0, 1))


def name_of(thing: Any) -> str:
    return type(thing).__name__


def forms_of(value: Any) -> Iterator[str]:
    """How material could appear in text."""
    if isinstance(value, bytes):
        yield from (value.hex(), repr(value)[2:-1]) if any(value) else ()
    elif isinstance(value, np.ndarray):
        yield from (str(value)[1:-1], str(value.tolist())[1:-1])
    elif isinstance(value, list | tuple):
        for item in value:
            yield from forms_of(item)
    elif hasattr(value, "__dataclass_fields__"):
        for field in value.__dataclass_fields__:
            yield from forms_of(getattr(value, field))
    elif not isinstance(value, bool | str | Paillier) and int(value) > 1 << 32:
        yield from (str(value), f"{int(value):x}")


@pytest.mark.parametrize("thing", HANDLES + VALUES, ids=name_of)
def test_no_representation_shows_material(thing: Any) -> None:
    text = " ".join((repr(thing), str(thing), f"{thing}", f"{thing!a}", repr([thing]), json.dumps(thing, default=repr)))
    forms = set(forms_of(thing))
    assert forms and not [form for form in forms if form in text]
    assert name_of(thing) in text


def test_no_representation_shows_a_check() -> None:
    assert all(f"{thing!r} {thing}" == f"<{name_of(thing)}> <{name_of(thing)}>" for thing in CHECKS)


def test_no_representation_shows_a_bit() -> None:
    assert repr(BIT) == str(BIT) == repr(OTHER_BIT) == str(OTHER_BIT) == "<DecisionShare>"


def test_no_representation_shows_a_mask_or_a_part_of_a_session() -> None:
    drawn = [MASK._seed.hex(), repr(MASK._seed)[2:-1], *map(str, MASK.words(4)), *map(str, MASK.residues(2, NUMBER))]
    for thing in PARTS:
        text = f"{thing!r} {thing} {[thing]}"
        assert f"<{name_of(thing)}>" in text
        assert not [form for form in (*drawn, *forms_of(BYTES), *forms_of(NUMBER)) if form in text]


@pytest.mark.parametrize("thing", [*HANDLES, *VALUES, *CHECKS, *PARTS], ids=name_of)
def test_nothing_with_material_is_pickled_or_copied(thing: Any) -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError):
            pickle.dumps(thing, protocol)
    with pytest.raises(TypeError):
        copy.copy(thing)
    with pytest.raises(TypeError):
        copy.deepcopy(thing)


def all_handles() -> set[str]:
    """The name of every class of crypto that says it holds a secret."""
    for module in pkgutil.walk_packages(veilmatch.crypto.__path__, "veilmatch.crypto."):
        importlib.import_module(module.name)
    found, new = set(), {SecretHolder}
    while new := {sub for kind in new for sub in kind.__subclasses__()}:
        found |= new
    return {kind.__qualname__ for kind in found if kind.__module__.startswith("veilmatch.crypto")}


def test_every_handle_of_a_secret_is_tested_here() -> None:
    assert all_handles() <= {name_of(thing) for thing in [*HANDLES, *VALUES, *CHECKS, *PARTS]}
    assert {name_of(thing) for thing in HANDLES} <= all_handles()


def test_primes_of_a_key_are_not_shown() -> None:
    for prime in toy_primes():
        assert not any(f"{int(x)}" in repr(prime) for x in (prime.prime, prime.factor, prime.cofactor))


def test_session_and_scheme_do_not_show_the_share() -> None:
    keys = keys_of("paillier")
    simulator = PairSimulator(keys)
    simulator.enrol(repeated(2, TOY))
    (session, _) = simulator.last_sessions
    assert isinstance(session, PairSession)
    text = f"{session} {session!r} {session._parts} {keys.scheme} {keys.plus} {keys.minus}"
    secret = [*forms_of(keys.plus), *forms_of(keys.minus), str(int(keys.exponents[0])), str(int(keys.exponents[1]))]
    assert secret and not [form for form in secret if form in text]
    with pytest.raises(TypeError):
        pickle.dumps(session)
