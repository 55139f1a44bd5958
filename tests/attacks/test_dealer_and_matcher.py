"""The dealer of a pair gets what one of its matchers gets: the key, and honest templates. docs/protocol.md.

A share is uniform on its own, and a known linear function of o and kappa for whoever dealt what it was made with. So
one matcher's shares of two conversions of one record, or of one enrolment, or of one probe of zeros, are the key.

Every attack runs twice. With the streams of both masks taken out (all zero), that of the session and the last ones, it
finds what it looks for; with the masks in it finds nothing, in the same sessions with the same dealt randomness, told
where everything was used. Either mask is enough: the dealer hears neither.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from tests.attacks.dealer import Dealer, ShareOfW
from tests.attacks.lattice import Relation, small_solution
from tests.attacks.tools import decrypt_with, secrets_of, take_last_mask_out, take_mask_out, take_session_mask_out
from tests.crypto.toys import keys_of
from tests.simulator import MINUS, PLUS, Keys, PairSimulator, SimulatedGallery, unit_vectors
from tests.storing import records_of
from veilmatch.crypto.arithmetic import Integer, invert
from veilmatch.crypto.dealing import Products
from veilmatch.crypto.gates.multiplication import only_valid_cost
from veilmatch.crypto.gates.validity import validity_cost
from veilmatch.crypto.packing import lanes
from veilmatch.crypto.packing.fields import Array, join
from veilmatch.crypto.pair.messages import ProbeShare
from veilmatch.crypto.parameters import ParameterSet

#: Two full ciphertexts of nine lanes.
P = ParameterSet(18, 8, 3, 512)
TEMPLATE = unit_vectors(np.random.default_rng(501), 1, P)[0]
#: What is above the lanes of a full ciphertext: all that a matcher does not see of w.
ABOVE_BITS = P.modulus_bits - P.lane_bits * P.lanes
O_BITS = P.subgroup_bits + 1


@pytest.fixture
def keys() -> Keys:
    return keys_of("paillier", P)


@pytest.fixture(params=[PLUS, MINUS], ids=["plus", "minus"])
def holder(request: pytest.FixtureRequest) -> int:
    """Whose shares the dealer gets."""
    return request.param  # type: ignore[no-any-return]


def whole_key(keys: Keys, o: Integer | None) -> bool:
    """Whether this is the key: it decrypts."""
    c = keys.scheme.encrypt(Integer(20261128))
    found = o is not None and bool(o) and decrypt_with(o, c, keys.scheme.modulus) == 20261128
    assert not found or o == secrets_of(keys)[0]
    return found


def equation(share: ShareOfW, lanes_of_w: Sequence[int], above: str, **unknown: Integer) -> Relation:
    """w of one ciphertext, of which all lanes are known: an equation in what is above, in kappa, and what is named."""
    coefficients = {above: Integer(1) << P.lane_bits * P.lanes, "kappa": -share.of_kappa}
    return Relation(coefficients | unknown, share.constant - join(list(lanes_of_w), P.lane_bits))


def key_from_known_vector(
    dealt: Sequence[ShareOfW], fields: Sequence[int], vector: Array, N: Integer, *, is_plus: bool
) -> Integer | None:
    """Return o from one conversion of a vector that is known."""
    relations, bits = [], {"o": O_BITS}
    for i, (share, m) in enumerate(zip(dealt, lanes.pack(vector, P), strict=True)):
        above = f"above {i}"
        w = equation(share, fields[P.lanes * i : P.lanes * (i + 1)], above, o=-share.of_om * m)
        relations.append(Relation(w.coefficients, w.value + (m if is_plus else 0)))
        bits[above] = ABOVE_BITS
    found = small_solution(relations, bits, N)
    return None if found is None else found["o"]


# -- a record that is converted twice ----------------------------------------------------------------------


def key_from_two_conversions(keys: Keys) -> Integer | None:
    """A rotation and an erasure of one record; the dealer, who does not know the vector, gets the minus shares."""
    simulator = PairSimulator(keys)
    dealer, record = Dealer(simulator), simulator.encrypt(TEMPLATE)
    relations: list[Relation] = []
    bits: dict[str, int] = {}
    for operation in ("rotate", "erase"):
        end = simulator.run(simulator.request(operation, 0), record, by_device=[False])[MINUS]  # type: ignore[arg-type]
        for i, share in enumerate(dealer.conversions(P.lane_ciphertexts, is_plus=False)):
            above, fields = f"above {i} of {operation}", end.lanes.tolist()[P.lanes * i : P.lanes * (i + 1)]
            # o * m_i is the same number mod N both times, and of any size.
            relations.append(equation(share, fields, above, **{f"o*m {i}": -share.of_om}))
            bits[above] = ABOVE_BITS
    found = small_solution(relations, bits, dealer.N)
    return None if found is None else invert(found["kappa"], dealer.N)


def test_without_the_mask_two_conversions_of_an_unknown_record_are_the_key(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_mask_out(monkeypatch)
    assert whole_key(keys, key_from_two_conversions(keys))


def test_with_the_mask_two_conversions_are_nothing(keys: Keys) -> None:
    assert not any(whole_key(keys, key_from_two_conversions(keys)) for _ in range(4))


def key_from_one_conversion(keys: Keys, holder: int) -> Integer | None:
    """A rotation of a record that the dealer's device had enrolled."""
    simulator = PairSimulator(keys)
    dealer = Dealer(simulator)
    end = simulator.run(simulator.request("rotate", 0), simulator.encrypt(TEMPLATE), by_device=[False])[holder]
    dealt = dealer.conversions(P.lane_ciphertexts, is_plus=end.is_plus)
    return key_from_known_vector(dealt, end.lanes.tolist(), TEMPLATE, dealer.N, is_plus=end.is_plus)


