"""What two organisations have taken back is refused at every server; nothing that one alone says counts."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from structlog.testing import capture_logs

from tests.installation.making import certificate, certifiers, public_file
from veilmatch.crypto.errors import DeviceRightsError, RevocationListError
from veilmatch.crypto.keys.parties import PARTIES
from veilmatch.crypto.keys.revocation_list import MAX_CERTIFICATES, RevocationList, Statement
from veilmatch.server.admission.devices import Devices
from veilmatch.server.revoking.lists import MAX_APART, RevocationLists, file_name, list_files, readings

X, Y, Z = (bytes([number]) * 32 for number in (1, 2, 3))


def signed(signers: str, number: int, *certificates: bytes, **changed: Any) -> RevocationList:
    """Return the list of this number that these organisations have signed."""
    fields = {"installation": public_file().installation} | changed
    made = RevocationList(Statement(number=number, certificates=tuple(sorted(certificates)), **fields))
    for party in PARTIES:
        if party in signers:
            made = certifiers()[party].sign_list(made)
    return made


@pytest.fixture
def lists(tmp_path: Path) -> RevocationLists:
    return RevocationLists(tmp_path, public_file())


def test_a_device_is_refused_once_two_organisations_have_revoked_it(tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    made = certificate("door", key)
    (tmp_path / "door.cert").write_bytes(made.encode())
    lists = RevocationLists(tmp_path / "revoked", public_file())
    devices = Devices(tmp_path, public_file(), lists=lists)
    lists.take_in(signed("a", 1, made.statement.id))
    assert devices.find("door") == made.statement, "one organisation alone"
    assert readings(lists)["half_revoked_certificates"][()] == 1
    lists.take_in(signed("c", 7, X, made.statement.id))
    with pytest.raises(DeviceRightsError, match="two organisations have revoked"):
        devices.find("door")
    found = readings(lists)
    assert (found["revoked_certificates"][()], found["half_revoked_certificates"][()]) == (1, 1), "X is by c alone"
    again = certificate("door", key)
    (tmp_path / "door.cert").write_bytes(again.encode())
    assert devices.find("door") == again.statement, "another certificate of the same device"


def test_one_list_that_two_have_signed_is_enough_and_it_outlives_a_restart(
    lists: RevocationLists, tmp_path: Path
) -> None:
    assert lists.take_in(signed("ab", 1, X))
    assert lists.has(X) and not lists.has(Y)
    after = RevocationLists(tmp_path, public_file())
    assert after.has(X) and (after.count, after.numbers()) == (1, {"a": 1, "b": 1, "c": 0})
    assert not after.take_in(signed("ab", 1, X)), "nothing new"


def test_one_organisation_takes_nothing_back(lists: RevocationLists) -> None:
    lists.take_in(signed("ab", 5, X, Y))
    with capture_logs() as logs:
        lists.take_in(signed("a", 6, Y))
    assert lists.has(X) and lists.has(Y)
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["alert"]
    assert "organisation a has signed a later revocation list that takes back an earlier one" in str(logs)


def test_an_older_list_is_not_taken_over_a_newer_one(lists: RevocationLists, tmp_path: Path) -> None:
    newer = signed("ab", 2, X, Y)
    lists.take_in(newer)
    assert not lists.take_in(signed("ab", 1, X)) and not lists.take_in(signed("b", 1, Y))
    assert lists.lists == (newer,)
    (tmp_path / "put back.list").write_bytes(signed("ab", 1, X).encode())
    assert not lists.look() and lists.lists == (newer,)


def test_two_lists_with_one_number_both_count_with_one_alert(lists: RevocationLists) -> None:
    lists.take_in(signed("ab", 3, X))
    with capture_logs() as logs:
        lists.take_in(signed("ab", 3, Y))
        lists.look()
    assert lists.has(X) and lists.has(Y)
    alerts = [line for line in logs if line["event"] == "alert"]
    assert sorted(line["organisation"] for line in alerts) == ["a", "b"]
    assert all("two revocation lists with one number" in line["reason"] for line in alerts)
    lists.take_in(signed("ab", 4, X, Y))
    assert len(lists.lists) == 1, "the next one has both in it"


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_the_order_in_which_lists_come_is_of_no_account(order: tuple[int, ...], tmp_path: Path) -> None:
    given = [signed("a", 1, X), signed("b", 1, X, Y), signed("bc", 2, X, Y, Z), signed("a", 2, X)]
    lists = RevocationLists(tmp_path, public_file())
    for index in order:
        lists.take_in(given[index])
    assert set(lists.lists) == {given[2], given[3]}
    assert [lists.has(one) for one in (X, Y, Z)] == [True, True, True]
    assert {path.name for path in list_files(tmp_path)} == {file_name(given[2]), file_name(given[3])}


def test_nobody_is_refused_by_what_no_organisation_has_signed(lists: RevocationLists, tmp_path: Path) -> None:
    right = signed("ab", 1, X)
    altered = RevocationList(replace(right.statement, certificates=(Y,)), right.signatures)
    by_another = replace(right, signatures=(("a", right.signatures[0][1]), ("c", right.signatures[1][1])))
    for wrong in (altered, by_another, replace(right, signatures=()), signed("ab", 1, X, installation=b"i" * 16)):
        with pytest.raises(RevocationListError):
            lists.take_in(wrong)
    (tmp_path / "a.list").write_bytes(altered.encode())
    (tmp_path / "b.list").write_bytes(b"nothing")
    (tmp_path / "c.list").mkdir()
    with capture_logs() as logs:
        assert not lists.look() and not lists.look()
    assert len([line for line in logs if line["event"] == "alert"]) == 3, "each is said once"
    assert (lists.count, lists.lists) == (0, ())
    assert lists.take_in(right) and lists.has(X)


def test_a_file_that_an_operator_puts_there_counts_and_one_that_goes_comes_back(
    lists: RevocationLists, tmp_path: Path
) -> None:
    made = signed("ac", 1, X)
    (tmp_path / "brought.list").write_bytes(made.encode())
    assert lists.look() and lists.has(X)
    for path in list_files(tmp_path):
        path.unlink()
    assert not lists.look() and lists.has(X)
    assert [path.name for path in list_files(tmp_path)] == [file_name(made)]
    (tmp_path / file_name(made)).write_bytes(b"damaged")
    assert not lists.look() and (tmp_path / file_name(made)).read_bytes() == made.encode()
    # Another one under a name that was there before.
    (tmp_path / "brought.list").write_bytes(signed("ac", 2, X, Y).encode())
    assert lists.look() and lists.has(Y)


def test_an_organisation_that_contradicts_itself_fills_no_disk_and_hinders_no_other(lists: RevocationLists) -> None:
    for number in range(MAX_APART):
        lists.take_in(signed("a", 1, bytes([number]) * 32))
    with pytest.raises(RevocationListError, match="too many"):
        lists.take_in(signed("a", 1, Z, b"\xff" * 32))
    assert len(lists.lists) == MAX_APART
    lists.take_in(signed("ab", 9, X))
    lists.take_in(signed("bc", 10, X, Y))
    assert lists.has(X) and lists.has(Y)


def test_there_is_one_encoding_of_a_list_and_no_other_is_read() -> None:
    made = signed("ab", 3, X, Y)
    assert RevocationList.decode(made.encode()) == made
    for wrong in (made.encode() + b"\n", made.encode().replace(b'"number": 3', b'"number": 03'), b"", b"[]"):
        with pytest.raises(RevocationListError):
            RevocationList.decode(wrong)
    for number, certificates in ((0, (X,)), (1, ()), (1, (Y, X)), (1, (X, X)), (1, (b"short",))):
        with pytest.raises(RevocationListError):
            Statement(public_file().installation, number, certificates)
    most = tuple(number.to_bytes(32, "big") for number in range(MAX_CERTIFICATES))
    full = signed("abc", 1, *most)
    assert RevocationList.decode(full.encode()) == full
