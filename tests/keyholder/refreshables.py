"""Three key holders that keep their keys in sealed files and refresh them; each may die at any step."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import grpc
import numpy as np

from tests.installation.making import CHEAP, PASSPHRASE
from tests.keyholder.trio import TOY, Trio, ceremony, public_file, signed
from tests.simulator import SimulatedGallery, unit_vectors
from veilmatch.crypto.encryption.paillier import Paillier
from veilmatch.crypto.errors import VeilmatchError
from veilmatch.crypto.keys.parties import PAIRS, PARTIES, Pair, Party
from veilmatch.crypto.keys.shares import KeyHolderKey
from veilmatch.protos.v1 import keyholder_pb2 as pb
from veilmatch.protos.v1 import keyholder_pb2_grpc as rpc
from veilmatch.server.installation.sealed import open_sealed, seal
from veilmatch.server.keyholder.refresh.hand import Hand
from veilmatch.server.keyholder.refresh.key_files import KeyFiles
from veilmatch.server.keyholder.refresh.pace import Pace
from veilmatch.server.keyholder.refresh.record import InHand, Record
from veilmatch.server.keyholder.refresh.refresh import Refresher
from veilmatch.server.keyholder.refresh.service import KeyHolderRefreshService
from veilmatch.server.transport.channels import Context, caller

#: Two templates; the first is the probe as well.
TEMPLATES = unit_vectors(np.random.default_rng(17), 2, TOY)


@cache
def gallery() -> SimulatedGallery:
    return SimulatedGallery.of(Paillier(ceremony().public_key), TEMPLATES)


@dataclass
class Refreshables(Trio):
    """A trio with files and refreshes. `hook(party, step)` is called before and after every change of a file."""

    hook: Callable[[Party, str], None] = lambda _party, _step: None
    opened: dict[Party, KeyFiles] = field(default_factory=dict)
    hands: dict[Party, Hand] = field(default_factory=dict)
    refreshers: dict[Party, Refresher] = field(default_factory=dict)
    settling: dict[Party, asyncio.Task[None]] = field(default_factory=dict)
    dead: set[Party] = field(default_factory=set)
    #: What a party says of its refresh to a peer, instead of the truth.
    says: dict[tuple[Party, Party], pb.RefreshState] = field(default_factory=dict)
    #: By how much the clock of a party is ahead.
    clock_s: dict[Party, float] = field(default_factory=lambda: dict.fromkeys(PARTIES, 0.0))
    dying: list[asyncio.Task[None]] = field(default_factory=list)

    def path(self, party: Party) -> Path:
        return self.folder / f"key-{party}" / "share.key"

    def files(self, party: Party) -> list[str]:
        return sorted(path.name.removeprefix("share.key") for path in self.path(party).parent.iterdir())

    def open_files(self, party: Party) -> KeyFiles:
        path = self.path(party)
        if not path.exists():
            path.parent.mkdir(parents=True)
            seal(path, ceremony().keys[PARTIES.index(party)], public_file(), PASSPHRASE, CHEAP)
        return Mortal(self, party, path, *open_sealed(path, party, public_file(), PASSPHRASE))

    def key(self, party: Party) -> KeyHolderKey:
        self.opened[party] = self.open_files(party)
        return self.opened[party].current

    def add_services(self, party: Party, server: grpc.aio.Server) -> None:
        settings = self.settings(party)
        record = MortalRecord(self, party, settings.data_dir, party)
        pace = Pace(settings.data_dir, party, settings.refresh_interval_s, lambda: time.time() + self.clock_s[party])
        self.hands[party] = Hand(self[party], self.opened[party], record, pace)
        refresher = self.refreshers[party] = Refresher(self[party], self.hands[party], settings.peer_timeout_s)
        service = TwoFacedService(self, refresher)
        rpc.add_KeyHolderRefreshServicer_to_server(service, server)
        self.settling[party] = asyncio.create_task(refresher.settle_for_ever())

    async def stop(self, *parties: Party) -> None:
        for party in parties:
            tasks = [self.settling.pop(party), *self.refreshers.pop(party)._leads]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await super().stop(*parties)
        for party in parties:
            self.hands[party].record.close()
            self.hands.pop(party).pace.close()

    async def refresh(self, leader: Party = "a") -> int:
        """Have the shares refreshed, and return the epoch afterwards."""
        return (await self.refreshers[leader].lead()).epoch

    def leads_a_refresh_that_never_ends(self, party: Party, refresh_id: bytes) -> None:
        """Have a key holder say that it leads this one."""
        self.refreshers[party]._open(refresh_id, party)
        self.hands[party].leading = True

    async def settled(self) -> set[int]:
        """Wait until nothing is unfinished anywhere; return the epochs."""
        async with asyncio.timeout(60.0):
            while any(self.files(party) != [""] for party in PARTIES):
                await asyncio.sleep(0.02)
        return {self[party].epoch for party in PARTIES}

    async def serves(self, *pairs: Pair) -> bool:
        """Whether these pairs (default: all) decide rightly, from whatever state they are in."""
        scores = TEMPLATES @ TEMPLATES[0]
        threshold = min(int(scores[0]), TOY.threshold_max)
        for pair in pairs or PAIRS:
            bits = await self.decide(signed(TEMPLATES[0], pair, threshold), pair, gallery(), [0, 1])
            if bits != (scores >= threshold).astype(int).tolist():
                return False
        return True

    def around(self, party: Party) -> Callable[..., Any]:
        """Return what does a step of a party, which is dead or may die of it, with the hook around it."""

        def do(step: str, action: Callable[..., Any], *arguments: Any) -> Any:
            if party in self.dead:
                raise asyncio.CancelledError
            self.hook(party, f"before {step}")
            outcome = action(*arguments)
            self.hook(party, f"after {step}")
            return outcome

        return do

    def die(self, party: Party) -> NoReturn:
        """End a key holder where it is, as by SIGKILL: it changes no file any more, and nobody reaches it."""
        self.dead.add(party)
        self.dying.append(asyncio.create_task(self.stop(party)))
        raise asyncio.CancelledError

    async def revive(self) -> None:
        """Start those again that died."""
        await asyncio.gather(*self.dying)
        back, self.dead = sorted(self.dead), set()
        self.dying.clear()
        await self.start(*back)
        await self.found_again()

    async def found_again(self) -> None:
        """Wait until all key holders that run reach each other."""
        async with asyncio.timeout(60.0):
            for party, refresher in self.refreshers.items():
                for peer in self.refreshers:
                    while peer != party:
                        with suppress(VeilmatchError):
                            await refresher._calls.state_of(peer)
                            break
                        await asyncio.sleep(0.02)


class TwoFacedService(KeyHolderRefreshService):
    """The service of a key holder that may say something else of its refresh to each of its peers."""

    def __init__(self, trio: Refreshables, refresher: Refresher) -> None:
        super().__init__(refresher, ceremony().public_key.key_id)
        self._says = {peer: (lambda at=(refresher.party, peer): trio.says.get(at)) for peer in PARTIES}

    async def State(self, request: pb.RefreshQuery, context: Context) -> pb.RefreshState:
        said = [say() for peer, say in self._says.items() if caller(context) == f"keyholder-{peer}"]
        return said[0] if said and said[0] is not None else await super().State(request, context)


class Mortal(KeyFiles):
    """Key files with a hook around every step: what runs in it may be the death of the key holder."""

    def __init__(self, trio: Refreshables, party: Party, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._around = trio.around(party)

    def prepare(self, key: KeyHolderKey) -> KeyHolderKey:
        return self._around("prepare", super().prepare, key)  # type: ignore[no-any-return]

    def commit(self) -> KeyHolderKey:
        return self._around("commit", super().commit)  # type: ignore[no-any-return]

    def go_back(self) -> KeyHolderKey:
        return self._around("go back", super().go_back)  # type: ignore[no-any-return]

    def discard(self) -> None:
        self._around("discard", super().discard)

    def erase_old(self) -> None:
        self._around("erase", super().erase_old)


class MortalRecord(Record):
    """The same for the record of the refresh in hand."""

    def __init__(self, trio: Refreshables, party: Party, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._around = trio.around(party)

    def put(self, found: InHand) -> None:
        self._around("ask back" if found.going_back else "put", super().put, found)

    def make_ready(self) -> None:
        self._around("ready", super().make_ready)

    def withdraw(self) -> None:
        self._around("withdraw", super().withdraw)

    def decide(self, decision: bytes) -> None:
        self._around("decide", super().decide, decision)

    def stay(self) -> None:
        self._around("stay", super().stay)

    def forget(self) -> None:
        self._around("forget", super().forget)


@asynccontextmanager
async def refreshables(folder: Path, **changes: Any) -> AsyncIterator[Refreshables]:
    """changes: to the settings. Refreshes follow each other as fast as they can, unless an interval is among them."""
    trio = Refreshables(folder, changes={"peer_timeout_s": 10.0, "refresh_interval_s": 0.001} | changes)
    await trio.start(*PARTIES)
    try:
        yield trio
    finally:
        await trio.close()
