"""A plus holder, alone and without any answer, that would have the minus holder's rules answer its questions.

The minus holder draws the last mask such that its share is not where a carry or a wrap could happen. A plus holder that
speaks last knows everything that its error moves that share by, but for one secret: o * m in a conversion, a coordinate
when a vector is multiplied by its validity bit. If it knew the last mask before it speaks, it could put the share where
the minus holder has to do something if and only if a guess is right. The key-safety check refuses the session after
that, and nothing refuses the altered multiplication.

Each attack runs with the last mask known from the start, the minus holder saying whether it is at risk
(`tell_risk_under_a_known_mask`), and with the real one. docs/parameters.md.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from tests.attacks.tools import AT_RISK, KNOWN_SEED, plus_opens_last, secrets_of, tell_risk_under_a_known_mask
from tests.crypto.toys import TOY, keys_of
from tests.enumeration.steps import MINUS, PLUS, Run, run_steps
from tests.simulator import PairSimulator, unit_vectors
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.gates.multiplication import only_valid
from veilmatch.crypto.packing import lanes
from veilmatch.crypto.pair import records
from veilmatch.crypto.pair.conversion import Opening, join_openings, output_share, split_openings
from veilmatch.crypto.pair.converting import Converter
from veilmatch.crypto.pair.mask import last_masked, last_masked_words
from veilmatch.crypto.pair.messages import Composed, GateLayer, LastMask, LocalWork, Openings, Reserve, SafetyWork
from veilmatch.crypto.pair.session import PairSession
from veilmatch.crypto.parameters import HEADROOM_BITS

PERSON = unit_vectors(np.random.default_rng(3), 1, TOY)[0]


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    tell_risk_under_a_known_mask(monkeypatch)


class Deviating:
    """Sessions of a pair whose plus holder speaks last and may alter what it sends."""

    def __init__(self) -> None:
        self.simulator = PairSimulator(keys_of("paillier"))
        self.N = self.simulator.keys.scheme.modulus
        self.session: PairSession | None = None
        #: What the plus holder has: its z, its triples.
        self.z: list[Integer] = []
        self.triples: list[Any] = []
        #: Of all last masks that it was sent.
        self.seeds: list[bytes] = []

    def run(self, operation: Any, ciphertexts: list[Integer], alter: Callable[[Any, list[Any]], Any]) -> Run:
        simulator = self.simulator
        sessions = simulator.sessions(
            simulator.request(operation, 0), (ciphertexts, ciphertexts), [operation == "enrol"]
        )
        self.session = sessions[PLUS]
        # As in the conversion of results, where it is the minus holder that opens first.
        with patch.object(Converter, "_exact", plus_opens_last(Converter._exact)):
            run = run_steps((_steps(sessions[PLUS]), _steps(sessions[MINUS])), self._serve, PLUS, alter)
        self.seeds += last_masks(run)
        return run

    def mask(self, kind: str, *sizes: Any) -> Any:
        """The next draw of the session's mask, which both holders know."""
        assert self.session is not None
        mask = self.session._exchange.mask
        drawn = mask._drawn
        value = getattr(mask, kind)(*sizes)
        mask._drawn = drawn
        return value

    def _serve(self, holder: int, action: Any) -> Any:
        match action:
            case LocalWork(ciphertexts):
                work = self.simulator._local_work(holder, ciphertexts)
                if holder == PLUS:
                    self.z = [share.z for share in work]
                return work
            case SafetyWork():
                return self.simulator.safety_work(holder, action)
            case Reserve():
                reserved = self.simulator._reserve(holder, action)
                if holder == PLUS and action.kind == "triples":
                    self.triples = reserved.material
                return reserved
            case Composed():
                return None
        raise AssertionError(action)


def _steps(session: PairSession) -> Generator[Any, Any, None]:
    action = session.start()
    while True:
        action = session.resume((yield action))


def last_masks(run: Run) -> list[bytes]:
    return [message.seed for message in run.received[PLUS] if isinstance(message, LastMask)]


# -- the key -------------------------------------------------------------------------------------


@dataclass
class Interval:
    """low <= o * m < high, as far as the thief knows."""

    low: Integer
    high: Integer

    @property
    def bits(self) -> int:
        return int(self.high - self.low).bit_length()


