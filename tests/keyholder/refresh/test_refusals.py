"""What key holders refuse about refreshes, and that shares of two epochs never answer together."""

from __future__ import annotations

import asyncio
import secrets
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.keyholder.refreshables import Refreshables, refreshables
from tests.keyholder.trio import NAMES, ceremony, refused, stocked
from veilmatch.crypto.errors import (
    AuditLogError,
    CiphertextError,
    KeyMismatchError,
    ParameterError,
    PartyRefusedError,
    ProtocolError,
    UnavailableError,
    VeilmatchError,
)
from veilmatch.crypto.keys.parties import PAIRS, PARTIES, Party, pairs_of
from veilmatch.crypto.keys.shares import MAX_EPOCH, KeyHolderKey, PairShare
from veilmatch.crypto.secret_access import SECRET_ACCESS
from veilmatch.protos.v1 import keyholder_pb2 as pb
from veilmatch.protos.v1 import keyholder_pb2_grpc as rpc
from veilmatch.server.keyholder.audit.check import entries_of
from veilmatch.server.keyholder.refresh import attempt as refresh_attempt

KEY_ID = ceremony().public_key.key_id
STEPS = ("Begin", "Prepare", "Abandon")
MESSAGES = ("Commitment", "Reveal", "Fit")


@pytest.fixture
async def three(tmp_path: Path) -> AsyncIterator[Refreshables]:
    async with refreshables(await stocked(tmp_path / "trio")) as made:
        yield made


def stub(three: Refreshables, caller: str, party: Party) -> Any:
    return rpc.KeyHolderRefreshStub(three.channel(caller, party))


def step(**changes: Any) -> pb.RefreshStep:
    return pb.RefreshStep(**({"key_id": KEY_ID, "epoch": 1, "refresh_id": bytes(32)} | changes))


# -- who may ask what ---------------------------------------------------------------------------------


@pytest.mark.parametrize("caller", NAMES)
async def test_only_key_holders_speak_of_refreshes_and_each_leads_for_its_own_operator(
    three: Refreshables, caller: str
) -> None:
    asked = stub(three, caller, "b")
    query = pb.RefreshQuery(key_id=KEY_ID)
    own, peer = caller == "keyholder-b", caller in ("keyholder-a", "keyholder-c")
    messages = [(name, step()) for name in STEPS] + [(n, pb.RefreshMessage(step=step(), pair="ab")) for n in MESSAGES]
    for method, message in [("Refresh", query), ("Settle", query), ("State", query), *messages]:
        allowed = {"Refresh": own, "State": own or peer}.get(method, peer)
        if allowed and method in ("Refresh", "State", "Settle", "Begin", "Abandon"):
            assert (await getattr(asked, method)(message, timeout=20.0)).key_id == KEY_ID
        elif not allowed:
            error = await refused(getattr(asked, method)(message, timeout=20.0), "b")
            assert isinstance(error, PartyRefusedError), method
    assert await three.settled() == {2 if own else 1}


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"key_id": bytes(16)}, KeyMismatchError),
        ({"epoch": 2}, KeyMismatchError),
        ({"epoch": 0}, KeyMismatchError),
        ({"refresh_id": b"short"}, ProtocolError),
    ],
)
async def test_another_key_epoch_or_a_bad_name_is_no_refresh(
    three: Refreshables, changes: dict[str, Any], kind: type[VeilmatchError]
) -> None:
    assert isinstance(await refused(stub(three, "keyholder-a", "b").Begin(step(**changes), timeout=20.0), "b"), kind)
    for method in ("State", "Settle"):
        call = getattr(stub(three, "keyholder-a", "b"), method)(pb.RefreshQuery(key_id=bytes(16)), timeout=20.0)
        assert isinstance(await refused(call, "b"), KeyMismatchError)


