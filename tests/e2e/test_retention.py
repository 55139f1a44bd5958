"""What is kept, under what, and what is left when it is erased: receipts, consents, exports, real daemons."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.e2e.world import World, asked_days_ago, device, running, unit, veilmatch, written
from veilmatch.client.client import Client
from veilmatch.client.config import DeviceSettings
from veilmatch.client.receipt import ErasureReceipt
from veilmatch.client.wire import agreement
from veilmatch.client.wire.agreement import agreed_mutation
from veilmatch.common.public_file import read_public_file
from veilmatch.crypto.consent import Consent
from veilmatch.crypto.digests import digest
from veilmatch.crypto.errors import DeviceRightsError, DuplicateTokenError, InvalidInputError
from veilmatch.crypto.gallery_change import mutation_identity
from veilmatch.crypto.keys.parties import Pair
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.protos.v1 import matcher_pb2

TOY = ParameterSet(modulus_bits=1024)
ADA, BEN, CID = unit(np.random.default_rng(21), 3, TOY.dimension)
#: In no word that a program has of its own.
NAME, REFERENCE = "Zwiebelfisch-7", "Quittenbrot/19"
UNDER = Consent(REFERENCE, "v3", int(time.time()) + 86400)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """An installation of its own: all its files are read in the end. Organisation c keeps everybody."""
    with running(tmp_path_factory.mktemp("kept") / "installation", TOY) as made:
        for party in "ab":
            world_config = made.folder(f"matcher-{party}") / "matcher.toml"
            text, rules = world_config.read_text(), "max_days = 3650\nretention.main.idle_days = 30"
            world_config.write_text(text.replace("\n[", f"\nretention.main.{rules}\n[", 1))
            made.parties.stop(f"matcher-{party}")
        made.restart()
        yield made


def command(world: World, *arguments: str) -> dict[str, Any]:
    done = veilmatch(*arguments, "--config", str(world.device_config))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def test_a_consent_is_kept_with_the_template_at_every_organisation(kept: World) -> None:
    with kept.client() as client:
        client.enrol_embedding(NAME, ADA, model="toy", consent=UNDER, token=b"a token of ours.")
        client.enrol_many_embeddings({"ben": BEN, "cid": CID}, model="toy", consent={"ben": UNDER})
        for pair in ("ab", "ac", "bc"):
            with kept.client(pairs=[pair]) as one:
                entries = {entry.subject: entry for entry in one.templates()}
            assert [entries[name].consent for name in (NAME, "ben", "cid")] == [UNDER, UNDER, None]
            assert set(entries[NAME].asked) == set(pair)
        entry = entries[NAME]
        assert entry.enrolled_at is not None and abs(entry.enrolled_at.timestamp() - time.time()) < 120
        assert client.templates("nobody") == []
        with pytest.raises(DuplicateTokenError):
            client.enrol_embedding(NAME, ADA, model="toy", consent=Consent("other"), token=b"a token of ours.")
        with pytest.raises(InvalidInputError, match="has ended"):
            client.enrol_embedding("dora", ADA, model="toy", consent=Consent("old", "", 1))
    listed = command(kept, "subjects", "--consent", "--json")["templates"]
    assert {one["subject"]: (one["consent"] or {}).get("reference") for one in listed} == {
        NAME: REFERENCE, "ben": REFERENCE, "cid": None,
    }  # fmt: skip


def test_what_is_held_of_a_subject_is_exported(kept: World) -> None:
    (template,) = command(kept, "subject", "export", NAME)["templates"]
    assert template["sequence"] == 1 and template["consent"]["version"] == "v3"
    assert template["record_bytes"] == TOY.lane_ciphertexts * TOY.ciphertext_bytes
    assert set(template["last_asked_for"]) < {"a", "b", "c"}


def test_an_erasure_leaves_a_receipt_and_nothing_that_names_the_subject(kept: World, tmp_path: Path) -> None:
    file = tmp_path / "receipt.json"
    document = command(kept, "erase", NAME, "--receipt", str(file), "--json")
    public = kept.directory / "public.json"
    done = veilmatch("receipt", "check", str(file), "--public", str(public), "--subject", NAME, "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["sequence"], said["templates"]) == (document["sequence"], 1)
    assert veilmatch("receipt", "check", str(file), "--public", str(public), "--subject", "ben").returncode == 7
    ErasureReceipt.decode(file.read_bytes()).check(read_public_file(public), NAME)


def names_of(subject: str, tokens: list[bytes]) -> list[bytes]:
    """Return whatever would tell somebody, who guesses it, that it was this subject: texts, and digests as used."""
    texts = [subject, subject.lower(), subject.encode().hex(), REFERENCE]
    digests = [digest("budget subject", "main", subject), digest("subject", b"", subject)]
    digests += [mutation_identity("device-1", operation, b"", subject) for operation in ("enrol", "erase")]
    forms = [one for raw in [*digests, *tokens] for one in (raw, raw.hex().encode())]
    return [*(text.encode() for text in texts), *forms]


def test_no_file_of_any_party_names_who_was_erased(kept: World) -> None:
    """Databases with their free pages and write-ahead logs, audit logs, logs: read while the daemons run.

    Of tokens servers keep digests: with a token beside it, `request_digest` in the log would confirm a guess.
    """
    enrolled, erased, asked = b"enrolment token.", b"token of erasure", b"token of another"
    with kept.client() as client:
        client.enrol_embedding("Rübenkönig", CID, model="toy", consent=Consent(REFERENCE), token=enrolled)
        client.verify_embedding("Rübenkönig", CID, model="toy")
        client.erase("Rübenkönig", token=erased)
        client.erase("ben", token=asked)
    deadline = time.monotonic() + 30
    while len({kept_sequence(kept, party) for party in "abc"}) > 1:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    names = {raw for subject in ("Rübenkönig", NAME) for raw in names_of(subject, [enrolled, erased])}
    found, read = [], 0
    for file, content in written(kept.directory):
        # What the device keeps of its own is not a server's.
        if "device-1" not in file.relative_to(kept.directory).parts[0]:
            read += 1
            found += [(str(file.relative_to(kept.directory)), name) for name in names if name in content]
    assert not found and read > 50
    # And it would be seen: who is there is named.
    assert any(b"cid" in file.read_bytes() for file in kept.directory.rglob("gallery.db*"))


def kept_sequence(world: World, party: str) -> int:
    from contextlib import closing

    from veilmatch.server.matcher.gallery.disk.database import open_beside
    from veilmatch.server.matcher.gallery.disk.rows import find_gallery

    with closing(open_beside(world.folder(f"matcher-{party}") / "data")) as database, database.reading() as connection:
        return int(find_gallery(connection, "main").sequence)


def test_what_two_organisations_say_is_due_is_erased_and_nothing_that_one_keeps(
    kept: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    replies: list[matcher_pb2.MutateReply] = []

    def agreed(a: matcher_pb2.MutateReply, b: matcher_pb2.MutateReply, pair: Pair) -> matcher_pb2.MutateReply:
        replies.extend((a, b))
        return agreed_mutation(a, b, pair)

    monkeypatch.setattr(agreement, "agreed_mutation", agreed)
    end_s = int(time.time()) + 10
    with kept.client() as client:
        client.enrol_embedding("brief", ADA, model="toy", consent=Consent("short", "", end_s))
    with pytest.raises(DeviceRightsError), kept.client() as client:
        client.retain()
    reaper = reaper_of(kept)
    time.sleep(max(0.0, end_s + 1 - time.time()))
    replies.clear()
    with Client(DeviceSettings.load(reaper).model_copy(update={"pairs": ["ac"]})) as client:
        assert client.retain().templates == 0  # c keeps everybody
    with Client(DeviceSettings.load(reaper).model_copy(update={"pairs": ["ab"]})) as client:
        assert client.retain().templates == 1
        assert client.retain().templates == 0
    # How many, and nothing of the change itself, as one that has erased somebody is given: places, digests.
    fields = {field.name for reply in replies for field, _ in reply.ListFields()}
    assert fields == {"sequence", "chain", "templates"}
    with kept.client(pairs=["ab"]) as client:
        assert {entry.subject for entry in client.templates()} == {"cid"}
    logged = [json.loads(line) for line in kept.log("matcher-a").splitlines() if "templates were due" in line]
    assert [one["consent"] for one in logged] == [1] and "brief" not in json.dumps(logged)
    done = veilmatch("gallery", "retention", "--json", "--config", str(kept.folder("matcher-a") / "matcher.toml"))
    (shown,) = json.loads(done.stdout)["galleries"]
    assert (shown["gallery"], shown["due"]) == ("main", {"consent": 0, "age": 0, "idle": 0})


def test_the_unit_that_a_timer_starts_erases_what_is_due(kept: World) -> None:
    unit = (Path(__file__).parents[2] / "deploy" / "systemd" / "veilmatch-retain.service").read_text()
    (command_line,) = re.findall(r"^ExecStart=/opt/veilmatch/bin/(.*)$", unit, re.M)
    end_s = int(time.time()) + 5
    with kept.client(pairs=["ab"]) as client:
        client.enrol_embedding("brief", ADA, model="toy", consent=Consent("short", "", end_s))
    time.sleep(max(0.0, end_s + 1 - time.time()))
    program = [str(Path(sys.executable).with_name("veilmatch")), *command_line.split()[1:]]
    # Of a unit there is no terminal, and nothing but its folder.
    done = subprocess.run(
        program, cwd=kept.directory / "reaper", stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout.strip()) == (0, "erased what was due (templates: 1)"), done.stderr
    with kept.client(pairs=["ab"]) as client:
        assert client.templates("brief") == []


def test_who_was_not_asked_for_is_erased_when_both_say_so_and_who_was_is_kept(kept: World) -> None:
    """Days go back in the databases of both; the daemons note the rest themselves."""
    with kept.client(pairs=["ab"]) as client:
        for subject, face in (("asked", ADA), ("searched", BEN), ("at one", CID)):
            client.enrol_embedding(subject, face, model="toy")
    desk = DeviceSettings.load(device(kept, "desk", "--right=issue", "--right=present", "--lowest=0"))
    with Client(desk) as client:
        card = client.issue_embedding("asked", ADA, model="toy", days=30)
    for party in "ab":
        kept.parties.stop(f"matcher-{party}")
        everybody = ("asked", "searched") if party == "b" else ("asked", "searched", "at one")
        asked_days_ago(kept.folder(f"matcher-{party}") / "data" / "gallery.db", 31, everybody)
    kept.restart()
    with kept.client(pairs=["ab"]) as client:
        # By a stranger: that somebody asked is what counts. A search names nobody.
        assert not client.verify_embedding("asked", CID, model="toy")
        assert client.identify_embedding(BEN, model="toy").subject == "searched"
    reaper = DeviceSettings.load(kept.directory / "reaper" / "device.toml")
    with Client(reaper.model_copy(update={"pairs": ["ac"]})) as client:
        assert client.retain().templates == 0  # c has no rules
    with Client(reaper.model_copy(update={"pairs": ["ab"]})) as client:
        assert client.retain().templates == 1
    with kept.client(pairs=["ab"]) as client:
        assert {entry.subject for entry in client.templates()} == {"cid", "asked", "at one"}
    # Nobody asked for it in 31 days either; but there is nothing to erase of a card, which has an end of its own.
    with Client(desk) as client:
        assert client.verify_embedding(card, ADA, model="toy")
    for party, due in (("a", 1), ("b", 0), ("c", 0)):
        config = str(kept.folder(f"matcher-{party}") / "matcher.toml")
        done = veilmatch("gallery", "retention", "--names", "--json", "--config", config)
        (shown,) = json.loads(done.stdout)["galleries"]
        assert (shown["due"]["idle"], shown["subjects"]) == (due, ["at one"][:due])


def reaper_of(world: World) -> Path:
    """Add a device that may do nothing but retain; return its configuration."""
    done = veilmatch("device", "issue", str(world.directory), "reaper", "--right", "retain", "--json")
    assert done.returncode == 0, done.stderr
    return Path(json.loads(done.stdout)["directory"]) / "device.toml"
