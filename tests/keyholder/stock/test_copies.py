"""A stock that was put back from a copy is not used: found by where it is, or by what the peers remember."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.keyholder.stock.test_replaced import meet_again, query
from tests.keyholder.trio import Trio
from veilmatch.crypto.dealing import STOCK_KINDS
from veilmatch.crypto.errors import IntegrityError, UnavailableError
from veilmatch.crypto.keys.parties import Party
from veilmatch.protos.v1 import keyholder_pb2 as pb
from veilmatch.server.keyholder.stock import place, shelf
from veilmatch.server.keyholder.stock.newcomers import AT_ONCE, EACH_S, Newcomers
from veilmatch.server.keyholder.stock.store import StockStore

SEED = bytes(range(32))


# -- where it was made -----------------------------------------------------------------------------------------


def generation(folder: Path) -> bytes:
    with closing(StockStore(folder, SEED)) as store:
        return store.generation


def test_a_stock_is_opened_again_where_it_was_made(tmp_path: Path) -> None:
    made = generation(tmp_path / "data")
    assert generation(tmp_path / "data") == made
    (tmp_path / "data").rename(tmp_path / "renamed")
    assert generation(tmp_path / "renamed") == made, "the very same file"


def test_a_copy_is_refused_and_says_what_to_do(tmp_path: Path) -> None:
    generation(tmp_path / "data")
    shutil.copytree(tmp_path / "data", tmp_path / "copy")
    with pytest.raises(IntegrityError, match="is a copy, or was moved") as caught:
        generation(tmp_path / "copy")
    assert "made as another file" in str(caught.value.got)
    assert "empty data directory" in str(caught.value.hint) and "veilmatch keyholder moved" in str(caught.value.hint)


def test_a_copy_in_the_place_of_the_original_is_refused(tmp_path: Path) -> None:
    """Often it gets the very number that the original had."""
    generation(tmp_path / "data")
    shutil.copytree(tmp_path / "data", tmp_path / "copy")
    shutil.rmtree(tmp_path / "data")
    shutil.copytree(tmp_path / "copy", tmp_path / "data")
    with pytest.raises(IntegrityError, match="is a copy"):
        generation(tmp_path / "data")


@pytest.fixture
def on_a_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No container, whatever these tests run in; its machine id."""
    monkeypatch.setattr(place, "_OF_CONTAINERS", ((tmp_path / "dockerenv",), ("TESTS_CONTAINER",)))
    monkeypatch.setattr(place, "_MACHINE_ID", tmp_path / "machine-id")
    (tmp_path / "machine-id").write_text("one\n")
    return tmp_path / "machine-id"


def test_another_machine_is_refused(tmp_path: Path, on_a_machine: Path) -> None:
    generation(tmp_path / "data")
    on_a_machine.write_text("another one\n")
    with pytest.raises(IntegrityError) as caught:
        generation(tmp_path / "data")
    assert "made on another machine" in str(caught.value.got)


@pytest.mark.parametrize("how", ["file", "variable"])
def test_another_image_of_a_container_is_no_other_machine(
    tmp_path: Path, on_a_machine: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    if how == "file":
        (tmp_path / "dockerenv").touch()
    else:
        monkeypatch.setenv("TESTS_CONTAINER", "oci")
    made = generation(tmp_path / "data")
    on_a_machine.write_text("of the next image\n")
    assert generation(tmp_path / "data") == made


def test_a_file_system_without_versions_and_a_machine_without_an_id_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object) -> None:
        raise OSError

    monkeypatch.setattr(place.fcntl, "ioctl", none)
    monkeypatch.setattr(place, "_MACHINE_ID", tmp_path / "no machine-id")
    made = generation(tmp_path / "data")
    assert generation(tmp_path / "data") == made
    shutil.copytree(tmp_path / "data", tmp_path / "copy")
    with pytest.raises(IntegrityError, match="is a copy"):
        generation(tmp_path / "copy")


# -- what the peers remember -----------------------------------------------------------------------------------


def kept(trio: Trio, party: Party) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in trio.data_dir(party).glob("stock.db*")}


def put_back(trio: Trio, party: Party, files: dict[str, bytes]) -> None:
    """As a snapshot of a machine does: each file is the same one, with the content of before."""
    for path in trio.data_dir(party).glob("stock.db-*"):
        path.unlink()
    for name, data in files.items():
        (trio.data_dir(party) / name).write_bytes(data)