async def test_every_answer_about_a_pair_is_given_once(three: Refreshables) -> None:
    asked = stub(three, "keyholder-a", "b")
    three.leads_a_refresh_that_never_ends("a", bytes(32))
    await asked.Begin(step(), timeout=20.0)

    def message(value: bytes, pair: str = "ab") -> pb.RefreshMessage:
        return pb.RefreshMessage(step=step(), pair=pair, value=value)

    early = await refused(asked.Reveal(message(bytes(32)), timeout=20.0), "b")
    assert isinstance(early, ProtocolError)
    given = await asked.Commitment(message(secrets.token_bytes(32)), timeout=20.0)
    assert len(given.value) == 32
    again = await refused(asked.Commitment(message(secrets.token_bytes(32)), timeout=20.0), "b")
    assert isinstance(again, ProtocolError)
    other = await refused(asked.Reveal(message(bytes(32)), timeout=20.0), "b")
    assert isinstance(other, ProtocolError) and "committed" in other.message
    for pair in ("bc", "ac", "", "xy"):
        wrong = await refused(asked.Commitment(message(bytes(32), pair), timeout=20.0), "b")
        assert isinstance(wrong, ProtocolError)
    foreign = await refused(stub(three, "keyholder-c", "b").Prepare(step(), timeout=20.0), "b")
    assert isinstance(foreign, ProtocolError)
    unknown = await refused(asked.Prepare(step(refresh_id=b"x" * 32), timeout=20.0), "b")
    assert isinstance(unknown, UnavailableError)
    # Nobody leads any more: what was begun is forgotten.
    three.hands["a"].give_up()
    assert await three.refresh("c") == 2


async def test_a_next_key_is_made_once(three: Refreshables, monkeypatch: pytest.MonkeyPatch) -> None:
    """A leader that asks for it twice at a time would have one key shown and another one kept."""
    refusals: list[ProtocolError] = []
    began = three.refreshers["b"].prepare

    async def twice(leader: Party, step: pb.RefreshStep) -> pb.RefreshState:
        first = asyncio.create_task(began(leader, step))
        await asyncio.sleep(0)
        with pytest.raises(ProtocolError, match="being prepared already") as caught:
            await began(leader, step)
        refusals.append(caught.value)
        return await first

    monkeypatch.setattr(three.refreshers["b"], "prepare", twice)
    assert await three.refresh("a") == 2 and refusals
    assert await three.settled() == {2} and await three.serves()


async def test_a_holder_that_takes_part_begins_no_other_refresh(three: Refreshables) -> None:
    three.leads_a_refresh_that_never_ends("a", bytes(32))
    await stub(three, "keyholder-a", "b").Begin(step(), timeout=20.0)
    error = await refused(stub(three, "keyholder-c", "b").Begin(step(refresh_id=b"c" * 32), timeout=20.0), "b")
    assert isinstance(error, UnavailableError) and "led by keyholder-a" in error.message
    with pytest.raises(UnavailableError):
        await three.refresh("c")


# -- what ends a refresh with nothing changed ------------------------------------------------------------


