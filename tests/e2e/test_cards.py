"""Cards over real processes: issued by one pair, compared by any, refused wherever one is not what it says."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image, ImageOps

from tests.e2e.world import (
    EVERYBODY,
    MATCHERS,
    World,
    device,
    integers,
    near,
    running,
    set_budgets,
    unit,
    veilmatch,
    written,
)
from tests.faults.level import wait_level
from veilmatch.client.card import Card
from veilmatch.client.client import Client
from veilmatch.client.config import DeviceSettings
from veilmatch.client.operations import cards
from veilmatch.common.public_file import read_public_file
from veilmatch.crypto.card import SignedCard
from veilmatch.crypto.consent import Consent
from veilmatch.crypto.encryption.paillier import Paillier
from veilmatch.crypto.errors import (
    BudgetExceededError,
    CardError,
    CardExpiredError,
    CardRevokedError,
    DeviceRightsError,
    InvalidInputError,
    LowThresholdError,
    ModelMismatchError,
    UnknownSubjectError,
    VeilmatchError,
)
from veilmatch.crypto.keys.parties import PAIRS
from veilmatch.crypto.parameters import ParameterSet

TOY = ParameterSet(modulus_bits=1024)
ADA, BEN = unit(np.random.default_rng(64), 2, TOY.dimension)
#: In no word that a program has of its own.
NAME = "Zwiebelfisch-7"
#: Of device "strict": a cosine.
LOWEST = 0.9


class Desk(NamedTuple):
    """An installation, and devices of it: what issues and presents, what presents only, what revokes only."""

    world: World
    issues: Path
    presents: Path
    revokes: Path

    def client(self, config: Path | None = None, **changes: object) -> Client:
        return Client(DeviceSettings.load(config or self.issues).model_copy(update=changes))


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """An installation of its own: cards stay in its log, and all its files are read in the end."""
    with running(tmp_path_factory.mktemp("cards") / "installation", TOY) as world:
        rights = [f"--right={right}" for right in ("issue", "present", "enrol", "verify", "erase", "subjects")]
        yield Desk(
            world,
            device(world, "desk", *rights, "--lowest", "0"),
            device(world, "strict", "--right=present", "--lowest", str(LOWEST)),
            device(world, "hotline", "--right=revoke"),
        )


@pytest.fixture(scope="module")
def card(desk: Desk) -> Card:
    """A good card of ADA."""
    with desk.client(pairs=["ab"]) as client:
        return client.issue_embedding(NAME, ADA, model="toy", days=30)


def test_any_pair_compares_a_card_that_any_pair_has_made_as_in_clear(desk: Desk) -> None:
    rng, square = np.random.default_rng(65), TOY.scale**2
    said = []
    for issuing in PAIRS:
        with desk.client(pairs=[issuing]) as client:
            card = client.issue_embedding(NAME, ADA, model="toy", days=1)
        assert "".join(card.organisations) == issuing
        for i, comparing in enumerate(PAIRS):
            probe = near(rng, ADA, (0.3, 2.0, 6.0)[i])
            score = int(integers(ADA, TOY)[0] @ integers(probe, TOY)[0])
            with desk.client(pairs=[comparing]) as client:
                for t in (score, score + 1):
                    result = client.verify_embedding(card, probe, model="toy", threshold=(t - 0.5) / square)
                    assert bool(result) == (score >= t), (issuing, comparing)
                    assert (result.pair, result.subject, len(result.shares)) == (comparing, NAME, 2)
                    said.append(result.decision)
    assert set(said) == {True, False}


def test_nobody_is_enrolled_and_servers_keep_serial_and_digest_alone(desk: Desk, card: Card) -> None:
    with desk.client() as client:
        assert client.subjects() == []
        with pytest.raises(UnknownSubjectError):
            client.verify_embedding(NAME, ADA, model="toy")
        assert client.verify_embedding(card, ADA, model="toy")
        assert client.subjects() == []
    wait_level(desk.world.directory)
    record = card.signed.statement.ciphertexts[0]
    kept = b""
    for party in MATCHERS:
        for file, data in written(desk.world.folder(party)):
            assert record not in data and record.hex().encode() not in data, file
            assert NAME.encode() not in data and card.salt.hex().encode() not in data, file
            kept += data
    assert kept.count(card.serial.encode()) >= len(MATCHERS)
    assert kept.count(card.signed.statement.digest().hex().encode()) >= len(MATCHERS)


def test_assured_answers_are_of_cards_too(desk: Desk, card: Card) -> None:
    with desk.client() as client:
        assured = client.verify_embedding(card, ADA, model="toy", assured=True)
        assert assured and len(assured.request_ids) == 3
        assert not client.verify_embedding(card, BEN, model="toy", assured=True)


def test_a_card_under_a_consent_ends_with_it_and_servers_keep_nothing_of_it(desk: Desk) -> None:
    reference, ends_s = "Quittenbrot-23", int(time.time()) + 86400
    with desk.client() as client:
        card = client.issue_embedding(NAME, ADA, model="toy", days=30, consent=Consent(reference, "v3", ends_s))
        assert card.consent == Consent(reference, "v3", ends_s) and card.expires_at.timestamp() == ends_s
        assert Card.decode(card.encode()) == card
        assert client.verify_embedding(card, ADA, model="toy")
        with pytest.raises(InvalidInputError, match="consent has ended"):
            client.issue_embedding(NAME, ADA, model="toy", days=30, consent=Consent(reference, "v3", 1))
        # A device that does not shorten it is told by the servers.
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cards, "min", lambda expires_s, _: expires_s, raising=False)
            with pytest.raises(InvalidInputError, match="longer than the consent"):
                client.issue_embedding(NAME, ADA, model="toy", days=30, consent=card.consent)
    for party in EVERYBODY:
        for file, data in written(desk.world.folder(party)):
            assert reference.encode() not in data, file


def test_a_card_is_checked_offline(desk: Desk, card: Card) -> None:
    card.check(read_public_file(desk.world.directory / "public.json"))
    with pytest.raises(CardError, match="not signed"):
        altered(card, signatures=card.signed.signatures[::-1]).check(
            read_public_file(desk.world.directory / "public.json")
        )


def altered(card: Card, **changes: object) -> Card:
    """The card with something else in it, and the signatures of before unless they are changed."""
    signatures = changes.pop("signatures", card.signed.signatures)
    return replace(card, signed=SignedCard(replace(card.signed.statement, **changes), signatures))  # type: ignore[arg-type]


def rerandomised(desk: Desk, card: Card) -> bytes:
    """The record of a card as other ciphertexts of the same plaintexts."""
    scheme = Paillier(read_public_file(desk.world.directory / "public.json").public_key)
    return b"".join(
        scheme.serialise(scheme.multiply(c, scheme.encrypt(0)))
        for c in scheme.parse_many(card.signed.statement.ciphertexts)
    )


def test_any_of_several_views_may_be_the_face_of_a_card(desk: Desk, card: Card) -> None:
    """At the very score of the best one, as in clear; it is one presentation of the card."""
    rng = np.random.default_rng(66)
    views = [near(rng, BEN, 0.3), near(rng, ADA, 3.0), near(rng, ADA, 0.5)]
    best = int((integers(ADA, TOY)[0] @ integers(np.array(views), TOY).T).max())
    for pair in PAIRS:
        with desk.client(pairs=[pair]) as client:
            for t in (best, best + 1):
                asking = {"model": "toy", "views": views[1:], "threshold": (t - 0.5) / TOY.scale**2}
                assert bool(client.verify_embedding(card, views[0], **asking)) == (best >= t)  # type: ignore[arg-type]
    with desk.client() as client:
        assert not client.verify_embedding(card, BEN, model="toy", views=[-ADA])
        assert client.verify_embedding(card, BEN, model="toy", views=[ADA], assured=True)


def test_a_card_that_is_not_as_it_was_signed_is_refused(desk: Desk, card: Card) -> None:
    said, (first, second) = card.signed.statement, card.signed.signatures
    broken = bytes([first[0] ^ 1]) + first[1:]
    with desk.client() as client:
        other = client.issue_embedding("ben", BEN, model="toy", days=30)
        for changed in (
            altered(card, record=rerandomised(desk, card)),
            altered(card, record=other.signed.statement.record),
            altered(card, expires_s=said.expires_s + 1),
            altered(card, issued_s=said.issued_s - 1),
            altered(card, serial=other.signed.statement.serial),
            altered(card, pair="bc"),
            altered(card, signatures=(broken, second)),
            altered(card, signatures=(first, first)),
            altered(card, signatures=(first, bytes(64))),
            altered(card, signatures=other.signed.signatures),
        ):
            with pytest.raises(CardError):
                client.verify_embedding(changed, ADA, model="toy")
        with pytest.raises(ModelMismatchError):
            client.verify_embedding(card, ADA, model="another")
        # Again, and as often as budgets allow.
        assert client.verify_embedding(card, ADA, model="toy") and client.verify_embedding(card, ADA, model="toy")


def test_a_card_is_no_probe_and_no_template(desk: Desk, card: Card) -> None:
    """Whoever has a card cannot make a probe of it: nobody knows what its ciphertexts hold."""
    with desk.client() as client:
        encrypting = client._client._device
        known = encrypting._encryptor.lanes(integers(BEN, TOY)[0])
        stolen = replace(known, ciphertexts=tuple(card.signed.statement.ciphertexts))
        encrypting._encryptor.lanes = lambda _: stolen
        for attempt in (
            lambda: client.verify_embedding(card, ADA, model="toy"),
            lambda: client.enrol_embedding("thief", ADA, model="toy"),
            lambda: client.issue_embedding("thief", ADA, model="toy", days=1),
        ):
            with pytest.raises(VeilmatchError) as refused:
                attempt()
            assert refused.value.code == "knowledge_proof"
    with desk.client() as client:
        assert client.subjects() == []


def test_rights_and_lowest_thresholds_are_those_of_cards(desk: Desk, card: Card) -> None:
    with desk.client(desk.presents) as strict:
        assert strict.verify_embedding(card, ADA, model="toy", threshold=LOWEST)
        with pytest.raises(LowThresholdError):
            strict.verify_embedding(card, ADA, model="toy", threshold=LOWEST - 0.1)
        for refused in (
            lambda: strict.verify_embedding(NAME, ADA, model="toy"),
            lambda: strict.issue_embedding("ben", BEN, model="toy", days=1),
            lambda: strict.revoke_card(card.serial),
        ):
            with pytest.raises(DeviceRightsError):
                refused()
    with desk.world.client() as usual, pytest.raises(DeviceRightsError):
        usual.issue_embedding("ben", BEN, model="toy", days=1)


def test_a_revoked_card_is_refused_by_every_pair_and_after_a_restart(desk: Desk) -> None:
    with desk.client(pairs=["ab"]) as client:
        card = client.issue_embedding(NAME, ADA, model="toy", days=30)
        kept = client.issue_embedding(NAME, ADA, model="toy", days=30)
        assert client.verify_embedding(card, ADA, model="toy")
    with desk.client(desk.revokes, pairs=["ac"]) as hotline:
        done = hotline.revoke_card(card.serial)
        assert done.serial == card.serial and hotline.revoke_card(card.serial).sequence == done.sequence
        with pytest.raises(CardError, match="no card with this serial"):
            hotline.revoke_card("00" * 16)
        with pytest.raises(DeviceRightsError):
            hotline.verify_embedding(card, ADA, model="toy")
    for _ in range(2):
        for pair in PAIRS:
            with desk.client(pairs=[pair]) as client:
                with pytest.raises(CardRevokedError):
                    client.verify_embedding(card, ADA, model="toy")
                assert client.verify_embedding(kept, ADA, model="toy")
        for party in MATCHERS:
            desk.world.parties.stop(party)
        desk.world.restart()


def test_a_card_that_was_lost_on_its_way_is_revoked_and_another_one_issued(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first answer is lost: the same request again is told that it was done, and nobody has the record."""
    tokens = [b"a token of cards", b"a token of cards"]
    monkeypatch.setattr(cards, "checked_token", lambda _: tokens.pop(0) if tokens else secrets.token_bytes(16))
    with desk.client() as client:
        # Of another time it would be another request.
        now_s = time.time()
        monkeypatch.setattr(client._client._cards, "_now", lambda: now_s)
        lost = client.issue_embedding(NAME, ADA, model="toy", days=30)
        card = client.issue_embedding(NAME, ADA, model="toy", days=30)
        assert card.serial != lost.serial and not tokens
        assert client.verify_embedding(card, ADA, model="toy")
        with pytest.raises(CardRevokedError):
            client.verify_embedding(lost, ADA, model="toy")


