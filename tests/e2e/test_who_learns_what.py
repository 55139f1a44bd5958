"""Every cell of the table "Who learns what" (docs/limitations.md), as the fields of what each party is sent.

Parties are put together by organisation as well: an organisation has what its matcher and its key holder are sent, and
what it is sent as a dealer. That what it is sent is random given all of that: tests/enumeration, tests/attacks.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.recorder import SUBJECT, Traffic, dealt, parts, recorded, recording, told_of_subjects
from tests.e2e.world import ENVIRONMENT, World, hold_ceremony, settle, supervised, unit, veilmatch
from veilmatch.client.card import Card
from veilmatch.client.client import Client
from veilmatch.client.config import DeviceSettings
from veilmatch.crypto.consent import Consent
from veilmatch.crypto.keys.parties import Pair
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.crypto.requests import ON_CARDS, USUAL_RIGHTS
from veilmatch.server.installation.plan import config_of

PARAMETERS = ParameterSet(modulus_bits=1024)
FACES = unit(np.random.default_rng(61), 4, PARAMETERS.dimension)
NAME = f"{SUBJECT.decode()}-1"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("table") / "recorded"


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[Client]:
    directory = folder.parent / "installation"
    hold_ceremony(directory, PARAMETERS)
    for party in "ab":
        config = config_of(directory, f"matcher-{party}")
        config.write_text(config.read_text().replace("\n[", "\nretention.main.max_days = 3650\n[", 1))
    with supervised(directory, ENVIRONMENT | recording(folder)) as parties:
        parties.start()
        parties.wait_ready()
        world = World(directory, PARAMETERS, parties)
        settle(world)
        rights = [f"--right={right}" for right in (*USUAL_RIGHTS, *ON_CARDS)]
        done = veilmatch("device", "issue", str(directory), "desk", *rights, "--lowest", "0", "--json")
        assert done.returncode == 0, done.stderr
        settings = DeviceSettings.load(Path(json.loads(done.stdout)["directory"]) / "device.toml")
        with Client(settings.model_copy(update={"timeout_s": 60.0})) as client:
            client.enrol_embedding(NAME, FACES[0], model="toy")
            issued = veilmatch("device", "issue", str(directory), "reaper", "--right", "retain", "--json")
            settings = DeviceSettings.load(Path(json.loads(issued.stdout)["directory"]) / "device.toml")
            with Client(settings.model_copy(update={"timeout_s": 60.0})) as device:
                _REAPERS[id(client)] = device
                yield client


#: What was issued.
CARDS: list[Card] = []
OPERATIONS: dict[str, Callable[[Client], object]] = {
    "verify": lambda client: client.verify_embedding(NAME, FACES[0], model="toy"),
    "candidates": lambda client: client.candidates_embedding(FACES[0], model="toy"),
    "identify": lambda client: client.identify_embedding(FACES[3], model="toy"),
    "known": lambda client: client.known_embedding(FACES[0], model="toy"),
    "known, views": lambda client: client.known_embedding(FACES[0], model="toy", views=[FACES[3]]),
    "enrol": lambda client: client.enrol_embedding(f"{NAME}-new", FACES[1], model="toy"),
    "enrol unless known": lambda client: client.enrol_embedding(
        f"{NAME}-again", FACES[0], model="toy", unless_known=True, keep_empty=True
    ),
    "erase": lambda client: client.erase(f"{NAME}-new"),
    "bulk": lambda client: client.enrol_many_embeddings([(f"{NAME}-bulk", FACES[2])], model="toy"),
    "subjects": lambda client: client.subjects(),
    "issue": lambda client: CARDS.append(client.issue_embedding(NAME, FACES[0], model="toy", days=1)),
    "present": lambda client: client.verify_embedding(CARDS[0], FACES[0], model="toy"),
    "revoke": lambda client: client.revoke_card(CARDS[0].serial),
    "details": lambda client: client.templates(),
    "export": lambda client: client.templates(NAME),
    "retain": lambda client: reaper(client).retain(),
}
_REAPERS: dict[int, Client] = {}


def reaper(client: Client) -> Client:
    """A device of the same installation that may do nothing but retain."""
    return _REAPERS[id(client)]


def have_something_due(client: Client) -> None:
    """Enrol somebody under a consent, and wait until that has ended."""
    end_s = int(time.time()) + 3
    client.enrol_embedding(f"{NAME}-brief", FACES[1], model="toy", consent=Consent("brief", "", end_s))
    time.sleep(max(0.0, end_s + 1 - time.time()))


BEFORE: dict[str, Callable[[Client], object]] = {"retain": have_something_due}
SEARCHES, CHANGES = ("candidates", "identify", "known", "known, views"), ("enrol", "erase", "enrol unless known")
QUERIES = ("verify", *SEARCHES)


def of(kind: str, fields: str) -> set[str]:
    return {f"{kind}.{field}" for field in fields.split()}


# Numbers are noted whether they are 0 or not. Which of these values are uniformly random: tests/crypto, tests/attacks.
GALLERY_STATE = "gallery key_id statement certificate known_ballot restored"
#: From the other matcher: which request, whether it refuses it for its time, and the state of its gallery.
MET = of("MatcherMessage.rendezvous", "request_digest refused") | of("MatcherMessage.begin", GALLERY_STATE)
#: Results of its random share of the probe, encrypted afresh.
EXCHANGED = MET | of("MatcherMessage.results", "session_id results last")
#: Its part of a column, committed to before it is shown, and two signatures under a ballot promised before.
TWO_PHASES = MET | of("MatcherMessage.proposed", "vote signature") | of("MatcherMessage.accepted", "vote signature")
COLUMN = of("MatcherMessage.commitment", "session_id digest") | of("MatcherMessage.column", "ciphertexts last")
#: Its organisation's share of the answer; of a search its share of the probe before.
ANSWER_SHARE = of("KeyHolderToMatcher.decision_share", "share count valid_share session_id")
PROBE_AND_ANSWER = of("KeyHolderToMatcher.probe_share", "session_id exponents is_plus") | ANSWER_SHARE
#: Its share of what it stores; of an erasure nobody is told what was valid.
SHARES = of("KeyHolderToMatcher.template_share", "session_id lanes is_plus")
TOLD = {"KeyHolderToMatcher.template_share.valid_share"}
#: What belongs to no request: matchers hear of committed changes, and take what they lack, encrypted as it is stored.
BETWEEN_REQUESTS = ("GalleryNews", "ChangesRequest", "ChangePart", "WatchRequest")
SIGNED, NAMED, ENCRYPTED = "body signature", "subject subject_salt", "ciphertexts"

MATCHER: dict[str, set[str]] = {
    "verify": of("MatchRequest.request", f"{SIGNED} {ENCRYPTED} {NAMED}") | MET | ANSWER_SHARE,
    "candidates": of("MatchRequest.request", f"{SIGNED} {ENCRYPTED}") | EXCHANGED | PROBE_AND_ANSWER,
    "identify": of("MatchRequest.request", f"{SIGNED} {ENCRYPTED}") | EXCHANGED | PROBE_AND_ANSWER,
    "known": of("MatchRequest.request", f"{SIGNED} {ENCRYPTED}") | EXCHANGED | PROBE_AND_ANSWER,
    "known, views": of("MatchRequest.request", f"{SIGNED} {ENCRYPTED}") | EXCHANGED | PROBE_AND_ANSWER,
    "enrol": of("SignedRequest", f"{SIGNED} {ENCRYPTED} {NAMED}") | TWO_PHASES | COLUMN | SHARES | TOLD,
    "erase": of("SignedRequest", f"{SIGNED} {NAMED}") | TWO_PHASES | COLUMN | SHARES,
    # A search and an enrolment, and no share of an answer but beside that of the template.
    "enrol unless known": of("SignedRequest", f"{SIGNED} {ENCRYPTED} {NAMED}")
    | TWO_PHASES
    | EXCHANGED
    | COLUMN
    | SHARES
    | TOLD
    | PROBE_AND_ANSWER - ANSWER_SHARE,
    "bulk": of("BulkChunk.header", SIGNED)
    | of("BulkChunk.pack", "ciphertexts templates.subject templates.record")
    | TWO_PHASES,
    "subjects": of("SignedRequest", SIGNED) | MET,
    # Its part of a record is exchanged like that of a column.
    "issue": of("SignedRequest", f"{SIGNED} {ENCRYPTED} {NAMED}") | TWO_PHASES | COLUMN | SHARES | TOLD,
    "present": of("MatchRequest.request", f"{SIGNED} {ENCRYPTED} {NAMED} card") | MET | ANSWER_SHARE,
    "revoke": of("SignedRequest", SIGNED) | TWO_PHASES,
    "details": of("SignedRequest", SIGNED) | MET,
    "export": of("SignedRequest", f"{SIGNED} {NAMED}") | MET,
    # Nobody is named: a column says which templates the other one calls due, and then an erasure's follow.
    "retain": of("SignedRequest", SIGNED) | TWO_PHASES | COLUMN | SHARES,
}
#: What a device may say of the labels that it knows already.
KNOWN_LABELS = of("MatchRequest", "known_chain known_sequence")

OPENED = of("MatcherToKeyHolder.open", "sequence chain output_bits") | of("MatcherToKeyHolder.open.request", SIGNED)
PAIR = of("PairMessage", "session_id number openings gate_layer") | of(
    "PairMessage.hello",
    "context nonce mask_secret ciphertexts fingerprints triples_floor bits_floor products_floor triples_start "
    # Of each request that was named, whether it goes on at the plus holder: of one alone it always does.
    "bits_start products_start standing",
)
#: What comes after the hello in a search: the results that are converted, and the stock for the answer.
RESULTS_MET = of("PairMessage.agreement", "ciphertexts fingerprints") | of("PairMessage.allocation", "kind start")
#: Coins behind the nonce, and a number that the receiver could compute itself.
PAIR |= of("PairMessage", "coins safety_proof")
#: A seed that the minus holder draws; and what the pair met about.
PAIR |= of("PairMessage", "last_mask") | of("PairMessage.rendezvous", "subject_matter")
PROBE = of("MatcherToKeyHolder.open.request", ENCRYPTED)
RESULTS = of("MatcherToKeyHolder.results", "results wanted packs last")
RECORDS = of("MatcherToKeyHolder.open", "record by_device")

KEY_HOLDER: dict[str, set[str]] = {
    "verify": OPENED | PROBE | RECORDS | PAIR,
    **dict.fromkeys(SEARCHES, OPENED | PROBE | RESULTS | PAIR | RESULTS_MET),
    "enrol": OPENED | PROBE | PAIR,
    "enrol unless known": OPENED | PROBE | RESULTS | PAIR | RESULTS_MET,
    # What the matchers made is converted without any gate.
    "erase": OPENED | RECORDS | PAIR - {"PairMessage.gate_layer"},
    "retain": OPENED | RECORDS | PAIR - {"PairMessage.gate_layer"},
    "bulk": set(),
    "subjects": set(),
    "issue": OPENED | PROBE | PAIR,
    # The record is in the card, and nothing beside it.
    "present": OPENED | PROBE | PAIR | {"MatcherToKeyHolder.open.request.card"},
    "revoke": set(),
    "details": set(),
    "export": set(),
}

ANSWER = of("MatchReply", "sequence chain session_id share count valid_share") | of(
    "MatchReply.timings", "convert_s match_s decide_s"
)
#: All subjects, or those that have changed.
LABELS = {"MatchReply.labels"} | of("MatchReply.difference", "slots subjects")
CHANGED = of("MutateReply", "sequence chain templates valid_share known_share repeated present left")
DETAILS = of("SubjectsReply", "sequence chain") | of(
    "SubjectsReply.templates", "subject pack slot sequence by_device record_bytes terms asked_day"
)
DEVICE: dict[str, set[str]] = {
    "verify": ANSWER,
    "candidates": ANSWER | LABELS,
    "identify": ANSWER | LABELS,
    # Of whom the probe looks like, and of how many there are, nothing.
    "known": ANSWER,
    "known, views": ANSWER,
    # Of a token that it used before, whether that was done and what is left of it.
    **dict.fromkeys((*CHANGES, "bulk"), CHANGED),
    # The change that two organisations have signed, which is a receipt.
    "erase": CHANGED | of("MutateReply.change", "sequence previous_chain body certificate"),
    "issue": CHANGED | of("MutateReply.card", "statement signature serial"),
    "present": ANSWER,
    "revoke": CHANGED,
    "subjects": of("SubjectsReply", "sequence chain subjects.subject subjects.templates"),
    **dict.fromkeys(("details", "export"), DETAILS),
    # How many went and are due still, and nobody's name.
    "retain": CHANGED,
}


@pytest.fixture(scope="module")
def tables(folder: Path, client: Client) -> dict[str, tuple[Traffic, set[tuple[str, str]]]]:
    """What the daemons noted of each operation, and which of their messages named a subject."""
    found = {}
    for name, operation in OPERATIONS.items():
        BEFORE.get(name, lambda _: None)(client)
        time.sleep(0.3)  # what came before has to have ended everywhere
        recorded(folder)
        operation(client)
        time.sleep(0.3)
        told = told_of_subjects(folder)
        found[name] = recorded(folder), told
    return found


def seen(traffic: Traffic, party: str, direction: str) -> set[str]:
    """Fields of the messages that this kind of party receives, or answers to somebody who is not a server."""
    found = set()
    for (who, what), messages in traffic.items():
        way, kind = what.split()
        if kind in BETWEEN_REQUESTS:
            continue
        if who.startswith(party) and way == direction:
            # A turn is one message with those that follow it inside.
            found |= {f"{kind}.{path}".replace(".then.", ".") for message in messages for path in parts(message)}
    return found


@pytest.mark.parametrize("name", OPERATIONS)
def test_matchers_are_sent_this_and_no_more(tables: dict[str, tuple[Traffic, set[tuple[str, str]]]], name: str) -> None:
    assert seen(tables[name][0], "matcher", "receives") - KNOWN_LABELS == MATCHER[name]


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_two_key_holders_are_sent_this_and_no_more(
    tables: dict[str, tuple[Traffic, set[tuple[str, str]]]], name: str
) -> None:
    assert seen(tables[name][0], "keyholder", "receives") == KEY_HOLDER[name]


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_dealer_is_sent_nothing(tables: dict[str, tuple[Traffic, set[tuple[str, str]]]], name: str) -> None:
    assert seen(tables[name][0], "keyholder-c", "receives") == set()


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_device_is_answered_this_and_no_more(
    tables: dict[str, tuple[Traffic, set[tuple[str, str]]]], name: str
) -> None:
    answers = {field for field in seen(tables[name][0], "matcher", "answers") if "MatcherMessage" not in field}
    assert answers - LABELS == DEVICE[name] - LABELS
    assert answers <= DEVICE[name]


def test_key_holders_are_never_told_a_subject(tables: dict[str, tuple[Traffic, set[tuple[str, str]]]]) -> None:
    told = {name: {party for party, _ in named} for name, (_, named) in tables.items()}
    assert all(not any(party.startswith("keyholder") for party in parties) for parties in told.values())
    assert told["verify"] == told["present"] == {"matcher-a", "matcher-b"}
    assert told["revoke"] == set()
    assert all(told[name] >= {"matcher-a", "matcher-b"} for name in ("enrol", "erase"))


def test_retention_names_nobody_and_an_export_is_answered_by_matchers_alone(
    tables: dict[str, tuple[Traffic, set[tuple[str, str]]]],
) -> None:
    assert tables["retain"][1] == set()
    told = {(party.split("-")[0], what) for party, what in tables["export"][1]}
    assert told == {("matcher", "receives SignedRequest"), ("matcher", "answers SubjectsReply")}


def test_a_search_names_nobody_to_a_matcher(tables: dict[str, tuple[Traffic, set[tuple[str, str]]]]) -> None:
    for name in SEARCHES:
        assert not [what for _, what in tables[name][1] if what.startswith("receives")]


# -- by organisation -----------------------------------------------------------------------------------------


#: In each pair: what the organisations are in it. Whoever is not in the pair deals for it.
ROLES: dict[Pair, dict[str, str]] = {
    "ab": {"a": "matcher keyholder", "b": "matcher keyholder", "c": "dealer"},
    "ac": {"a": "matcher keyholder", "b": "dealer", "c": "matcher keyholder"},
    "bc": {"a": "dealer", "b": "matcher keyholder", "c": "matcher keyholder"},
}
_CHANGES = "changes.sequence changes.body changes.certificate changes.more contents.subject contents.data last"
#: What one of the two key holders is sent and the other is not: the minus holder calls and draws seeds, the plus holder
#: allocates stock and says which of the requests go on.
ONLY_TO: dict[int, set[str]] = {
    0: of("PairMessage", "last_mask") | of("PairMessage.rendezvous", "subject_matter"),
    1: of("PairMessage.allocation", "kind start") | of("PairMessage.hello", "standing"),
}
#: What goes from one key holder of a pair to the other, and to nobody else.
BETWEEN_HOLDERS = "PairMessage."
#: A dealer is asked for blocks by their names. Coins and openings of a check are between the holders.
AS_DEALER = of("DealRequest", "pair epoch stock kind first count")


@pytest.fixture(scope="module")
def by_pair(folder: Path, client: Client, tables: object) -> dict[tuple[Pair, str], Traffic]:
    """What the daemons noted of each operation in each pair."""
    found: dict[tuple[Pair, str], Traffic] = {}
    settings = DeviceSettings.load(folder.parent / "installation" / "device-1" / "device.toml")
    for pair in ROLES:
        with Client(settings.model_copy(update={"pairs": [pair], "timeout_s": 60.0})) as device:
            device.verify_embedding(NAME, FACES[0], model="toy")  # both have met about their stock
            for name in (*QUERIES, *CHANGES):
                time.sleep(0.3)
                recorded(folder)
                OPERATIONS[name](device)
                time.sleep(0.3)
                found[pair, name] = recorded(folder)
    return found


def organisation(traffic: Traffic, letter: str) -> set[str]:
    """Fields of everything that the matcher and the key holder of an organisation are sent."""
    return {
        field for party in (f"matcher-{letter}", f"keyholder-{letter}") for field in seen(traffic, party, "receives")
    }


@pytest.mark.parametrize("name", (*QUERIES, *CHANGES))
@pytest.mark.parametrize("pair", ROLES)
def test_an_organisation_is_sent_what_its_roles_say_together_and_no_more(
    by_pair: dict[tuple[Pair, str], Traffic], pair: Pair, name: str
) -> None:
    for letter, roles in ROLES[pair].items():
        expected: set[str] = set()
        expected |= MATCHER[name] if "matcher" in roles else set()
        if "keyholder" in roles:
            expected |= KEY_HOLDER[name] - ONLY_TO[1 - pair.index(letter)]
        # In the first change of a pair the ballot is promised; before it none is known; whoever is behind catches up.
        settled = of("MatcherMessage.promised", GALLERY_STATE) | of("MatcherMessage.changes", _CHANGES)
        settled |= {"MatcherMessage.begin.known_ballot"}
        assert organisation(by_pair[pair, name], letter) - KNOWN_LABELS - settled == expected - settled, letter


@pytest.mark.parametrize("pair", ROLES)
def test_a_dealer_is_sent_nothing_of_a_request_of_its_pair(
    by_pair: dict[tuple[Pair, str], Traffic], pair: Pair
) -> None:
    dealer = next(letter for letter, roles in ROLES[pair].items() if "dealer" in roles)
    for name in (*QUERIES, *CHANGES):
        assert organisation(by_pair[pair, name], dealer) == set()
        for letter in set("abc") - {dealer}:
            assert "PairMessage.hello.mask_secret" in organisation(by_pair[pair, name], letter)


def test_a_dealer_is_asked_for_blocks_by_name_and_told_nothing_of_a_request(
    folder: Path, by_pair: dict[tuple[Pair, str], Traffic]
) -> None:
    sent = dealt(folder)
    for letter in "abc":
        assert {field for field in sent[f"keyholder-{letter}"] if field.startswith("DealRequest")} == AS_DEALER
    for letter in "abc":
        told = {field.split(".")[0] for field in sent.get(f"matcher-{letter}", set())}
        assert not {kind for kind in told - set(BETWEEN_REQUESTS) if not kind.startswith("HealthCheck")}