async def test_shares_that_do_not_fit_end_the_refresh(three: Refreshables, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault in one holder's arithmetic: its next exponent, or its next kappa, is one off."""
    genuine = refresh_attempt.refreshed_key
    for off in ((1, 0), (0, 1)):

        def faulty(key: KeyHolderKey, *arguments: Any, off: tuple[int, int] = off) -> KeyHolderKey:
            made = genuine(key, *arguments)
            if key.party != "b":
                return made
            first, second = (made.share(pair) for pair in pairs_of("b"))
            wrong = PairShare(second.pair, "b", second._exponent + off[0], second._kappa + off[1])
            return made.of_epoch(made.epoch, (first, wrong), made._safety, made._dealing_seed, SECRET_ACCESS)

        monkeypatch.setattr(refresh_attempt, "refreshed_key", faulty)
        with pytest.raises(KeyMismatchError, match="do not fit"):
            await three.refresh("a")
        assert await three.settled() == {1}
    monkeypatch.undo()
    assert await three.serves() and await three.refresh() == 2


async def test_without_the_test_a_fault_would_end_in_pairs_that_serve_nothing(
    three: Refreshables, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = refresh_attempt.refreshed_key

    def faulty(key: KeyHolderKey, *arguments: Any) -> KeyHolderKey:
        made = genuine(key, *arguments)
        shares = [PairShare(s.pair, s.party, s._exponent + (key.party == "b"), s._kappa) for s in made._shares]
        return made.of_epoch(made.epoch, (shares[0], shares[1]), made._safety, made._dealing_seed, SECRET_ACCESS)

    monkeypatch.setattr(refresh_attempt, "refreshed_key", faulty)
    monkeypatch.setattr(refresh_attempt, "_require_fit", lambda *_: None)
    assert await three.refresh() == 2
    for pair in ("ab", "bc"):
        with pytest.raises(CiphertextError):
            await three.serves(pair)  # type: ignore[arg-type]


async def test_what_cannot_be_noted_is_not_refreshed(three: Refreshables, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise AuditLogError("the audit log cannot be written, so nothing is served", party="keyholder-c")

    monkeypatch.setattr(three["c"].auditor, "refresh", full)
    with pytest.raises(AuditLogError):
        await three.refresh("a")
    assert await three.settled() == {1}
    monkeypatch.undo()
    assert await three.refresh("a") == 2


async def test_every_step_is_in_the_audit_log(three: Refreshables) -> None:
    await three.refresh("b")
    for party in PARTIES:
        steps = [e.fields for e in entries_of(three.data_dir(party)) if e.event == "refresh"]
        assert [(s["step"], s["epoch"], s["caller"]) for s in steps] == [
            ("prepared", 2, "keyholder-b"),
            ("used", 2, "keyholder-b"),
        ]


async def test_a_key_file_that_was_replaced_since_the_start_is_not_overwritten(three: Refreshables) -> None:
    """Resealed under another passphrase, say: the next daemon start would not open what this one writes."""
    from tests.installation.making import CHEAP
    from tests.keyholder.refreshables import public_file
    from veilmatch.server.installation.sealed import seal

    seal(three.path("c"), three["c"].key, public_file(), "another passphrase", CHEAP)
    before = three.path("c").read_bytes()
    with pytest.raises(KeyMismatchError, match="sealed again"):
        await three.refresh("a")
    assert await three.settled() == {1} and three.path("c").read_bytes() == before


async def test_no_epoch_follows_the_last_one(three: Refreshables, monkeypatch: pytest.MonkeyPatch) -> None:
    from veilmatch.crypto.keys import refreshing

    monkeypatch.setattr(refreshing, "MAX_EPOCH", 2)
    assert await three.refresh() == 2
    with pytest.raises(ParameterError):
        await three.refresh()
    assert await three.settled() == {2} and MAX_EPOCH == 2**16 - 1


# -- two epochs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("party", PARTIES)
async def test_a_restored_backup_of_a_key_file_is_refused(three: Refreshables, party: Party, tmp_path: Path) -> None:
    shutil.copy(three.path(party), tmp_path / "backup")
    assert await three.refresh() == 2
    assert await three.settled() == {2}
    newest = three.path(party).read_bytes()
    await three.stop(party)
    shutil.copy(tmp_path / "backup", three.path(party))
    await three.start(party)
    await three.found_again()
    for pair in pairs_of(party):
        with pytest.raises(KeyMismatchError) as caught:
            await three.serves(pair)
        text = str(caught.value)
        assert "different epochs" in text and "epoch 1" in text and "epoch 2" in text
    for leader in PARTIES:
        with pytest.raises(KeyMismatchError, match="different epochs"):
            await three.refresh(leader)
    # The pair without it serves, but for new stock from this dealer; with the newest file all is well again.
    await three.stop(party)
    three.path(party).write_bytes(newest)
    await three.start(party)
    await three.found_again()
    assert await three.serves()


@pytest.mark.parametrize("pair", PAIRS)
async def test_a_stolen_old_share_that_claims_the_new_epoch_gets_no_opening(three: Refreshables, pair: str) -> None:
    """Everything agrees but the share itself: the fingerprints do not, so no Beaver value is sent."""
    old = {party: three[party].key for party in PARTIES}
    assert await three.refresh() == 2
    assert await three.settled() == {2}
    thief: Party = pair[0]  # type: ignore[assignment]
    key, new = old[thief], three[thief].key
    shares = tuple(key.share(p) for p in pairs_of(thief))
    stolen = key.of_epoch(2, shares, new._safety, new.dealing_seed(SECRET_ACCESS), SECRET_ACCESS)  # type: ignore[arg-type]
    await three[thief].switch(stolen)
    with pytest.raises(CiphertextError, match="not well-formed under this key and epoch"):
        await three.serves(pair)  # type: ignore[arg-type]


async def test_workers_convert_nothing_with_the_exponent_of_another_epoch(three: Refreshables) -> None:
    workers = three["a"]._workers
    await workers.of("ab", 1, "device-1").local_shares([three["a"].scheme.encode(1)])  # type: ignore[arg-type]
    assert await three.refresh() == 2
    for epoch in (1, 3):
        with pytest.raises(UnavailableError, match="refreshed"):
            await workers.of("ab", epoch, "device-1").local_shares([three["a"].scheme.encode(1)])  # type: ignore[arg-type]
    await asyncio.sleep(0)