def test_who_issues_revokes_its_own_cards_and_no_others(desk: Desk, card: Card) -> None:
    other = device(desk.world, "counter", "--right=issue")
    with desk.client(other) as counter:
        own = counter.issue_embedding("ben", BEN, model="toy", days=1)
        with pytest.raises(CardError, match="by this device"):
            counter.revoke_card(card.serial)
        counter.revoke_card(own.serial)
    with desk.client() as client, pytest.raises(CardRevokedError):
        client.verify_embedding(own, BEN, model="toy")


def test_an_expired_card_is_refused_and_none_is_good_for_too_long(desk: Desk) -> None:
    with desk.client() as client:
        short = client.issue_embedding(NAME, ADA, model="toy", days=4 / 86400)
        while time.time() < short.expires_at.timestamp():
            time.sleep(0.2)
        with pytest.raises(CardExpiredError):
            client.verify_embedding(short, ADA, model="toy")
        with pytest.raises(VeilmatchError, match="longer than this organisation allows"):
            client.issue_embedding(NAME, ADA, model="toy", days=10_000)


def test_budgets_count_cards_by_their_serials(desk: Desk) -> None:
    for party, limit in (
        ("matcher-b", {"subject_requests": {"day": 2}}),
        ("keyholder-c", {"card_requests": {"day": 2}}),
    ):
        for who in ("matcher-b", "keyholder-c"):
            set_budgets(desk.world.directory, who, **(limit if who == party else {}))
            desk.world.parties.stop(who)
        desk.world.restart()
        with desk.client(pairs=["bc"]) as client:
            card, other = (client.issue_embedding(NAME, ADA, model="toy", days=1) for _ in range(2))
            for _ in range(2):
                assert client.verify_embedding(card, ADA, model="toy")
            with pytest.raises(BudgetExceededError) as refused:
                client.verify_embedding(card, ADA, model="toy")
            assert refused.value.party == party
            assert client.verify_embedding(other, ADA, model="toy")
    for who in ("matcher-b", "keyholder-c"):
        set_budgets(desk.world.directory, who)
        desk.world.parties.stop(who)
    desk.world.restart()


