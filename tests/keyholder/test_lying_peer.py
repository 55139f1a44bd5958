"""A key holder that lies about others, to an honest one: it is heard in its own name alone."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from tests.keyholder.trio import TOY, Trio, signed
from veilmatch.crypto.errors import (
    DealtStockError,
    KeySafetyError,
    RequestExpiredError,
    StorageError,
    UnavailableError,
    VeilmatchError,
    WrongClockError,
)
from veilmatch.crypto.keys.shares import SEATS, Seat
from veilmatch.server.transport import links

PROBE = np.random.default_rng(1).integers(-TOY.clip, TOY.clip + 1, TOY.dimension)
A, B, C = "keyholder-a", "keyholder-b", "keyholder-c"

LIES = {
    "expired": RequestExpiredError("the request has expired"),
    "a wrong clock": WrongClockError("the request has expired", party=B, alternatives=("ac",)),
    "an outsider deviates": KeySafetyError("opened other values", party=C),
    "the honest one deviates": KeySafetyError("opened other values", party=B),
    "nobody that there is": KeySafetyError("opened other values", party="organisation 17"),
    "the honest one is down": UnavailableError("x", party=B, alternatives=("bc",), retry_after_s=300),
}


def lie(monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any]) -> None:
    """Have every last word be this."""
    monkeypatch.setattr(links, "written", lambda _error: json.dumps(fields).encode())


@pytest.mark.parametrize("what", LIES)
async def test_what_it_ends_a_session_with_is_logged_and_passed_on_as_its_word(
    trio: Trio, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    async def ends(*_arguments: Any) -> Any:
        raise StorageError("full")
        yield

    trio["a"]._drive = ends  # type: ignore[method-assign]
    lie(monkeypatch, LIES[what].fields())
    request = signed(PROBE)

    async def share(seat: Seat) -> Any:
        async with trio.call(request, seat, "ab") as call:
            return await call.probe_share()

    with capture_logs() as logged:
        _, heard = await asyncio.gather(*map(share, SEATS), return_exceptions=True)
        await asyncio.sleep(0.2)
    assert isinstance(heard, VeilmatchError) and type(heard) is type(LIES[what])
    assert heard.said_by == (A, B) and heard.party in (None, A) and heard.alternatives in ((), ("bc",))
    of_b = [entry for entry in logged if entry.get("caller") in (A, "matcher-b")]
    assert len(of_b) == 2
    for entry in of_b:
        assert entry["event"] == "call refused" and entry["failed"] in (None, A)
        assert entry["reason"].startswith(f"{A} says: ")
    alerts = [entry for entry in logged if entry["event"] == "alert"]
    assert [entry["code"] for entry in alerts] == ["storage"], "that of keyholder-a, about itself"


async def test_whomever_it_names_in_a_check_it_is_named_itself_and_the_wait_doubles(
    trio: Trio, monkeypatch: pytest.MonkeyPatch
) -> None:
    stock, _ = await trio["a"].stocks.of("ab"), await trio["b"].stocks.of("ab")

    async def stop(*_arguments: Any) -> Any:
        raise StorageError("no further")

    now = [1000.0]
    shelf = stock._shelves["bits"]
    monkeypatch.setattr(shelf._checker, "_hear", stop)
    for party in ("a", "b"):
        monkeypatch.setattr(trio[party].stocks._standings["ab"], "_now", lambda: now[0])  # type: ignore[index]
    waits = []
    for party in (C, B, A, "organisation 17", "n" * 3000):
        lie(monkeypatch, DealtStockError("dealt bits did not pass their check", party=party).fields())
        with capture_logs() as logged:
            with pytest.raises(StorageError):
                await shelf.check_one()
            await asyncio.sleep(0.2)
        (entry,) = (entry for entry in logged if entry["event"] == "dealt block refused")
        assert entry["named"] == A and entry["reason"].startswith(f"{A} says")
        waits.append(entry["retry_after_s"])
        now[0] += waits[-1]
    assert waits == [60, 120, 240, 480, 960]
    assert list(trio["b"].stocks._standings["ab"]._failed) == [A]


async def test_it_fills_no_log_with_long_words(trio: Trio, monkeypatch: pytest.MonkeyPatch) -> None:
    stock, _ = await trio["a"].stocks.of("ab"), await trio["b"].stocks.of("ab")

    async def stop(*_arguments: Any) -> Any:
        raise StorageError("no further")

    shelf = stock._shelves["bits"]
    monkeypatch.setattr(shelf._checker, "_hear", stop)
    lie(monkeypatch, KeySafetyError("A" * (3 << 20), party=C).fields())
    with capture_logs() as logged:
        with pytest.raises(StorageError):
            await shelf.check_one()
        await asyncio.sleep(0.2)
    refused = [entry for entry in logged if entry["event"] == "call refused"]
    assert refused and all(len(str(entry)) < 1000 for entry in refused)
    assert all(entry["failed"] == A for entry in refused)
