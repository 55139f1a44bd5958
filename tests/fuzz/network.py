"""Two holders of a pair, one step at a time, with a network between them that a test may mangle.

`Exchange` is one session of both holders: it does what they ask for, except that their messages wait in two queues
until they are taken. CASES lists the operations with what a right run of each ends in: one more is one more line.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tests.crypto.toys import TOY, keys_of
from tests.simulator import MINUS, PLUS, Keys, PairSimulator, SimulatedGallery, standin_keys, unit_vectors
from veilmatch.crypto.errors import VeilmatchError
from veilmatch.crypto.pair.messages import (
    AwaitResults,
    DecisionShare,
    Envelope,
    LocalWork,
    ProbeShare,
    Receive,
    Reserve,
    Results,
    SafetyWork,
    Send,
    TemplateShare,
)
from veilmatch.crypto.pair.request import Operation

TEMPLATES = unit_vectors(np.random.default_rng(5), 3, TOY)
PROBE = TEMPLATES[1]
THRESHOLD = int(PROBE @ PROBE)
KEYS = keys_of("stand-in")
GALLERY = SimulatedGallery.of(KEYS.scheme, TEMPLATES)


@dataclass(frozen=True)
class Case:
    """An operation, its threshold, and the opened outcome of a right run.

    vector: what is encrypted. gated: False for records that the matchers made.
    """

    operation: Operation
    threshold: int
    expected: tuple[int, ...]
    opened: Callable[[Any, Any], tuple[int, ...]]
    vector: tuple[int, ...] = tuple(PROBE.tolist())
    gated: bool = True


def _template(plus: TemplateShare, minus: TemplateShare) -> tuple[int, ...]:
    """What the device is told of its validity, and the lanes."""
    lanes, valid = PairSimulator.opened((plus, minus))
    return *valid.tolist(), *lanes.tolist()


def _bits(plus: DecisionShare, minus: DecisionShare) -> tuple[int, ...]:
    """Validity and answers."""
    return plus.valid ^ minus.valid, *(plus.bits ^ minus.bits).tolist()


def _numbered(number: int) -> tuple[int, ...]:
    """The answer of `identify` about three templates: a number of two bits, the lowest first."""
    return number & 1, number >> 1


_TOPPED = int(np.argmax(TEMPLATES @ PROBE)) + 1 if (TEMPLATES @ PROBE).max() >= TOY.threshold_max else 0
_LANES = tuple((PROBE + TOY.offset).tolist())
_MATCHES = (TEMPLATES @ PROBE >= THRESHOLD).astype(int).tolist()
CASES = (
    Case("verify", THRESHOLD, (1, 1), _bits),
    Case("verify", TOY.threshold_max, (1, int((TEMPLATES @ PROBE).max() >= TOY.threshold_max)), _bits),
    Case("verify", THRESHOLD, (1, 1), _bits, gated=False),
    Case("verify", 1, (0, 0), _bits, vector=tuple((3 * PROBE).tolist())),
    Case("candidates", THRESHOLD, (1, *_MATCHES), _bits),
    Case("identify", THRESHOLD, (1, *_numbered(int(np.argmax(TEMPLATES @ PROBE)) + 1)), _bits),
    Case("identify", TOY.threshold_max, (1, *_numbered(_TOPPED)), _bits),
    Case("known", THRESHOLD, (1, 1), _bits),
    Case("known", TOY.threshold_max, (1, int((TEMPLATES @ PROBE).max() >= TOY.threshold_max)), _bits),
    Case("enrol", 0, (1, *_LANES), _template),
    Case("enrol", 0, (0, *[TOY.offset] * TOY.dimension), _template, vector=tuple((3 * PROBE).tolist())),
    Case("erase", 0, _LANES, _template),
    Case("erase", 0, _LANES, _template, gated=False),
    Case("rotate", 0, (1, *_LANES), _template),
    Case("rotate", 0, _LANES, _template, gated=False),
)


@dataclass
class Exchange:
    """One session of both holders. ends: how each has ended, a share or an error."""

    case: Case
    keys: Keys = field(default_factory=lambda: KEYS)
    gallery: SimulatedGallery = field(default_factory=lambda: GALLERY)
    #: By receiver.
    wires: tuple[deque[Any], deque[Any]] = field(default_factory=lambda: (deque(), deque()))
    ends: dict[int, Any] = field(default_factory=dict)
    sent: tuple[list[Envelope], list[Envelope]] = field(default_factory=lambda: ([], []))

    def __post_init__(self) -> None:
        self.simulator = PairSimulator(self.keys)
        request = self.simulator.request(self.case.operation, self.case.threshold)
        ciphertexts = self.simulator.encrypt(np.array(self.case.vector))
        told = [self.case.gated]
        if self.case.operation == "verify":
            ciphertexts += self.gallery.records(self.gallery.places)
            told = [True, *told * len(self.gallery.places)]
        self.sessions = self.simulator.sessions(request, (ciphertexts, ciphertexts), told)
        self._shares: dict[bool, ProbeShare] = {}
        self._results: Results | None = None
        self._actions: list[Any] = [session.start() for session in self.sessions]

    def run(self, steps: int) -> int:
        """Let both holders take steps in turn; returns how many they took before both had to wait or had ended."""
        taken = 0
        while taken < steps and (self.step(PLUS) | self.step(MINUS)):
            taken += 1
        return taken

    def step(self, holder: int) -> bool:
        """Let a holder do what it asked for; False if it waits or has ended."""
        if holder in self.ends:
            return False
        action, outcome = self._actions[holder], None
        if isinstance(action, Receive):
            if not self.wires[holder]:
                return False
            outcome = self.wires[holder].popleft()
        elif isinstance(action, AwaitResults):
            if len(self._shares) < 2:
                return False
            self._results = self._results or self.gallery.results(self._shares, self.gallery.places)
            outcome = self._results
        elif isinstance(action, Send):
            self.sent[holder].append(action.envelope)
            self.wires[1 - holder].append(action.envelope)
        elif isinstance(action, ProbeShare):
            self._shares[action.is_plus] = action
        try:
            if isinstance(action, LocalWork):
                outcome = self.keys.scheme.local_shares(action.ciphertexts, self.keys.exponents[holder])
            elif isinstance(action, SafetyWork):
                outcome = self.simulator.safety_work(holder, action)
            elif isinstance(action, Reserve):
                outcome = self.simulator.stocks[holder].reserve(action)
            action = self._actions[holder] = self.sessions[holder].resume(outcome)
        except VeilmatchError as error:
            self.ends[holder] = error
            return True
        if isinstance(action, TemplateShare | DecisionShare):
            self.ends[holder] = action
        return True

    @property
    def answers(self) -> Sequence[Any]:
        """The shares that holders ended with."""
        return [end for end in self.ends.values() if not isinstance(end, VeilmatchError)]

    def opened(self) -> tuple[int, ...]:
        return self.case.opened(self.ends[PLUS], self.ends[MINUS])


def recorded(case: Case, *, other_key: bool) -> tuple[list[Envelope], list[Envelope]]:
    """All that both holders said in another session of the operation, under this key or another one."""
    if other_key:
        keys = standin_keys(TOY)
        exchange = Exchange(case, keys, SimulatedGallery.of(keys.scheme, TEMPLATES))
    else:
        exchange = Exchange(case)
    exchange.run(10_000)
    assert exchange.opened() == case.expected
    return exchange.sent
