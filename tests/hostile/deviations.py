"""What one deviating server does in a request: each changes the sessions of a simulator as one line of it says.

A key holder that deviates sends something else than it should; what it computes for itself it can compute as it
likes, so only its messages count. A matcher deviates in what it hands to its key holder or sends to the other matcher.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from tests.simulator import MINUS, PLUS, PairSimulator, SimulatedGallery
from veilmatch.crypto.arithmetic import Integer, from_bytes, to_bytes
from veilmatch.crypto.pair.mask import SEED_BYTES
from veilmatch.crypto.pair.messages import (
    Agreement,
    Allocation,
    Envelope,
    GateLayer,
    Hello,
    LastMask,
    Message,
    Openings,
    Results,
    SafetyProof,
)

Who = Literal["plus holder", "minus holder", "matcher of the plus holder", "matcher of the minus holder"]
#: What comes of it on an honest probe: a typed error, no answer within the daemons' time-outs, or a wrong answer.
Outcome = Literal["refused", "silence", "wrong", "right"]
HOLDERS: dict[int, Who] = {PLUS: "plus holder", MINUS: "minus holder"}
MATCHERS: dict[int, Who] = {PLUS: "matcher of the plus holder", MINUS: "matcher of the minus holder"}


@dataclass(frozen=True)
class Deviation:
    """who does what; outcomes: all that may come of it; where: the kinds of requests in which it can (alone.Kind)."""

    who: Who
    what: str
    outcomes: tuple[Outcome, ...]
    apply: Callable[[PairSimulator, SimulatedGallery], None]
    where: tuple[str, ...]


def _sends(
    holder: int, kind: type[Message], change: Callable[[Any, PairSimulator], Message | None], at: int = 0
) -> Any:
    """A holder sends another message in place of its `at`-th of this kind (-1: of every one); None: it goes away."""

    def apply(simulator: PairSimulator, gallery: SimulatedGallery) -> None:
        count, gone = -1, False

        def on_the_way(sender: int, envelope: Envelope) -> Sequence[Envelope]:
            nonlocal count, gone
            if sender != holder or gone:
                return [] if gone and sender == holder else [envelope]
            if not isinstance(envelope.message, kind):
                return [envelope]
            count += 1
            if at not in (count, -1):
                return [envelope]
            changed = change(envelope.message, simulator)
            gone = changed is None
            return [] if changed is None else [replace(envelope, message=changed)]

        simulator.on_the_way = on_the_way

    return apply


def _added(position: int, amount: int) -> Callable[[Openings, PairSimulator], Openings]:
    """Openings with `amount` added to one of the values, counted from 0: d and e of every ciphertext in turn."""

    def change(message: Openings, simulator: PairSimulator) -> Openings:
        N = simulator.keys.scheme.modulus
        size = (N.bit_length() + 7) // 8
        parts = [from_bytes(message.values[i : i + size]) for i in range(0, len(message.values), size)]
        parts[position] = (parts[position] + amount) % N
        return Openings(b"".join(to_bytes(part, size) for part in parts))

    return change


def _flipped(message: GateLayer, simulator: PairSimulator) -> GateLayer:
    return GateLayer(bytes([message.payload[0] ^ 1]) + message.payload[1:])


def _flipped_last(message: GateLayer, simulator: PairSimulator) -> GateLayer:
    return GateLayer(message.payload[:-1] + bytes([message.payload[-1] ^ 1]))


def _other_results(holder: int) -> Callable[[PairSimulator, SimulatedGallery], None]:
    def apply(simulator: PairSimulator, gallery: SimulatedGallery) -> None:
        def results_for(receiver: int, results: Results) -> Results:
            if receiver != holder:
                return results
            return replace(
                results, ciphertexts=[simulator.keys.scheme.encrypt(Integer(1)) for _ in results.ciphertexts]
            )

        simulator.results_for = results_for

    return apply


def _other_slots(holder: int) -> Callable[[PairSimulator, SimulatedGallery], None]:
    def apply(simulator: PairSimulator, gallery: SimulatedGallery) -> None:
        def results_for(receiver: int, results: Results) -> Results:
            return replace(results, wanted=np.ones_like(results.wanted)) if receiver == holder else results

        simulator.results_for = results_for

    return apply


def _random_part(is_plus: bool) -> Callable[[PairSimulator, SimulatedGallery], None]:
    """A matcher sends the other one something random in place of its R."""

    def apply(simulator: PairSimulator, gallery: SimulatedGallery) -> None:
        honest = gallery.partial

        def partial(pack: int, share: Any) -> Integer:
            if share.is_plus != is_plus:
                return honest(pack, share)
            return gallery.scheme.encrypt(Integer(int.from_bytes(secrets.token_bytes(8))))

        gallery.partial = partial  # type: ignore[method-assign]

    return apply


def _told(holder: int, *, ciphertexts: bool) -> Callable[[PairSimulator, SimulatedGallery], None]:
    """A matcher gives its key holder other lane ciphertexts of a record, or says that it comes from elsewhere.

    Of a verification the probe comes first, and the device has signed it.
    """

    def apply(simulator: PairSimulator, gallery: SimulatedGallery) -> None:
        honest = simulator.sessions

        def sessions(request: Any, both: Sequence[Any], by_device: Any = None) -> Any:
            probes = int(request.operation == "verify")
            at = probes * simulator.keys.scheme.parameters.lane_ciphertexts
            if ciphertexts:
                mine = both[holder]
                other = [*mine[:at], *(simulator.keys.scheme.encrypt(Integer(1)) for _ in mine[at:])]
                return honest(request, [other if h == holder else both[h] for h in (PLUS, MINUS)], by_device)
            told = list(by_device) if isinstance(by_device, tuple) else [by_device, by_device]
            told[holder] = [*told[holder][:probes], *(not gated for gated in told[holder][probes:])]
            return honest(request, both, (told[PLUS], told[MINUS]))

        simulator.sessions = sessions  # type: ignore[method-assign]

    return apply


def _goes_away(holder: int, kind: type[Message], at: int = 0) -> Any:
    return _sends(holder, kind, lambda message, simulator: None, at)


def _chooses_seeds(simulator: PairSimulator, gallery: SimulatedGallery) -> None:
    simulator.seed_of = lambda is_safe: bytes(SEED_BYTES)


#: Kinds of requests: any; those with a gate; with results; of one subject; with a multiplication; of what is kept.
VERIFY, SEARCH, CHANGE = ("verify", "verify bulk"), ("search",), ("change",)
ALL, GATED, ON_RECORD = (*VERIFY, *SEARCH, *CHANGE, "record"), (*VERIFY, *SEARCH, *CHANGE), (*VERIFY, *CHANGE, "record")


def of_key_holder(holder: int) -> list[Deviation]:
    """What a key holder can do to a request."""
    who = HOLDERS[holder]

    def sends(kind: type[Message], change: Callable[[Any, PairSimulator], Message | None], at: int = 0) -> Any:
        return _sends(holder, kind, change, at)

    refused, silence, unnoticed = ("refused",), ("silence",), ("wrong", "right")
    rows: list[tuple[str, tuple[Outcome, ...], Any, tuple[str, ...]]] = [
        ("adds 1 to d of a lane", refused, sends(Openings, _added(0, 1)), ALL),
        ("adds 2^20 to e of a lane", refused, sends(Openings, _added(1, 1 << 20)), ALL),
        ("adds 1 to d of a result", refused, sends(Openings, _added(-2, 1), 1), SEARCH),
        ("adds 2^20 to e of a result", refused, sends(Openings, _added(-1, 1 << 20), 1), SEARCH),
        ("flips a bit in an AND of the validity gate", unnoticed, sends(GateLayer, _flipped), GATED),
        ("adds 1 to d of a record beside a probe", refused, sends(Openings, _added(-2, 1)), VERIFY),
        ("adds 2^20 to e of a record beside a probe", refused, sends(Openings, _added(-1, 1 << 20)), VERIFY),
        ("flips a bit in an inner product", unnoticed, sends(GateLayer, _flipped_last), VERIFY),
        ("flips a bit in a comparison of scores", unnoticed, sends(GateLayer, _flipped_last, 1), VERIFY),
        ("flips a bit where scores are joined", unnoticed, sends(GateLayer, _flipped_last, 2), VERIFY),
        ("flips a bit where the answer is made", unnoticed, sends(GateLayer, _flipped, 4), VERIFY),
        ("cuts an inner product short", refused, sends(GateLayer, lambda m, s: GateLayer(m.payload[:-1])), VERIFY),
        ("flips a bit in every layer of the gates", unnoticed, sends(GateLayer, _flipped, -1), GATED),
        ("flips a bit where the valid bit becomes a number", unnoticed, sends(GateLayer, _flipped, 4), CHANGE),
        ("flips a bit where a template is multiplied by it", unnoticed, sends(GateLayer, _flipped, 5), CHANGE),
        ("names other ciphertexts", refused, sends(Hello, lambda m, s: replace(m, ciphertexts=bytes(32))), ALL),
        ("names other results", refused, sends(Agreement, lambda m, s: replace(m, ciphertexts=bytes(32))), SEARCH),
        (
            "has a share of another epoch",
            refused,
            sends(Hello, lambda m, s: replace(m, fingerprints=bytes(len(m.fingerprints)))),
            ALL,
        ),
        (
            "has another share of the results",
            refused,
            sends(Agreement, lambda m, s: replace(m, fingerprints=bytes(len(m.fingerprints)))),
            SEARCH,
        ),
        (
            "says that the session is about something else",
            refused,
            sends(Hello, lambda m, s: replace(m, context=bytes(len(m.context)))),
            ALL,
        ),
        ("sends half a secret of the mask", refused, sends(Hello, lambda m, s: replace(m, mask_secret=bytes(16))), ALL),
        (
            "masks with another secret than it sends",
            unnoticed,
            sends(Hello, lambda m, s: replace(m, mask_secret=bytes(32))),
            ALL,
        ),
        ("goes away before its openings", silence, _goes_away(holder, Openings), ALL),
        ("goes away within the validity gate", silence, _goes_away(holder, GateLayer, 2), GATED),
        ("goes away before an inner product", silence, _goes_away(holder, GateLayer), VERIFY),
        ("goes away before the answer is made", silence, _goes_away(holder, GateLayer, 4), VERIFY),
        ("goes away before it proves what it opened", silence, _goes_away(holder, SafetyProof), ALL),
        ("goes away before a template is multiplied", silence, _goes_away(holder, GateLayer, 5), CHANGE),
        ("goes away before it opens a result", silence, _goes_away(holder, Openings, 1), SEARCH),
    ]
    if holder == PLUS:
        rows += [
            ("allocates stock that was used", refused, sends(Hello, lambda m, s: replace(m, triples_start=-1)), ALL),
            (
                "allocates stock for results that was used",
                refused,
                sends(Allocation, lambda m, s: replace(m, start=-1)),
                SEARCH,
            ),
        ]
    else:
        half, other = LastMask(bytes(SEED_BYTES // 2)), LastMask(bytes(SEED_BYTES))
        rows += [
            ("sends half a seed of a last mask", refused, sends(LastMask, lambda m, s: half), ALL),
            ("sends half a seed for the results", refused, sends(LastMask, lambda m, s: half, 1), SEARCH),
            ("sends half a seed for a template", refused, sends(LastMask, lambda m, s: half, 1), CHANGE),
            ("goes away before it sends a seed", silence, _goes_away(holder, LastMask), ALL),
            ("goes away before it sends a seed for a template", silence, _goes_away(holder, LastMask, 1), CHANGE),
            ("masks a conversion with another seed than it sends", unnoticed, sends(LastMask, lambda m, s: other), ALL),
            (
                "masks results with another seed",
                unnoticed,
                sends(LastMask, lambda m, s: other, 1),
                SEARCH,
            ),
            ("masks a template with another seed", unnoticed, sends(LastMask, lambda m, s: other, 1), CHANGE),
            ("takes a seed of its choice, whatever its shares", unnoticed, _chooses_seeds, ALL),
        ]
    return [Deviation(who, what, outcomes, apply, where) for what, outcomes, apply, where in rows]


def of_matcher(holder: int) -> list[Deviation]:
    """What the matcher of a key holder can do to a request."""
    who, refused = MATCHERS[holder], ("refused",)
    rows: list[tuple[str, tuple[Outcome, ...], Any, tuple[str, ...]]] = [
        ("gives its key holder other results", refused, _other_results(holder), SEARCH),
        ("asks for slots that are free", ("refused", "right"), _other_slots(holder), SEARCH),
        ("sends something random to the other matcher", ("wrong", "right"), _random_part(holder == PLUS), SEARCH),
        ("gives its key holder another record", refused, _told(holder, ciphertexts=True), ON_RECORD),
        ("says that a record comes from elsewhere", refused, _told(holder, ciphertexts=False), ON_RECORD),
    ]
    return [Deviation(who, what, outcomes, apply, where) for what, outcomes, apply, where in rows]


DEVIATIONS = [d for holder in (PLUS, MINUS) for d in (*of_key_holder(holder), *of_matcher(holder))]
