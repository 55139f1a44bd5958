"""LocalInstallation: real daemons for tests of other programs, and nothing left of them."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from veilmatch import (
    ClientUseError,
    ConfigurationError,
    UnknownSubjectError,
)
from veilmatch.relying import MemorySeen, RecipientKey, Statement, Trust
from veilmatch.testing import LocalInstallation, made_up_embedding

MODEL = "made up"


def test_the_example_of_the_package_is_true(installation: LocalInstallation) -> None:
    with installation.client() as client:
        client.enrol_embedding("ada", made_up_embedding("ada"), model=MODEL)
        assert client.verify_embedding("ada", made_up_embedding("ada", photo=2), model=MODEL)
        assert not client.verify_embedding("ada", made_up_embedding("bob"), model=MODEL)
        assert client.identify_embedding(made_up_embedding("ada", photo=3), model=MODEL).subject == "ada"
        client.erase("ada")


async def test_it_has_clients_for_asyncio_and_settings_of_its_own(installation: LocalInstallation) -> None:
    async with installation.async_client(threshold=0.99) as client:
        await client.enrol_embedding("ada", made_up_embedding("ada"), model=MODEL)
        assert not await client.verify_embedding("ada", made_up_embedding("ada", 2), model=MODEL)
        assert await client.verify_embedding("ada", made_up_embedding("ada", 2), model=MODEL, threshold=0.5)
        await client.erase("ada")
    with pytest.raises(ValueError, match="threshold"):
        installation.settings(threshold=2.0)


def test_real_servers_replace_and_erase_as_the_client_says(installation: LocalInstallation) -> None:
    token = secrets.token_bytes(16)
    old, new = (made_up_embedding(name) for name in ("ada", "the new ada"))
    with installation.client() as client:
        client.enrol_embedding("ada", old, model=MODEL, replace=True, token=token)  # whom nobody has enrolled
        for _ in range(2):
            assert client.enrol_embedding("ada", new, model=MODEL, replace=True, token=token[::-1]).templates == 1
        assert [(entry.subject, entry.templates) for entry in client.subjects()] == [("ada", 1)]
        assert client.verify_embedding("ada", new, model=MODEL)
        assert not client.verify_embedding("ada", old, model=MODEL)
        with pytest.raises(UnknownSubjectError, match="1 of 2 subjects are erased: zoe"):
            client.erase_many(["ada", "zoe"], token=token)
        done = client.erase_many(["ada", "zoe"], token=token, missing_ok=True)
        assert (done.erased, done.unknown) == (("ada",), ("zoe",))
        assert client.subjects() == []


def test_a_recipient_opens_what_the_device_cannot_read(installation: LocalInstallation) -> None:
    folder, challenge = installation.recipient("bank"), secrets.token_bytes(32)
    key = RecipientKey.load(folder / "recipient.key", folder / "recipient.cert")
    with installation.client() as client:
        client.enrol_embedding("ada", made_up_embedding("ada"), model=MODEL)
        bank = client.for_recipient(folder / "recipient.cert")
        sealed = bank.verify_embedding("ada", made_up_embedding("ada", 2), model=MODEL, challenge=challenge)
        client.erase("ada")
    statement = Statement.open(
        sealed.export(), Trust.load(folder / "public.json"), key,
        seen=MemorySeen(), expect_subject="ada", expect_challenge=challenge,
    )  # fmt: skip
    assert statement


def test_what_cannot_start_says_why(installation: LocalInstallation, tmp_path: Path) -> None:
    (tmp_path / "something").touch()
    with pytest.raises(ConfigurationError, match="not empty"):
        LocalInstallation(directory=tmp_path).start()
    with pytest.raises(ClientUseError, match="started already"):
        installation.start()
    stopped = LocalInstallation()
    stopped.stop()
    with pytest.raises(ClientUseError, match="not started"):
        stopped.client()


def test_made_up_people_are_told_apart() -> None:
    people = [made_up_embedding(f"person {number}", photo) for number in range(60) for photo in (1, 2)]
    cosines = [[float(a @ b) for b in people] for a in people]
    same = [cosines[2 * n][2 * n + 1] for n in range(60)]
    others = [cosines[a][b] for a in range(120) for b in range(120) if a // 2 != b // 2]
    assert min(same) > 0.6 and max(others) < 0.40
    assert made_up_embedding("ada").tolist() == made_up_embedding("ada", 1).tolist()
    assert len(made_up_embedding("ada", dimension=512)) == 512