@pytest.mark.parametrize("party", ["a", "b"])
async def test_a_holder_that_has_forgotten_what_was_used_is_told_by_its_peer(trio: Trio, party: Party) -> None:
    """Either end of the pair, the one that says which ranges are used and the other."""
    await meet_again(trio)
    await query(trio)
    await trio.stop(party)
    files = kept(trio, party)
    await trio.start(party)
    await meet_again(trio)
    for _ in range(2):
        await query(trio)
    await trio.stop(party)
    put_back(trio, party, files)
    await trio.start(party)
    with pytest.raises(IntegrityError, match="has forgotten what was used"):
        await trio[party].stocks.of("ab")
    with pytest.raises(IntegrityError, match="has forgotten what was used"):
        await query(trio)
    # What it says is to be done.
    await trio.stop(party)
    for path in trio.data_dir(party).glob("stock.db*"):
        path.unlink()
    await trio.start(party)
    await meet_again(trio)
    await query(trio)


async def test_what_was_used_is_remembered_over_a_restart_of_the_peer(
    trio: Trio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shelf, "_MARK_AHEAD", dict.fromkeys(STOCK_KINDS, 1))
    await meet_again(trio)
    await trio.stop("b")
    files = kept(trio, "b")
    await trio.start("b")
    await meet_again(trio)
    # What the first has used is noted when the marks are moved for the second.
    for _ in range(2):
        await query(trio)
    await trio.stop("b")
    await trio.stop("a")
    put_back(trio, "b", files)
    await trio.start("a")
    await trio.start("b")
    with pytest.raises(IntegrityError, match="has forgotten what was used"):
        await trio["b"].stocks.of("ab")


async def test_a_generation_that_was_given_up_is_refused_by_the_peers(trio: Trio) -> None:
    await meet_again(trio)
    await trio.stop("b")
    files = kept(trio, "b")
    # A new one, in the same file.
    with closing(StockStore(trio.data_dir("b"), SEED)) as store, store._engine.begin() as connection:
        for table in ("generation", "place", "marks", "current", "checked_blocks"):
            connection.exec_driver_sql(f"DELETE FROM {table}")
    await trio.start("b")
    await meet_again(trio)
    await query(trio)
    await trio.stop("b")
    put_back(trio, "b", files)
    await trio.start("b")
    # It is told so when it comes, and so is whoever asks the others.
    with pytest.raises(IntegrityError, match="is back with a stock that it had given up"):
        await trio["b"].stocks.of("ab")
    trio["a"].stocks.forget("ab")
    with pytest.raises(IntegrityError, match="is back with a stock that it had given up") as caught:
        await trio["a"].stocks.of("ab")
    assert (caught.value.party, caught.value.alternatives) == ("keyholder-b", ("ac",))


async def test_restarts_and_kills_are_no_copies(trio: Trio) -> None:
    for party in ("a", "b", "a"):
        await meet_again(trio)
        await query(trio)
        await trio.stop(party)  # type: ignore[arg-type]
        await trio.start(party)  # type: ignore[arg-type]
    await meet_again(trio)
    await query(trio)


# -- a peer that has another one all the time ------------------------------------------------------------------


def announced(trio: Trio, generation: bytes) -> pb.StockGeneration:
    return pb.StockGeneration(pair="ab", epoch=trio["a"].stocks.introduction("ab").epoch, generation=generation)


def remembered(trio: Trio, party: Party) -> int:
    with closing(sqlite3.connect(trio.data_dir(party) / "stock.db")) as database:
        return int(database.execute("SELECT count(*) FROM peers").fetchone()[0])


async def test_a_peer_that_comes_with_new_stocks_without_end_is_refused_and_leaves_nothing_behind(trio: Trio) -> None:
    stocks, clock = trio["a"].stocks, [1000.0]
    stocks._newcomers = Newcomers(lambda: clock[0])
    before = remembered(trio, "a")
    for number in range(AT_ONCE):
        stocks.met_by("ab", announced(trio, bytes([number]) * 16))
    held = stocks.by_pair["ab"]
    for number in range(AT_ONCE, AT_ONCE + 50):
        with pytest.raises(UnavailableError, match="again and again") as refused:
            stocks.met_by("ab", announced(trio, bytes([number]) * 16))
    assert (refused.value.party, refused.value.alternatives) == ("keyholder-b", ("ac",))
    assert refused.value.retry_after_s == EACH_S
    assert stocks.by_pair["ab"] is held
    assert remembered(trio, "a") == before + AT_ONCE
    # The one that it had still counts, and so does the other peer; later there is another one.
    stocks.met_by("ab", announced(trio, bytes([AT_ONCE - 1]) * 16))
    stocks.met_by("ac", trio["c"].stocks.introduction("ac"))
    clock[0] += EACH_S
    stocks.met_by("ab", announced(trio, bytes([99]) * 16))
    with pytest.raises(UnavailableError):
        stocks.met_by("ab", announced(trio, bytes([100]) * 16))
