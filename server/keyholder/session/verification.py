"""One verification under way at a key holder, which may go with others (together.py), and what its session uses."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from veilmatch.crypto.digests import NONCE_BYTES
from veilmatch.crypto.encryption.scheme import LocalShare, Scheme
from veilmatch.crypto.keys.parties import Pair
from veilmatch.crypto.keys.shares import KeyHolderKey
from veilmatch.crypto.pair.mask import MASK_SECRET_BYTES
from veilmatch.crypto.pair.messages import DecisionShare
from veilmatch.crypto.pair.request import Part
from veilmatch.crypto.pair.session import PairSession
from veilmatch.server.ground.request_id import now_about
from veilmatch.server.keyholder.audit.record import Record
from veilmatch.server.keyholder.session.share_worker import ShareWork
from veilmatch.server.keyholder.stock.stock import Stock


@dataclass(frozen=True, slots=True)
class Footing:
    """What a session stands on: the key of an epoch, and the stock of a pair."""

    pair: Pair
    key: KeyHolderKey
    stock: Stock

    @property
    def name(self) -> tuple[Pair, int, bytes]:
        """The same for all that can go together."""
        return self.pair, self.key.epoch, self.stock.name

    def session(self, parts: Sequence[Part | None], scheme: Scheme) -> PairSession:
        """Return a fresh session."""
        share, safety = self.key.share(self.pair), self.key.safety(self.pair)
        coins, mask_secret = secrets.token_bytes(NONCE_BYTES), secrets.token_bytes(MASK_SECRET_BYTES)
        return PairSession(parts, share, safety, scheme, coins, mask_secret, self.stock.floors)


class Verification:
    """One request under way. owner: the device that asks. local: its local shares, begun; also if they fail."""

    def __init__(
        self, part: Part, footing: Footing, owner: str, record: Record, work: ShareWork,
        local: asyncio.Future[list[LocalShare]],
    ) -> None:  # fmt: skip
        self.part, self.footing, self.owner = part, footing, owner
        self.record, self.work, self.local = record, work, local
        self.about = now_about()
        #: When its session began, by `time.time_ns`.
        self.met_ns: int | None = None
        #: This holder's share of its answer; None: it goes alone.
        self.answer: asyncio.Future[DecisionShare | None] = asyncio.get_running_loop().create_future()
        #: At the plus holder, what waits until the peer calls about this one alone.
        self.alone: asyncio.Task[DecisionShare] | None = None
        #: With which others it goes, itself included, and what drives that.
        self.others: Sequence[Verification] = ()
        self.driving: asyncio.Task[Any] | None = None

    @property
    def is_converted(self) -> bool:
        """Whether its local shares are here."""
        return self.local.done() and not self.local.cancelled() and self.local.exception() is None

    def go_with(self, members: Sequence[Verification]) -> None:
        """Go in a session that the current task drives."""
        self.others, self.driving = members, asyncio.current_task()

    def go_no_further(self) -> None:
        """Its session has ended: let go of the others and of what drove it, which lead back here.

        What leads back would keep it, its local shares included, until Python looks for cycles of garbage.
        """
        self.others, self.driving = (), None

    def leave(self) -> None:
        """Nobody waits for it any more; its session ends if nobody waits for any of it."""
        self.answer.cancel()
        if self.driving is not None and all(one.answer.done() for one in self.others):
            self.driving.cancel()

    def settle(self, answer: DecisionShare | None) -> None:
        """Say what came out, if anybody waits for it."""
        if not self.answer.done():
            self.answer.set_result(answer)

    def fail(self, error: BaseException) -> None:
        """Say why nothing came out, if anybody waits for it."""
        if not self.answer.done():
            self.answer.set_exception(error)
