"""A relying party, a device and real daemons: who learns the answer of a request that names a recipient."""

from __future__ import annotations

import json
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.e2e.recorder import SUBJECT, Traffic, parts, recorded, recording, told_of_subjects
from tests.e2e.world import ENVIRONMENT, World, hold_ceremony, settle, supervised, unit, veilmatch
from veilmatch.client.client import Client
from veilmatch.client.config import DeviceSettings
from veilmatch.client.recipient import ForRecipient, SealedResult
from veilmatch.crypto.errors import (
    DeviceRightsError,
    GalleryMismatchError,
    RecipientCertificateError,
    RecipientRevokedError,
    StatementError,
    StatementMismatchError,
    StatementReplayedError,
    UnknownSubjectError,
)
from veilmatch.crypto.keys.parties import PAIRS, Pair
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.crypto.sealed_answer import SealedAnswer
from veilmatch.relying import Statement
from veilmatch.relying.folder import open_folder

PARAMETERS = ParameterSet(modulus_bits=1024)
FACES = unit(np.random.default_rng(71), 4, PARAMETERS.dimension)
ADA, BOB = f"{SUBJECT.decode()}-ada", f"{SUBJECT.decode()}-bob"
CHALLENGE = b"for this very question"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("recipients")


@pytest.fixture(scope="module")
def world(folder: Path) -> Iterator[World]:
    directory = folder / "installation"
    hold_ceremony(directory, PARAMETERS)
    with supervised(directory, ENVIRONMENT | recording(folder / "recorded")) as parties:
        parties.start()
        parties.wait_ready()
        made = World(directory, PARAMETERS, parties)
        settle(made)
        with made.client(timeout_s=60.0) as client:
            client.enrol_embedding(ADA, FACES[0], model="toy")
            client.enrol_embedding(BOB, FACES[1], model="toy")
        for pair in PAIRS:
            follows(made, pair)
        yield made


def follows(world: World, pair: Pair) -> None:
    """Wait until both matchers of a pair have what another pair has stored: the third follows in the background."""
    ends = time.monotonic() + 20
    with world.client(pairs=[pair], timeout_s=60.0) as client:
        while True:
            try:
                client.verify_embedding(BOB, FACES[1], model="toy")
                return
            except (UnknownSubjectError, GalleryMismatchError):
                assert time.monotonic() < ends, f"pair {pair} has no copy of the gallery"
                time.sleep(0.2)


def keyholder_config(world: World, party: str) -> Path:
    return next(p for p in world.directory.rglob("keyholder.toml") if load_party(p) == party)


def load_party(path: Path) -> str:
    return str(tomllib.loads(path.read_text())["party"])


def done(*arguments: object) -> Any:
    """Run a command; its JSON."""
    result = veilmatch(*map(str, arguments), "--json")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def bank(world: World, folder: Path) -> Path:
    """The folder of a relying party, certified by two organisations, each at a copy of the request."""
    place, public = folder / "bank", world.directory / "public.json"
    made = done("recipient", "new", "bank", "--public", public, "--folder", place)
    assert made["organisations"] == [] and made["file"] == str(place / "recipient.cert")
    copies = []
    for party in "ac":
        copy = folder / f"for-{party}.cert"
        copy.write_bytes((place / "recipient.cert").read_bytes())
        signed = done("recipient", "certify", copy, "--config", keyholder_config(world, party))
        assert signed["organisations"] == [party] and signed["public_key"] == made["public_key"]
        copies.append(copy)
    joined = done("recipient", "issue", *copies, "--public", public, "--out", place / "recipient.cert")
    assert joined["organisations"] == ["a", "c"]
    return place


@pytest.fixture(scope="module")
def client(world: World) -> Iterator[Client]:
    with world.client(timeout_s=60.0) as made:
        yield made


def opened(answer: SealedAnswer, bank: Path, subject: str | None = None) -> Statement:
    trust, key, seen = open_folder(bank)
    return Statement.open(answer, trust, key, seen=seen, expect_subject=subject, expect_challenge=CHALLENGE)


# -- the back end learns it ---------------------------------------------------------------------------


@pytest.mark.parametrize("pair", PAIRS)
def test_the_back_end_learns_the_answer_of_each_pair(world: World, bank: Path, pair: Pair) -> None:
    with world.client(pairs=[pair], timeout_s=60.0) as client:
        recipient = client.for_recipient(bank / "recipient.cert")
        for subject, face, match in ((ADA, 0, True), (ADA, 1, False), (BOB, 1, True)):
            result = recipient.verify_embedding(subject, FACES[face], model="toy", challenge=CHALLENGE)
            found = opened(result.answer, bank, subject)
            assert bool(found) is match and found.valid and found.pairs == (pair,) == result.pairs
            assert (found.device, found.requests, found.challenge) == ("device-1", result.requests, CHALLENGE)
        result = recipient.identify_embedding(FACES[1], model="toy", challenge=CHALLENGE)
        assert opened(result.answer, bank).subject == BOB
        result = recipient.identify_embedding(FACES[3], model="toy", challenge=CHALLENGE)
        assert opened(result.answer, bank).subject is None
        result = recipient.candidates_embedding(FACES[0], model="toy", challenge=CHALLENGE)
        assert opened(result.answer, bank).subjects == (ADA,)