class KeyThief(Deviating):
    """Bisects o * m of the last lane ciphertext of a record, by one refused session a bit.

    With error E the minus holder's w becomes w_plus - m + E * (T - o*m), T = z_plus - d_minus. E is chosen such that
    w_plus + E * (T - low) is just below N, under the known last mask: then w is at risk, w >= N - 2^(|N| - 64), if and
    only if E * (o*m - low) <= 2^(|N| - 64). Any multiple of o decrypts.
    """

    def __init__(self) -> None:
        super().__init__()
        used = lanes._used([Integer(0)] * TOY.lane_ciphertexts, TOY)[-1]
        self.known = Interval(Integer(0), Integer(1) << (TOY.subgroup_bits + 1 + 48 * used))
        self.record = [self.simulator.keys.scheme.encrypt(m) for m in lanes.pack(PERSON, TOY)]
        self._reach = Integer(1) << (int(self.N).bit_length() - HEADROOM_BITS)
        self._bound: Integer | None = None

    def bits_of(self, sessions: int) -> int:
        """How many of the top bits of o * m it knows after so many sessions: none, if the interval is a wrong one."""
        unknown = self.known.bits
        for _ in range(sessions):
            self.ask()
        secret = secrets_of(self.simulator.keys)[0] * lanes.pack(PERSON, TOY)[-1]
        return unknown - self.known.bits if self.known.low <= secret < self.known.high else 0

    def ask(self) -> object:
        """Halve the interval, more or less, and return how the minus holder ended the session."""
        run = self.run("erase", self.record, self._alter)
        if self._bound is not None and last_masks(run)[0] == AT_RISK:
            self.known.high = min(self.known.high, self._bound + 1)
        elif self._bound is not None:
            self.known.low = max(self.known.low, self._bound)
        return run.ended[MINUS]

    def _alter(self, message: Any, received: list[Any]) -> Any:
        theirs = [x for x in received if isinstance(x, Openings)]
        if not isinstance(message, Openings) or len(theirs) != 1:
            return message
        count, N = len(self.record), self.N
        mine, other = (split_openings(x.values, count, N) for x in (message, theirs[0]))
        w = output_share(self.triples[-1], mine[-1], other[-1], N, is_plus=True) + self.mask("residues", count, N)[-1]
        w = last_masked([*[Integer(0)] * (count - 1), w], KNOWN_SEED, N)[-1]
        step = (self.z[-1] - other[-1].d - self.known.low) % N
        for attempt in range(24, 56):
            about = attempt * self._reach // (16 * (self.known.high - self.known.low)) + 1
            error = _error(w % N, step, N, about)
            below = N - (w + error * step) % N
            # The product must not wrap, and what is left below N must not blur the bound.
            if 0 < error < 4 * about and 16 * below < self._reach:
                break
        else:
            self._bound = None
            return message
        self._bound = self.known.low + (self._reach - below) // error
        return Openings(join_openings([*mine[:-1], Opening(mine[-1].d, (mine[-1].e + error) % N)], N))


