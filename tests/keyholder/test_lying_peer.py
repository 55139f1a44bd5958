"""A key holder that lies about others, to an honest one: it is heard in its own name alone."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from tests.keyholder.trio import TOY, Trio, holders, signed
from veilmatch.crypto.errors import (
    DealtStockError,
    KeySafetyError,
    RequestExpiredError,
    StorageError,
    UnavailableError,
    VeilmatchError,
    WrongClockError,
)
from veilmatch.crypto.keys.parties import Party
from veilmatch.crypto.pair.session import PairSession
from veilmatch.server.keyholder.session import serving
from veilmatch.server.keyholder.session.driving import driven
from veilmatch.server.transport import links
from veilmatch.server.transport.standing import strand

PROBE = np.random.default_rng(1).integers(-TOY.clip, TOY.clip + 1, TOY.dimension)
A, B, C = "keyholder-a", "keyholder-b", "keyholder-c"

LIES = {
    "expired": RequestExpiredError("the request has expired"),
    "a wrong clock": WrongClockError("the request has expired", party=A, alternatives=("bc",)),
    "an outsider deviates": KeySafetyError("opened other values", party=C),
    "the honest one deviates": KeySafetyError("opened other values", party=A),
    "nobody that there is": KeySafetyError("opened other values", party="organisation 17"),
    "the honest one is down": UnavailableError("x", party=A, alternatives=("ac",), retry_after_s=300),
}


def lie(monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any]) -> None:
    """Have every last word be this."""
    for module in (links, strand):
        monkeypatch.setattr(module, "written", lambda _error, _features: json.dumps(fields).encode())


@pytest.mark.parametrize("what", LIES)
async def test_what_it_ends_a_session_with_is_logged_and_passed_on_as_its_word(
    trio: Trio, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    async def ends() -> Any:
        raise StorageError("full")
        yield

    def at_b(session: PairSession, *more: Any) -> Any:
        return driven(session, *more) if session._exchange.is_plus else ends()

    monkeypatch.setattr(serving, "driven", at_b)
    lie(monkeypatch, LIES[what].fields())
    request = signed(PROBE)

    async def share(party: Party) -> Any:
        async with trio.call(request, party, "ab") as call:
            return await call.probe_share()

    with capture_logs() as logged:
        heard, _ = await asyncio.gather(*map(share, holders("ab")), return_exceptions=True)
        await asyncio.sleep(0.2)
    assert isinstance(heard, VeilmatchError) and type(heard) is type(LIES[what])
    assert heard.said_by == (B, A) and heard.party in (None, B) and heard.alternatives in ((), ("ac",))
    of_a = [entry for entry in logged if entry.get("caller") in (B, "matcher-a")]
    (entry,) = of_a
    assert (entry["event"], entry["method"]) == ("call refused", "Serve") and entry["failed"] in (None, B)
    assert entry["reason"].startswith(f"{B} says: ")
    alerts = [entry for entry in logged if entry["event"] == "alert"]
    assert [entry["code"] for entry in alerts] == ["storage"], "that of keyholder-b, about itself"


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
    assert waits == [5, 10, 20, 40, 80]
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