def test_all_three_pairs_make_an_assured_answer(client: Client, bank: Path) -> None:
    recipient = client.for_recipient(bank / "recipient.cert")
    for face, match in ((0, True), (1, False)):
        result = recipient.verify_embedding(ADA, FACES[face], model="toy", challenge=CHALLENGE, assured=True)
        trust, key, seen = open_folder(bank)
        found = Statement.open(result.answer, trust, key, seen=seen, expect_subject=ADA, assured=True)
        assert bool(found) is match and found.pairs == PAIRS
    result = recipient.candidates_embedding(FACES[1], model="toy", challenge=CHALLENGE, assured=True)
    assert opened(result.answer, bank).subjects == (BOB,)


def test_several_views_are_stated_and_count_where_they_are_allowed(client: Client, bank: Path, folder: Path) -> None:
    """The face is in the last view alone: without it, nobody matches."""
    recipient = client.for_recipient(bank / "recipient.cert")
    asking: dict[str, Any] = {"model": "toy", "views": [FACES[3], FACES[0]], "challenge": CHALLENGE}
    path = folder / "views.json"
    path.write_bytes(recipient.verify_embedding(ADA, FACES[2], **asking).export())
    ask = ("recipient", "open", str(path), "--folder", str(bank), "--subject", ADA, "--json")
    for most in ([], ["--views", "2"]):
        assert json.loads(veilmatch(*ask, *most).stdout)["error"]["code"] == "statement_mismatch"
    document = json.loads(veilmatch(*ask, "--views", "4").stdout)
    assert (document["match"], document["views"]) == (True, 3)
    trust, key, seen = open_folder(bank)
    for result, subjects in (
        (recipient.candidates_embedding(FACES[1], **asking), (ADA, BOB)),
        (recipient.candidates_embedding(FACES[2], **asking | {"views": [FACES[3]]}), ()),
        (recipient.identify_embedding(FACES[2], **asking | {"assured": True}), (ADA,)),
    ):
        found = Statement.open(result.answer, trust, key, seen=seen, max_views=4)
        assert set(found.subjects or filter(None, [found.subject])) == set(subjects) and found.views > 1


def test_the_command_opens_it_once(world: World, client: Client, bank: Path, folder: Path) -> None:
    path = folder / "answer.json"
    for face, status in ((0, 0), (1, 1)):
        result = client.for_recipient(bank / "recipient.cert").verify_embedding(
            ADA, FACES[face], model="toy", challenge=CHALLENGE
        )
        path.write_bytes(result.export())
        ask = ("recipient", "open", str(path), "--folder", str(bank), "--challenge", CHALLENGE.hex())
        refused = veilmatch(*ask, "--subject", BOB, "--json")
        assert refused.returncode == 7 and json.loads(refused.stdout)["error"]["code"] == "statement_mismatch"
        said = veilmatch(*ask, "--subject", ADA, "--json")
        assert said.returncode == status, said.stderr
        document = json.loads(said.stdout)
        assert (document["match"], document["subject"], document["operation"]) == (status == 0, ADA, "verify")
        again = veilmatch(*ask, "--subject", ADA, "--json")
        assert again.returncode == 7 and json.loads(again.stdout)["error"]["code"] == "statement_replayed"


def test_an_answer_counts_for_its_question_only(client: Client, bank: Path) -> None:
    recipient = client.for_recipient(bank / "recipient.cert")
    first, second = (
        recipient.verify_embedding(ADA, FACES[0], model="toy", challenge=challenge).answer
        for challenge in (CHALLENGE, b"another")
    )
    with pytest.raises(StatementMismatchError, match="another challenge"):
        opened(second, bank, ADA)
    with pytest.raises(StatementMismatchError, match="another subject"):
        opened(first, bank, BOB)
    mixed = SealedAnswer((first.statements[0], second.statements[1]), first.salt)
    with pytest.raises(StatementMismatchError, match="do not belong together"):
        opened(mixed, bank, ADA)
    with pytest.raises(StatementError, match="missing"):
        opened(SealedAnswer(first.statements[:1], first.salt), bank, ADA)
    assert opened(first, bank, ADA)
    with pytest.raises(StatementReplayedError):
        opened(first, bank, ADA)


