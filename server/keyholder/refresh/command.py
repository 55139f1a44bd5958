"""What `veilmatch keyholder refresh` asks the daemon of its own key holder, showing that key holder's certificate."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass

import grpc

from veilmatch.common.public_file import read_public_file
from veilmatch.crypto.claims import KEY_HOLDERS, Others
from veilmatch.crypto.errors import IntegrityError
from veilmatch.protos.v1 import keyholder_pb2 as pb
from veilmatch.protos.v1 import keyholder_pb2_grpc as rpc
from veilmatch.server.config import KeyHolderSettings
from veilmatch.server.keyholder.refresh.hand import STAGES
from veilmatch.server.transport.channels import channel_to
from veilmatch.server.transport.status import from_rpc

#: Beyond what a refresh takes at most between the key holders; they end it themselves.
_PATIENCE = 20.0
#: Addresses that mean all of this machine's, and the one of them to call.
_ANY = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104


@dataclass(frozen=True, slots=True)
class Status:
    """How far a key holder is. stage: "none", "preparing", "ready", "withdrawn" or "used"; see settling.py."""

    party: str
    key_id: str
    epoch: int
    stage: str
    going_back: bool

    def document(self) -> dict[str, object]:
        """Return it for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Recovery:
    """What `--recover` found, and what it does. found: by peer, what it said of itself, and whether its word counts.

    will: a sentence; refused: why it would do nothing instead, or empty.
    """

    status: Status
    found: dict[str, tuple[str, bool]]
    will: str
    refused: str

    def document(self) -> dict[str, object]:
        """Return it for JSON."""
        found = {party: {"found": text, "counts": counts} for party, (text, counts) in self.found.items()}
        return self.status.document() | {"found": found, "will": self.will, "refused": self.refused}


async def ask_daemon(settings: KeyHolderSettings, *, refresh: bool) -> Status:
    """Have the daemon refresh the shares, or only say how far it is; return how far it is then.

    Raises UnavailableError if the daemon, or a peer of it, cannot be reached, and what the daemon's refresh raises.
    """
    async with _daemon(settings) as stub:
        call = stub.Refresh if refresh else stub.State
        state = await call(pb.RefreshQuery(key_id=_key_id(settings)), timeout=_PATIENCE * settings.peer_timeout_s)
        return _status(settings, state)


async def ask_to_recover(settings: KeyHolderSettings, without: str, *, go: bool) -> Recovery:
    """Have the daemon go back to the epoch before, or only say what that would mean.

    without: name of the peer whose word is not to count, or empty. Raises UnavailableError if the daemon cannot be
    reached, InvalidInputError for a name of no peer; and if it is to go, what recovery.plan raises.
    """
    async with _daemon(settings) as stub:
        request = pb.RecoverRequest(key_id=_key_id(settings), without=without, go=go)
        report = await stub.Recover(request, timeout=_PATIENCE * settings.peer_timeout_s)
        found = {peer.party: (peer.found, peer.counts) for peer in report.peers}
        return Recovery(_status(settings, report.state), found, report.will, report.refused)


@asynccontextmanager
async def _daemon(settings: KeyHolderSettings) -> AsyncIterator[rpc.KeyHolderRefreshAsyncStub]:
    channel = channel_to(_own_address(settings.listen), settings.party_name, settings.tls)
    try:
        stub: rpc.KeyHolderRefreshAsyncStub = rpc.KeyHolderRefreshStub(channel)
        yield stub
    except grpc.aio.AioRpcError as error:
        raise from_rpc(error, settings.party_name, others=Others(partners=KEY_HOLDERS)) from None
    finally:
        await channel.close()


def _key_id(settings: KeyHolderSettings) -> bytes:
    return read_public_file(settings.public_key).public_key.key_id


def _status(settings: KeyHolderSettings, state: pb.RefreshState) -> Status:
    stage = STAGES.get(state.stage)
    if stage is None:
        raise IntegrityError("the daemon is of another version", got=state.stage)
    return Status(settings.party_name, state.key_id.hex(), state.epoch, stage.name.lower(), state.going_back)


def _own_address(listen: str) -> str:
    host, _, port = listen.rpartition(":")
    return f"{_ANY.get(host, host)}:{port}"