def _error(w: Integer, step: Integer, N: Integer, about: Integer) -> Integer:
    """A number near `about` that brings w + number * step mod N just below N: Gauss reduction, then rounding."""
    span = max(about >> 12, Integer(1 << 80))
    weight = max(N // (span * span), Integer(1))
    u, v = (weight, step), (Integer(0), N)
    while True:
        if _dot(u, u) > _dot(v, v):
            u, v = v, u
        quotient = (2 * _dot(u, v) + _dot(u, u)) // (2 * _dot(u, u))
        if quotient == 0:
            break
        v = v[0] - quotient * u[0], v[1] - quotient * u[1]
    goal = (-w - about * step) % N - 8 * N // span
    determinant = u[0] * v[1] - u[1] * v[0]
    x, y = (_rounded(part, determinant) for part in (-goal * v[0], goal * u[0]))
    return about + (x * u[0] + y * v[0]) // weight


def _dot(u: tuple[Integer, Integer], v: tuple[Integer, Integer]) -> Integer:
    return u[0] * v[0] + u[1] * v[1]


def _rounded(x: Integer, y: Integer) -> Integer:
    return (2 * x + y) // (2 * y)


#: Sessions that a test takes, and the bits of o * m that it wants of them.
SESSIONS, BITS = 60, 30


def test_a_last_mask_that_is_known_gives_a_plus_holder_the_top_bits_of_the_key(known: None) -> None:
    thief = KeyThief()
    assert thief.bits_of(SESSIONS) >= BITS


def test_refused_sessions_tell_a_plus_holder_nothing_about_the_key() -> None:
    thief = KeyThief()
    assert thief.bits_of(SESSIONS) == 0
    assert len(set(thief.seeds)) == len(thief.seeds) == SESSIONS


def test_each_of_these_sessions_is_refused_after_its_last_mask() -> None:
    thief = KeyThief()
    assert [thief.ask() for _ in range(5)] == ["KeySafetyError"] * 5
    assert len(thief.seeds) == 5


# -- a coordinate --------------------------------------------------------------------------------


class CoordinateReader(Deviating):
    """Aims the multiplication by the validity bit at the rule on words: is a coordinate what it guesses?"""

    def asked(self, place: int, guess: int) -> bool | None:
        """Whether the minus holder said that it is at risk with this guess; None if it could not be aimed."""
        own: list[Any] = []
        aimed: list[bool] = []

        def watching(*arguments: Any, is_plus: bool) -> Any:
            if is_plus:
                own[:] = arguments
            return only_valid(*arguments, is_plus=is_plus)

        def alter(message: Any, received: list[Any]) -> Any:
            layers = [x.payload for x in received if isinstance(x, GateLayer)]
            if not isinstance(message, GateLayer) or not own or len(layers) != LAYERS:
                return message
            steps = only_valid(*own, is_plus=True)
            next(steps)
            steps.send(layers[-2])
            try:
                steps.send(layers[-1])
            except StopIteration as stop:
                share = int(stop.value[place])
            # What the minus holder's word would be, and what an error is multiplied with, if the guess is right.
            lane = int(own[1][place]) - guess - TOY.offset
            factor = (lane - int(np.frombuffer(layers[-1], dtype="<u8")[place])) % WORDS
            masks = last_masked_words(self.mask("words", TOY.dimension), KNOWN_SEED)
            word = share - guess - TOY.offset + int(masks[place])
            even = (factor & -factor).bit_length() - 1
            for target in range(WORDS - TOY.lane_risk, WORDS):
                if (target - word) % (1 << even) == 0 and factor:
                    error = (target - word) % WORDS // (1 << even) * pow(factor >> even, -1, WORDS) % WORDS
                    sent = np.frombuffer(message.payload, dtype="<u8").copy()
                    sent[place : place + 1] += np.uint64(error)
                    aimed.append(True)
                    return GateLayer(sent.tobytes())
            return message

        ciphertexts = [self.simulator.keys.scheme.encrypt(m) for m in lanes.pack(PERSON, TOY)]
        with patch.object(records, "only_valid", watching):
            run = self.run("enrol", ciphertexts, alter)
        assert not isinstance(run.ended[MINUS], str), "nothing refuses the session"
        return last_masks(run)[1] == AT_RISK if aimed else None

    def told(self) -> list[bool]:
        """What it is told of guesses that are right, wrong, right and wrong."""
        told = []
        for place, guess in ((0, PERSON[0]), (0, PERSON[0] + 1), (5, PERSON[5]), (5, PERSON[5] - 1)):
            while (answer := self.asked(place, int(guess))) is None:
                pass
            told.append(answer)
        return told


#: Of an enrolment: four of the gate, two of the multiplication.
LAYERS = 6
WORDS = 1 << 64
#: What `told` is if a guess is answered.
RIGHT = [True, False, True, False]


def test_a_last_mask_that_is_known_gives_a_plus_holder_a_coordinate(known: None) -> None:
    assert CoordinateReader().told() == RIGHT


def test_an_enrolment_tells_a_plus_holder_nothing_about_a_coordinate() -> None:
    reader = CoordinateReader()
    assert reader.told() == [False] * 4
    assert len(set(reader.seeds)) == len(reader.seeds)