def test_another_recipient_learns_nothing_of_it(world: World, client: Client, bank: Path, folder: Path) -> None:
    other = folder / "other"
    done("recipient", "new", "other", "--public", world.directory / "public.json", "--folder", other)
    for party in "bc":
        done("recipient", "certify", other / "recipient.cert", "--config", keyholder_config(world, party))
    answer = client.for_recipient(bank / "recipient.cert").verify_embedding(
        ADA, FACES[0], model="toy", challenge=CHALLENGE
    )
    with pytest.raises(StatementMismatchError, match="another recipient"):
        opened(answer.answer, other, ADA)


def test_servers_seal_to_nobody_that_one_organisation_alone_certified(
    world: World, client: Client, folder: Path
) -> None:
    place = folder / "alone"
    done("recipient", "new", "alone", "--public", world.directory / "public.json", "--folder", place)
    path = place / "recipient.cert"
    done("recipient", "certify", path, "--config", keyholder_config(world, "b"))
    with pytest.raises(RecipientCertificateError, match="too few"):
        client.for_recipient(path)
    # A device that does not look: the same signature in two places.
    document = json.loads(path.read_text())
    document["signatures"] = {"a": document["signatures"]["b"], "b": document["signatures"]["b"]}
    path.write_text(json.dumps(document, indent=1) + "\n")
    with pytest.raises(RecipientCertificateError, match="not that of its organisation"):
        client.for_recipient(path).verify_embedding(ADA, FACES[0], model="toy")


def test_a_recipient_is_revoked_without_a_restart(world: World, client: Client, bank: Path, folder: Path) -> None:
    place, installation = folder / "shop", world.directory
    done("recipient", "new", "shop", "--public", installation / "public.json", "--folder", place)
    for party in "bc":
        made = done("recipient", "certify", place / "recipient.cert", "--config", keyholder_config(world, party))
    certificate = place / "recipient.cert"

    def ask(pair: Pair) -> SealedResult:
        with world.client(pairs=[pair], timeout_s=60.0) as one:
            return one.for_recipient(certificate).verify_embedding(ADA, FACES[0], model="toy")

    for daemon, pair in (("matcher-a", "ab"), ("keyholder-c", "bc")):
        assert ask(pair).pairs == (pair,)
        said = done("recipient", "revoke", certificate, "--folder", world.folder(daemon))
        assert (said["recipient"], said["id"], said["daemons"]) == ("shop", made["id"], [daemon])
        with pytest.raises(RecipientRevokedError) as caught:
            ask(pair)
        assert (caught.value.got, caught.value.party) == ("shop", daemon)
    (listed,) = done("recipient", "revoked", "--installation", installation)["revoked"]
    assert (listed["recipient"], listed["id"], listed["daemons"]) == ("shop", made["id"], ["matcher-a", "keyholder-c"])
    assert client.for_recipient(bank / "recipient.cert").verify_embedding(ADA, FACES[0], model="toy").pairs
    # By the id alone, as an audit log has it; what is known already stays.
    everywhere = done("recipient", "revoke", made["id"].upper(), "--installation", installation)
    assert len(everywhere["daemons"]) == 6
    (listed,) = done("recipient", "revoked", "--installation", installation)["revoked"]
    assert listed["recipient"] == "shop" and listed["daemons"] == everywhere["daemons"]
    shown = done("audit", "show", world.folder("keyholder-b") / "data", "--recipient", "shop")["entries"]
    assert {entry["recipient_id"] for entry in shown} == {made["id"]}
    for pair in PAIRS:
        with pytest.raises(RecipientRevokedError):
            ask(pair)


def test_matchers_refuse_a_device_for_a_recipient_only_that_asks_for_itself(world: World, bank: Path) -> None:
    made = done("device", "issue", world.directory, "till", "--right", "verify", "--recipient-only")
    settings = DeviceSettings.load(Path(made["directory"]) / "device.toml").model_copy(update={"timeout_s": 60.0})
    with Client(settings.model_copy(update={"certificate": None})) as unaware:
        with pytest.raises(DeviceRightsError, match="for a recipient only") as caught:
            unaware.verify_embedding(ADA, FACES[0], model="toy")
        assert (caught.value.party or "").startswith("matcher-") and caught.value.said_by
    with Client(settings) as till:
        for ask in (till.verify_embedding, till.for_recipient(bank / "recipient.cert").identify_embedding):
            arguments = (ADA, FACES[0]) if ask == till.verify_embedding else (FACES[0],)
            with pytest.raises(DeviceRightsError):
                ask(*arguments, model="toy")
        result = till.for_recipient(bank / "recipient.cert").verify_embedding(
            ADA, FACES[0], model="toy", challenge=CHALLENGE
        )
    assert opened(result.answer, bank, ADA).device == "till"