def test_the_command_line_issues_shows_prints_and_compares(
    desk: Desk, orl: Callable[[int, int], Path], tmp_path: Path
) -> None:
    config, card, image = ["--config", str(desk.issues)], tmp_path / "ada.vm", tmp_path / "ada.png"
    issued = veilmatch("issue", "ada", str(orl(1, 1)), "--days", "30", "--out", str(card), *config, "--json",
                       "--consent", "7f3a", "--consent-version", "v3")  # fmt: skip
    assert issued.returncode == 0, issued.stderr
    document = json.loads(issued.stdout)
    assert document["consent"] == {"reference": "7f3a", "version": "v3", "expires_at": None}
    assert document["subject"] == "ada" and document["bytes"] == card.stat().st_size
    shown = veilmatch("card", "show", str(card), "--public", str(desk.world.directory / "public.json"))
    assert shown.returncode == 0 and document["serial"] in shown.stdout, shown.stderr
    assert "under the consent 7f3a v3" in shown.stdout
    assert veilmatch("card", "qr", str(card), str(image)).returncode == 0
    read, text = tmp_path / "read.vm", tmp_path / "ada.txt"
    assert veilmatch("card", "read", str(image), str(read)).returncode == 0
    assert read.read_bytes() == card.read_bytes()
    text.write_text(veilmatch("card", "text", str(card)).stdout)
    for file in (card, read, text):
        assert veilmatch("verify", "--record", str(file), str(orl(1, 9)), *config).returncode == 0
    assert veilmatch("verify", "--record", str(card), str(orl(3, 9)), *config).returncode == 1
    assert veilmatch("verify", "ben", "--record", str(card), str(orl(1, 9)), *config).returncode == 3
    several = ["--record", str(card), str(orl(3, 9)), *config, "--mirror"]
    assert veilmatch("verify", *several).returncode == 1
    assert veilmatch("verify", *several, "--view", str(orl(1, 9))).returncode == 0
    # At a threshold that the mirror image of a mirrored photo reaches, and the photo itself does not.
    mirrored = tmp_path / "mirrored.png"
    ImageOps.mirror(Image.open(orl(1, 1))).save(mirrored)
    only_mirrored = ["--record", str(card), str(mirrored), *config, "--threshold", "0.99"]
    assert veilmatch("verify", *only_mirrored).returncode == 1
    assert veilmatch("verify", *only_mirrored, "--mirror").returncode == 0
    assert veilmatch("card", "revoke", document["serial"], *config).returncode == 0
    revoked = veilmatch("verify", "--record", str(card), str(orl(1, 9)), *config, "--json")
    assert (revoked.returncode, json.loads(revoked.stdout)["error"]["code"]) == (3, "card_revoked")