def test_without_the_mask_one_conversion_of_a_known_record_is_the_key(
    keys: Keys, holder: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_mask_out(monkeypatch)
    assert whole_key(keys, key_from_one_conversion(keys, holder))


def test_with_the_mask_one_conversion_is_nothing(keys: Keys, holder: int) -> None:
    assert not any(whole_key(keys, key_from_one_conversion(keys, holder)) for _ in range(4))


# -- an enrolment --------------------------------------------------------------------------------------------


class SharesOfAnEnrolment:
    """The words of one holder, which come out of two multiplications with dealt products, seen by the dealer.

    They are (v_minus - V_minus) * lane + what is known for each value of the coordinate, with V_minus that holder's
    share of the valid bit as a number: one of two, as the bit is 1. So lanes below 2^48 show which value is right.
    """

    def __init__(self, words: Sequence[int], dealt: tuple[Products, Products], *, is_plus: bool) -> None:
        self._words, self._is_plus = words, is_plus
        (self._u, self._of_plus), (self._v, self._of_minus) = (
            (part.factor.tolist(), part.product.tolist()) for part in dealt
        )

    def read(self) -> tuple[list[int], Array] | None:
        """Return this holder's lanes and the coordinates, or None if no vector fits the words."""
        for bit_of_plus in (0, 1):
            found = [self._lane(at, bit_of_plus) for at in range(P.dimension)]
            if all(len(fits) == 1 for fits in found):
                fields, coordinates = zip(*(fits[0] for fits in found), strict=True)
                return list(fields), np.array(coordinates)
        return None

    def _lane(self, at: int, bit_of_plus: int) -> list[tuple[int, int]]:
        """All (lane, coordinate) that fit a word, if the plus holder's share of the bit is this."""
        u, v, first, second = self._u, self._v, 1 + at, 1 + P.dimension + at
        bit_of_minus = 1 - bit_of_plus
        share_of_plus = bit_of_plus - 2 * (self._of_plus[0] + bit_of_plus * (bit_of_minus - v[0]))
        share_of_minus = -bit_of_minus - 2 * (self._of_minus[0] - v[0] * (bit_of_plus - u[0]))
        factor, fits = v[second] - share_of_minus, []
        for x in range(-P.clip, P.clip + 1):
            if self._is_plus:  # of the lane less the offset
                rest = P.offset - self._of_plus[first] + share_of_plus * (x + v[first]) - self._of_plus[second]
            else:
                rest = v[second] * (x - u[second]) + v[first] * (share_of_plus - u[first])
                rest -= self._of_minus[first] + self._of_minus[second]
            fits += [(lane, x) for lane in _solved(factor, self._words[at] - rest)]
        return [(lane + P.offset * self._is_plus, x) for lane, x in fits]


def _solved(factor: int, value: int) -> list[int]:
    """All lanes with factor * lane = value mod 2^64."""
    twos = (factor & -factor).bit_length() - 1
    if value % (1 << twos):
        return []
    size = 1 << (64 - twos)
    first = (value >> twos) * pow(factor >> twos, -1, size) % size
    return list(range(first, 1 << P.lane_bits, size))


def read_enrolment(keys: Keys, holder: int) -> tuple[Array, Integer | None] | None:
    """What a dealer reads of an honest enrolment: the template, and the key. None: nothing fits its shares."""
    simulator = PairSimulator(keys)
    dealer = Dealer(simulator)
    end = simulator.run(simulator.request("enrol", 0), simulator.encrypt(TEMPLATE))[holder]
    dealt = dealer.conversions(P.lane_ciphertexts, is_plus=end.is_plus)
    dealer.next("products", P.dimension)  # those of the norm
    read = SharesOfAnEnrolment(
        end.lanes.tolist(), dealer.next("products", only_valid_cost(1, P.dimension)), is_plus=end.is_plus
    ).read()
    if read is None:
        return None
    fields, vector = read
    return vector, key_from_known_vector(dealt, fields, vector, dealer.N, is_plus=end.is_plus)


def test_without_the_mask_one_honest_enrolment_is_its_template_and_the_key(
    keys: Keys, holder: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_mask_out(monkeypatch)
    # In one of some hundred enrolments, a wrong coordinate fits by chance as well.
    found = next(filter(None, (read_enrolment(keys, holder) for _ in range(5))))
    assert np.array_equal(found[0], TEMPLATE) and whole_key(keys, found[1])


def test_with_the_mask_an_enrolment_is_nothing(keys: Keys, holder: int) -> None:
    assert [read_enrolment(keys, holder) for _ in range(8)] == [None] * 8


# -- a probe ---------------------------------------------------------------------------------------------------

#: Probe shares with 24 of the bits of a lane, and three full ciphertexts of them: enough equations in one session.
WIDE = ParameterSet(27, 1024, 300, 512)


def key_from_probe_of_zeros(keys: Keys, holder: int) -> Integer | None:
    """The dealer's device encrypts zeros: o*m is 0, and only kappa is left. Shares leave before any gate."""
    simulator, shares = PairSimulator(keys), []
    dealer = Dealer(simulator)
    simulator.observe = lambda h, a: shares.append(a) if h == holder and isinstance(a, ProbeShare) else None
    zeros = [keys.scheme.encrypt(Integer(0)) for _ in range(WIDE.lane_ciphertexts)]
    gallery = SimulatedGallery.of(keys.scheme, np.zeros((1, WIDE.dimension), dtype=np.int64))
    ends = simulator.run(simulator.request("candidates", 1), zeros, gallery, gallery.places)
    assert ends[PLUS].valid == ends[MINUS].valid, "it is refused"
    (share,), k = shares, WIDE.ring_bits
    seen = (share.exponents + WIDE.offset * share.is_plus) % (1 << k)
    relations, bits = [], {}
    for i, dealt in enumerate(dealer.conversions(WIDE.lane_ciphertexts, is_plus=share.is_plus)):
        known = join(seen[WIDE.lanes * i : WIDE.lanes * (i + 1)].tolist(), WIDE.lane_bits)
        unseen = {f"lane {i} {j}": Integer(1) << WIDE.lane_bits * j + k for j in range(WIDE.lanes)}
        relations.append(Relation({**unseen, "kappa": -dealt.of_kappa}, dealt.constant - known))
        bits |= dict.fromkeys(unseen, WIDE.lane_bits - k)
        bits[f"lane {i} {WIDE.lanes - 1}"] = WIDE.modulus_bits - WIDE.lane_bits * (WIDE.lanes - 1) - k
    found = small_solution(relations, bits, dealer.N)
    return None if found is None else invert(found["kappa"], dealer.N)


def test_without_the_mask_one_probe_of_zeros_is_the_key(holder: int, monkeypatch: pytest.MonkeyPatch) -> None:
    take_mask_out(monkeypatch)
    wide = keys_of("paillier", WIDE)
    assert whole_key(wide, key_from_probe_of_zeros(wide, holder))


def test_with_the_mask_a_probe_of_zeros_is_nothing(holder: int) -> None:
    wide = keys_of("paillier", WIDE)
    assert not whole_key(wide, key_from_probe_of_zeros(wide, holder))


# -- with one of the masks --------------------------------------------------------------------------------------

EITHER = pytest.mark.parametrize(
    "take_out", [take_session_mask_out, take_last_mask_out], ids=["last", "of the session"]
)
TakeOut = Callable[[pytest.MonkeyPatch], None]


@EITHER
def test_with_either_mask_alone_two_conversions_are_nothing(
    keys: Keys, take_out: TakeOut, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_out(monkeypatch)
    assert not any(whole_key(keys, key_from_two_conversions(keys)) for _ in range(4))


@EITHER
def test_with_either_mask_alone_one_share_is_nothing(
    keys: Keys, holder: int, take_out: TakeOut, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_out(monkeypatch)
    wide = keys_of("paillier", WIDE)
    assert not any(whole_key(keys, key_from_one_conversion(keys, holder)) for _ in range(4))
    assert [read_enrolment(keys, holder) for _ in range(8)] == [None] * 8
    assert not whole_key(wide, key_from_probe_of_zeros(wide, holder))


# -- what the attacks rest on ---------------------------------------------------------------------------------


def test_dealer_knows_both_parts_of_what_the_holders_use(keys: Keys) -> None:
    simulator = PairSimulator(keys)
    dealer, o, N = Dealer(simulator), secrets_of(keys)[0], keys.scheme.modulus
    plus, minus = dealer.next("triples", 3)
    assert all((p.ab - m.ab - (p.a - m.a) * (p.b - m.b)) % N == 0 for p, m in zip(plus, minus, strict=True))
    u, v = dealer.next("products", 5)
    assert np.array_equal(u.product - v.product, u.factor * v.factor)
    bits = dealer.next("bits", validity_cost(1, P))
    assert np.array_equal(bits[0].c ^ bits[1].c, (bits[0].a ^ bits[1].a) & (bits[0].b ^ bits[1].b))
    assert o.bit_length() <= O_BITS


def test_records_that_a_dealer_meets_are_those_of_the_matchers(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same with a record that comes of an enrolment, instead of one that a device encrypted."""
    take_mask_out(monkeypatch)
    simulator = PairSimulator(keys)
    record = records_of(keys.scheme, simulator.run(simulator.request("enrol", 0), simulator.encrypt(TEMPLATE)))
    simulator = PairSimulator(keys)
    dealer = Dealer(simulator)
    end = simulator.run(simulator.request("erase", 0), record, by_device=[False])[MINUS]
    dealt = dealer.conversions(P.lane_ciphertexts, is_plus=False)
    assert whole_key(keys, key_from_known_vector(dealt, end.lanes.tolist(), TEMPLATE, dealer.N, is_plus=False))