def test_an_organisation_signs_once_and_for_its_installation(world: World, bank: Path) -> None:
    again = veilmatch(
        "recipient", "certify", str(bank / "recipient.cert"), "--config", str(keyholder_config(world, "a")), "--json"
    )
    assert again.returncode == 3 and "signed already" in json.loads(again.stdout)["error"]["message"]


def test_an_unknown_subject_is_told_as_ever(client: Client, bank: Path) -> None:
    with pytest.raises(UnknownSubjectError):
        client.for_recipient(bank / "recipient.cert").verify_embedding("nobody", FACES[0], model="toy")


# -- nobody else does ---------------------------------------------------------------------------------


def of(kind: str, fields: str) -> set[str]:
    return {f"{kind}.{field}" for field in fields.split()}


ASK: dict[str, Callable[[ForRecipient], SealedResult]] = {
    "verify": lambda bank: bank.verify_embedding(ADA, FACES[0], model="toy", challenge=CHALLENGE),
    "candidates": lambda bank: bank.candidates_embedding(FACES[0], model="toy", challenge=CHALLENGE),
    "identify": lambda bank: bank.identify_embedding(FACES[0], model="toy", challenge=CHALLENGE),
}


@pytest.fixture(scope="module")
def traffic(client: Client, bank: Path, folder: Path) -> dict[str, tuple[Traffic, set[tuple[str, str]], SealedResult]]:
    """What the daemons noted of each operation, which messages named a subject, and what the device got."""
    found = {}
    for name, ask in ASK.items():
        time.sleep(0.3)
        recorded(folder / "recorded")
        result = ask(client.for_recipient(bank / "recipient.cert"))
        time.sleep(0.3)
        told = told_of_subjects(folder / "recorded")
        found[name] = recorded(folder / "recorded"), told, result
    return found


def seen(traffic: Traffic, party: str, direction: str, kind: str) -> set[str]:
    """Fields of the messages of this kind that this kind of party receives or answers."""
    return {
        f"{kind}.{path}"
        for (who, what), messages in traffic.items()
        if who.startswith(party) and what == f"{direction} {kind}"
        for message in messages
        for path in parts(message)
    }


@pytest.mark.parametrize("name", ASK)
def test_matchers_and_device_are_given_sealed_shares_only(traffic: Any, name: str) -> None:
    noted = traffic[name][0]
    probe = "probe_share.session_id probe_share.exponents probe_share.is_plus " if name != "verify" else ""
    assert seen(noted, "matcher", "receives", "KeyHolderToMatcher") == of(
        "KeyHolderToMatcher", f"{probe}sealed_share.statement sealed_share.count sealed_share.session_id"
    )
    # A number is noted whether it is 0 or not; the device refuses a `valid_share` that is not False.
    assert seen(noted, "matcher", "answers", "MatchReply") - of("MatchReply", "labels valid_share") == of(
        "MatchReply", "sequence chain session_id count statement timings.convert_s timings.match_s timings.decide_s"
    )


@pytest.mark.parametrize("name", ASK)
def test_key_holders_are_told_of_subjects_by_digests_only(traffic: Any, name: str) -> None:
    noted, told, _ = traffic[name]
    search = of("MatcherToKeyHolder.open", "labels_digest") | of(
        "MatcherToKeyHolder.results", "results wanted packs last"
    )
    records = of("MatcherToKeyHolder.open", "record by_device")
    assert seen(noted, "keyholder", "receives", "MatcherToKeyHolder") == of(
        "MatcherToKeyHolder.open", "sequence chain output_bits request.body request.signature request.ciphertexts"
        " request.recipient_certificate",
    ) | (records if name == "verify" else search)  # fmt: skip
    assert told and all(party.startswith("matcher") for party, _ in told)


@pytest.mark.parametrize("name", ASK)
def test_what_the_device_carries_is_of_one_size_whatever_the_answer(
    client: Client, bank: Path, traffic: Any, name: str
) -> None:
    """Times are numbers of ten digits; all else has its size of the question."""
    asked: dict[str, Callable[[ForRecipient], SealedResult]] = {
        "verify": lambda to: to.verify_embedding(ADA, FACES[3], model="toy", challenge=CHALLENGE),
        "candidates": lambda to: to.candidates_embedding(FACES[3], model="toy", challenge=CHALLENGE),
        "identify": lambda to: to.identify_embedding(FACES[3], model="toy", challenge=CHALLENGE),
    }
    no = asked[name](client.for_recipient(bank / "recipient.cert"))
    assert len(no.export()) == len(traffic[name][2].export())