def test_answers_about_cards_are_sealed_to_a_recipient_who_expects_them(desk: Desk, card: Card, tmp_path: Path) -> None:
    folder, public = tmp_path / "bank", str(desk.world.directory / "public.json")
    file, copies = str(folder / "recipient.cert"), [str(tmp_path / f"for-{party}.cert") for party in "ac"]
    assert veilmatch("recipient", "new", "bank", "--public", public, "--folder", str(folder)).returncode == 0
    for party, copy in zip("ac", copies, strict=True):
        Path(copy).write_bytes(Path(file).read_bytes())
        config = str(desk.world.folder(f"keyholder-{party}") / "keyholder.toml")
        assert veilmatch("recipient", "certify", copy, "--config", config).returncode == 0
    assert veilmatch("recipient", "issue", *copies, "--public", public, "--out", file).returncode == 0
    with desk.client() as client:
        bank = client.for_recipient(file)
        for probe, status in ((ADA, 0), (BEN, 1)):
            answer = folder / "answer.json"
            answer.write_bytes(bank.verify_embedding(card, probe, model="toy").export())
            opening = ["recipient", "open", str(answer), "--folder", str(folder), "--subject", NAME]
            assert veilmatch(*opening).returncode == 7
            assert veilmatch(*opening, "--card").returncode == status
