"""How many one-way trips in a row a session takes: what it costs where the organisations are far apart.

Every message that a holder sends leaves when all that it has received before is there, so it arrives one trip after
the latest of those. A matcher has its V one trip after the other one has its share of the probe.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from tests.simulator import MINUS, PLUS, PairSimulator, SimulatedGallery
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.pair.messages import AwaitResults, ProbeShare, Receive, Send
from veilmatch.crypto.pair.request import Operation


def trips_of(
    simulator: PairSimulator,
    operation: Operation,
    ciphertexts: Sequence[Integer],
    gallery: SimulatedGallery | None = None,
    wanted: Sequence[tuple[int, int]] = (),
    by_device: list[bool] | None = None,
    starts: tuple[int, int] = (0, 0),
    *,
    unless_known: bool = False,
) -> tuple[int, int]:
    """Return after how many trips the plus and the minus holder have their shares.

    starts: when the request is brought to them. unless_known: of an enrolment.
    """
    now = list(starts)
    wires: tuple[deque[int], deque[int]] = (deque(), deque())
    shares: dict[int, int] = {}

    def observe(holder: int, action: Any) -> None:
        if isinstance(action, Send):
            wires[1 - holder].append(now[holder] + 1)
        elif isinstance(action, Receive):
            now[holder] = max(now[holder], wires[holder].popleft())
        elif isinstance(action, ProbeShare):
            shares[holder] = now[holder]
        elif isinstance(action, AwaitResults):
            now[holder] = max(now[holder], shares[1 - holder] + 1)

    simulator.observe = observe
    try:
        simulator.run(
            simulator.request(operation, 1, unless_known=unless_known), ciphertexts, gallery, wanted, by_device
        )
    finally:
        simulator.observe = lambda holder, action: None
    return now[PLUS], now[MINUS]
