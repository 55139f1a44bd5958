"""The device and the three servers in one process, which is what a measurement of all work together needs."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.shared.server import Message, Program, Server, T
from benchmarks.peers.shared.shares import NUMBER_BITS, SEED_BYTES, SERVERS, Numbers, Stored, Stream, booleans
from veilmatch.crypto.packing.fields import Array


@dataclass
class Traffic:
    """Bytes of the messages of one query. device: from it; servers: between them, in so many rounds; answer: to it."""

    device: int = 0
    servers: int = 0
    rounds: int = 0
    answer: int = 0


class Search:
    """A shared gallery, ready for queries."""

    def __init__(self, gallery: Sequence[Stored], width: int) -> None:
        """gallery: of `share_out`. width: up to 16, with |score - threshold| < 2^(width-1) for all that is asked."""
        assert 2 <= width <= NUMBER_BITS
        # Server i and the one before it have stream i in common.
        seeds = [secrets.token_bytes(SEED_BYTES) for _ in range(SERVERS)]
        self._servers = [
            Server(i, gallery[i], Stream(seeds[i]), Stream(seeds[(i + 1) % SERVERS]), width) for i in range(SERVERS)
        ]
        self._identities = sum(part.shape[1] for part in gallery[0])
        self.traffic = Traffic()

    def matches(self, probe: Array, threshold: int) -> NDArray[np.bool_]:
        """Return for each identity whether its score reaches the threshold.

        probe: integers [D]. The traffic of this query is in `traffic` afterwards.
        """
        self.traffic = Traffic()
        shares = self._shared(probe)
        programs = [
            server.below(shares[i], shares[(i + 1) % SERVERS], threshold) for i, server in enumerate(self._servers)
        ]
        bits = run(programs, self.traffic)
        # Two servers hold all three shares. Only the device gets them.
        answer = (bits[0].own ^ bits[0].after)[0], bits[1].after[0]
        self.traffic.answer = sum(part.nbytes for part in answer)
        return ~booleans(answer[0] ^ answer[1], self._identities)

    def _shared(self, probe: Array) -> list[Numbers]:
        """Return the shares of the probe. Two of them are made from seeds, at the device and at the servers alike."""
        seeds = [secrets.token_bytes(SEED_BYTES) for _ in range(SERVERS - 1)]
        here = [Stream(seed).numbers(len(probe)) for seed in seeds]
        last = probe.astype(np.uint16) - here[0] - here[1]
        # Each share goes to two servers, which expand the seeds again.
        self.traffic.device = 2 * (len(seeds) * SEED_BYTES + last.nbytes)
        there = [[Stream(seed).numbers(len(probe)) for seed in seeds] for _ in range(2)]
        return [*there[0], last]


def run(programs: Sequence[Program[T]], traffic: Traffic) -> list[T]:
    """Run the programs of the three servers in step, carry their messages and count them; return their results.

    They take the same number of rounds, whatever they hold.
    """
    sent = [next(program) for program in programs]
    results: list[T] = []
    while not results:
        inbox: list[dict[int, Message]] = [{} for _ in programs]
        for sender, messages in enumerate(sent):
            for receiver, message in messages.items():
                inbox[receiver][sender] = message
                traffic.servers += message.nbytes
        traffic.rounds += 1
        sent = []
        for program, messages in zip(programs, inbox, strict=True):
            try:
                sent.append(program.send(messages))
            except StopIteration as done:
                results.append(done.value)
    assert not sent
    return results
