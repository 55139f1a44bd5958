"""What `veilmatch keyholder refresh` asks the daemon of its own key holder, showing that key holder's certificate."""

from __future__ import annotations

import grpc

from veilmatch.protos.v1 import keyholder_pb2 as pb
from veilmatch.protos.v1 import keyholder_pb2_grpc as rpc
from veilmatch.server.config import KeyHolderSettings
from veilmatch.server.installation.public_file import read_public_file
from veilmatch.server.transport.channels import channel_to
from veilmatch.server.transport.status import from_rpc

#: Beyond what a refresh takes at most between the key holders; they end it themselves.
_PATIENCE = 20.0
#: Addresses that mean all of this machine's, and the one of them to call.
_ANY = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104


async def ask_daemon(settings: KeyHolderSettings, *, refresh: bool) -> dict[str, object]:
    """Have the daemon refresh the shares, or only say how far it is; return party, key id, epoch and what is left.

    Raises UnavailableError if the daemon, or a peer of it, cannot be reached, and what the daemon's refresh raises.
    """
    query = pb.RefreshQuery(key_id=read_public_file(settings.public_key).public_key.key_id)
    channel = channel_to(_own_address(settings.listen), settings.party_name, settings.tls)
    try:
        stub: rpc.KeyHolderRefreshAsyncStub = rpc.KeyHolderRefreshStub(channel)
        call = stub.Refresh if refresh else stub.State
        state = await call(query, timeout=_PATIENCE * settings.peer_timeout_s)
    except grpc.aio.AioRpcError as error:
        raise from_rpc(error, settings.party_name) from None
    finally:
        await channel.close()
    return {
        "party": settings.party_name, "key_id": state.key_id.hex(), "epoch": state.epoch,
        "waiting": state.waiting, "keeps_old": state.keeps_old,
    }  # fmt: skip


def _own_address(listen: str) -> str:
    host, _, port = listen.rpartition(":")
    return f"{_ANY.get(host, host)}:{port}"
