"""Streams to a key holder that are begun and not gone on with: each ends by itself, and says who fell silent."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.keyholder.test_service_sessions import gallery_of, vectors
from tests.keyholder.trio import TOY, Trio, ceremony, refused, results_of, signed
from veilmatch.crypto.encryption.paillier import Paillier
from veilmatch.crypto.errors import ProtocolError, UnavailableError
from veilmatch.crypto.pair.messages import Results
from veilmatch.protos.v1 import keyholder_pb2 as pb
from veilmatch.protos.v1 import keyholder_pb2_grpc as rpc
from veilmatch.server.keyholder import service
from veilmatch.server.transport import streams

Opened = Callable[[Trio], tuple[Any, str]]
#: Each kind of stream, to key holder b, and who opens it.
OPENED: dict[str, Opened] = {
    "Serve": lambda trio: (rpc.KeyHolderStub(trio.channel("matcher-b", "b")).Serve(timeout=20.0), "matcher-b"),
    "ServeMany": lambda trio: (rpc.KeyHolderStub(trio.channel("matcher-b", "b")).ServeMany(timeout=20.0), "matcher-b"),
    "Pair": lambda trio: (rpc.KeyHolderPeerStub(trio.channel("keyholder-a", "b")).Pair(timeout=20.0), "keyholder-a"),
    "CheckDealt": lambda trio: (
        rpc.KeyHolderPeerStub(trio.channel("keyholder-a", "b")).CheckDealt(timeout=20.0), "keyholder-a",
    ),
}  # fmt: skip


@pytest.mark.parametrize("method", OPENED)
async def test_a_stream_without_a_first_message_ends(method: str, trio: Trio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "SILENCE_S", 0.3)
    began = time.monotonic()
    call, caller = OPENED[method](trio)
    error = await refused(call, "b")
    assert type(error) is UnavailableError and error.message.startswith(f"{caller} did not")
    assert time.monotonic() - began < 15


def first_of(results: Results, packs: int = 1) -> pb.MatcherToKeyHolder:
    """The chunk of the first packs, which says that others follow."""
    scheme = Paillier(ceremony().public_key)
    data = b"".join(scheme.serialise(c) for c in results.ciphertexts[:packs])
    wanted = np.packbits(results.wanted[:packs], bitorder="little").tobytes()
    return pb.MatcherToKeyHolder(results=pb.ResultsChunk(results=data, wanted=wanted, packs=packs))


async def test_results_that_are_not_gone_on_with_end_the_session(trio: Trio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "SILENCE_S", 0.5)
    templates = vectors(1, TOY.slots + 9)
    gallery = gallery_of(templates)
    async with trio.both(signed(templates[3], "ab"), "ab") as calls:
        results = await results_of(calls, gallery, range(len(templates)), "ab")
        await calls["a"]._link.send(first_of(results))  # type: ignore[arg-type]
        began = time.monotonic()
        with pytest.raises(UnavailableError) as caught:
            await calls["a"].decision_share(len(templates), 2)
    assert "matcher-a" in caught.value.message and caught.value.needed == "a message within 0.5 s"
    assert time.monotonic() - began < 30


async def test_more_results_than_any_query_has_are_refused(trio: Trio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "_MAX_CELLS", TOY.slots)
    templates = vectors(1, TOY.slots + 9)
    gallery = gallery_of(templates)
    async with trio.both(signed(templates[3], "ab"), "ab") as calls:
        results = await results_of(calls, gallery, range(len(templates)), "ab")
        await calls["a"]._link.send(first_of(results, packs=2))  # type: ignore[arg-type]
        with pytest.raises(ProtocolError, match="more results"):
            await calls["a"].decision_share(len(templates), 2)


async def test_a_chunk_without_results_is_refused(trio: Trio) -> None:
    templates = vectors(1, 3)
    gallery = gallery_of(templates)
    async with trio.both(signed(templates[0], "ab"), "ab") as calls:
        await results_of(calls, gallery, range(len(templates)), "ab")
        await calls["a"]._link.send(pb.MatcherToKeyHolder(results=pb.ResultsChunk()))  # type: ignore[arg-type]
        with pytest.raises(ProtocolError, match="do not fit"):
            await calls["a"].decision_share(len(templates), 1)
