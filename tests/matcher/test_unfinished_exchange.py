"""A call of the other matcher on which nothing comes ends by itself."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest

from tests.transport.parties import tls_of
from veilmatch.crypto.errors import UnavailableError
from veilmatch.protos.v1 import matcher_pb2_grpc as rpc
from veilmatch.server.matcher.agreement.meetings import Meetings
from veilmatch.server.matcher.query.matching import Surroundings
from veilmatch.server.matcher.service import MatcherPeerService
from veilmatch.server.transport import streams
from veilmatch.server.transport.channels import channel_to, server_credentials, server_options
from veilmatch.server.transport.status import from_rpc


@pytest.mark.parametrize("method", ["Exchange", "Meet"])
async def test_a_call_without_a_first_message_ends(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "SILENCE_S", 0.3)
    # No gallery, no key holders and no workers: an exchange that does not begin gets to none of them.
    meetings = Meetings("b", {"a": None}, timeout_s=5.0)  # type: ignore[dict-item]
    on = Surroundings(  # type: ignore[arg-type]
        "b",
        scheme=None,
        workers=None,
        meetings=meetings,
        key_holder=None,
        key_holder_signs=None,
        timeout_s=5.0,
        public=None,
        organisation=None,
    )
    server = grpc.aio.server(options=server_options(serves_devices=True))
    rpc.add_MatcherPeerServicer_to_server(MatcherPeerService(on, {}), server)
    port = server.add_secure_port("127.0.0.1:0", server_credentials(tls_of(tmp_path, "matcher-b")))
    await server.start()
    try:
        async with channel_to(f"127.0.0.1:{port}", "matcher-b", tls_of(tmp_path, "matcher-a")) as channel:
            call = getattr(rpc.MatcherPeerStub(channel), method)(timeout=10.0)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                async for _ in call:
                    pass
    finally:
        await server.stop(None)
    error = from_rpc(caught.value, "matcher-b")
    assert type(error) is UnavailableError and error.message.startswith("matcher-a did not")
