"""A key holder that leads a refresh by the rules until all are ready, and then tells each peer what it likes."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import pytest

from tests.keyholder.refreshables import Refreshables
from tests.keyholder.trio import ceremony
from veilmatch.crypto.errors import UnavailableError, VeilmatchError
from veilmatch.crypto.keys.parties import PARTIES, Party
from veilmatch.protos.v1 import keyholder_pb2 as pb
from veilmatch.server.keyholder.refresh.hand import Hand

NONE, READY, USED = pb.REFRESH_STAGE_NONE, pb.REFRESH_STAGE_READY, pb.REFRESH_STAGE_USED


@dataclass
class DeviatingLeader:
    """Key holder a, with the decision that it has not made."""

    three: Refreshables
    refresh_id: bytes = b""
    decision: bytes = b""

    @staticmethod
    async def all_ready(three: Refreshables, monkeypatch: pytest.MonkeyPatch) -> DeviatingLeader:
        """Lead until all are ready. From then on nobody settles by itself."""
        leader = DeviatingLeader(three)
        for task in three.settling.values():
            task.cancel()

        def keep(decision: bytes) -> None:
            leader.decision, leader.refresh_id = decision, three.hands["a"].state().refresh_id
            raise UnavailableError("not yet")

        async def nothing(_: pb.RefreshStep) -> None:
            """Neither delete the next key nor tell the others that it has given up."""

        with monkeypatch.context() as patch:
            patch.setattr(three.hands["a"], "decide", keep)
            patch.setattr(three.refreshers["a"], "_give_up", nothing)
            with suppress(VeilmatchError):
                await three.refresh("a")
        assert all(three.hands[party].state().stage == READY for party in PARTIES)
        return leader

    def tells(self, party: Party, epoch: int, stage: pb.RefreshStage.ValueType, *, decision: bool = False) -> None:
        """Answer this peer so from now on."""
        self.three.says["a", party] = pb.RefreshState(
            key_id=ceremony().public_key.key_id, epoch=epoch, stage=stage, refresh_id=self.refresh_id,
            decision=self.decision if decision else b"",
        )  # fmt: skip

    async def uses(self) -> None:
        """Use the next key in fact, whatever the others are told: it deals for the new epoch."""
        hand: Hand = self.three.hands["a"]
        hand.leading = False
        hand.decide(self.decision)
        await hand.switch()
