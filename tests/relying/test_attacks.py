"""One lying organisation, a device, or a clock against a relying party: what it must not come to."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.relying.stating import (
    CHALLENGE,
    INSTALLATION,
    KEY,
    NOW_S,
    ORGANISATIONS,
    SALT,
    TRUST,
    context,
    pair_states,
    search,
    stated,
    verification,
)
from veilmatch.crypto.answer_share import LIFETIME_S, SealedShare
from veilmatch.crypto.errors import (
    InvalidInputError,
    KeyFileError,
    RecipientCertificateError,
    StatementError,
    StatementReplayedError,
    StatementTimeError,
    VeilmatchError,
)
from veilmatch.crypto.sealed_answer import SealedAnswer
from veilmatch.relying import MemorySeen, RecipientKey, Seen, SqliteSeen, Statement, Trust
from veilmatch.relying.recipient_key import key_file

SKEW_S = 30.0


def opened(
    answer: SealedAnswer, seen: Seen | None = None, now: float = NOW_S, subject: str | None = "alice"
) -> Statement:
    return Statement.open(
        answer, TRUST, KEY, seen=seen, expect_subject=subject, expect_challenge=CHALLENGE, now=now,
        max_clock_skew_s=SKEW_S,
    )  # fmt: skip


class Remembering(MemorySeen):
    """Notes until when it was to remember."""

    def __init__(self) -> None:
        super().__init__()
        self.until: list[float] = []

    def register(self, ids: Sequence[bytes], until_s: float, now_s: float) -> bool:
        self.until.append(until_s)
        return super().register(ids, until_s, now_s)


# -- memory of what was opened ----------------------------------------------------------------------


@pytest.mark.parametrize("lives_s", [LIFETIME_S + 1, 10**9])
def test_a_liar_cannot_have_answers_remembered_for_ever(lives_s: int) -> None:
    """One of the two says so; what is remembered would grow without end, as what both say has expired never does."""
    about = context("b", "ab", expires_at_s=NOW_S + lives_s)
    seen = Remembering()
    with pytest.raises(StatementTimeError):
        opened(SealedAnswer((verification().statements[0], stated(about, b"\0", True)), SALT), seen)
    assert not seen.until


def test_an_answer_is_remembered_as_long_as_any_statement_about_that_request_can_open() -> None:
    """A liar dates its first statement so that it has expired soon, and states the same request again after that."""
    seen = Remembering()
    early = {"issued_at_s": NOW_S - LIFETIME_S - 29, "expires_at_s": NOW_S - 29}
    first = pair_states("ab", 1, at=early)
    assert opened(SealedAnswer(first, SALT), seen)
    later = NOW_S + 60
    again = stated(context("b", "ab", issued_at_s=later, expires_at_s=later + LIFETIME_S), b"\0", True)
    with pytest.raises(StatementReplayedError):
        opened(SealedAnswer((first[0], again), SALT), seen, now=later)
    assert seen.until[0] <= NOW_S + LIFETIME_S + 2 * SKEW_S


@pytest.mark.parametrize("where", ["memory", "file"])
def test_what_was_forgotten_does_not_open_when_a_clock_is_set_back(tmp_path: Path, where: str) -> None:
    seen: Seen = MemorySeen() if where == "memory" else SqliteSeen(tmp_path / "seen.sqlite")
    answer = verification()
    assert opened(answer, seen)
    # Another answer comes much later, so that the first one is forgotten; then the clock is right again.
    day = {"issued_at_s": NOW_S + 86400, "expires_at_s": NOW_S + 86400 + LIFETIME_S}
    assert opened(SealedAnswer(pair_states("ac", 1, at=day, **day), SALT), seen, now=NOW_S + 86400)
    with pytest.raises(StatementReplayedError):
        opened(answer, seen, now=NOW_S + 1)
    if where == "file":
        with pytest.raises(StatementReplayedError):
            opened(answer, SqliteSeen(tmp_path / "seen.sqlite"), now=NOW_S + 1)


def test_a_file_of_before_serves(tmp_path: Path) -> None:
    """It has no note of how far was forgotten yet."""
    path = tmp_path / "seen.sqlite"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE seen (id BLOB PRIMARY KEY, until REAL NOT NULL) WITHOUT ROWID")
        database.execute("INSERT INTO seen VALUES (?, ?)", (b"a" * 32, 100.0))
    database.close()
    seen = SqliteSeen(path)
    assert not seen.register([b"a" * 32], 100, 1)
    assert seen.register([b"b" * 32], 100, 1)


# -- answers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("operation", "bits"), [("identify", 1), ("candidates", 0b10101)])
def test_whoever_sent_no_vector_is_nobody(operation: str, bits: int) -> None:
    """A back end that goes by the names, and not by the decision, must not find any."""
    found = opened(search(operation, bits, valid=False), subject=None)
    assert (bool(found), found.valid, found.subject, found.subjects) == (False, False, None, ())
    found = opened(search(operation, bits), subject=None)
    assert found and (found.subject or found.subjects)


def test_a_subject_that_cannot_be_is_an_error_of_the_tree() -> None:
    """Back ends take names from whoever calls them."""
    for name in ("\ud800", "", "x" * 200, "a\0b"):
        with pytest.raises(InvalidInputError):
            opened(verification(), subject=name)


# -- hostile bytes ---------------------------------------------------------------------------------

#: Encapsulated keys of small order: X25519 with one is zero, whatever the key.
SMALL_ORDER = (bytes(32), b"\1" + bytes(31), bytes.fromhex("ec" + "ff" * 30 + "7f"))


@pytest.mark.parametrize("sealed", [b"", b"x", bytes(31), bytes(32), bytes(48), *(p + bytes(18) for p in SMALL_ORDER)])
def test_whatever_a_liar_seals_is_a_typed_error(sealed: bytes) -> None:
    about = context("b", "ab")
    token = ORGANISATIONS["b"].sign_statement(SealedShare(about, sealed).encode())
    with pytest.raises(StatementError):
        opened(SealedAnswer((verification().statements[0], token), SALT))


DOCUMENTS = {
    "deep list": lambda: "[" * (1 << 20),
    "deep labels": lambda: '{"format":"veilmatch sealed answer 1","salt":"","statements":["x"],"labels":' + "[" * 10**6,
    "long number": lambda: '{"format":' + "9" * (1 << 20) + "}",
    "many keys": lambda: "{" + ",".join(f'"k{n}":0' for n in range(10**5)) + "}",
    "utf-16": lambda: verification().encode().decode().encode("utf-16"),
    "not utf-8": lambda: b'{"format":"\xff"}',
    "infinite": lambda: '{"format":1e999,"salt":"","statements":["x"],"labels":[]}',
    "lone half in a statement": lambda: SealedAnswer(("\ud800",), SALT),
    "dots": lambda: SealedAnswer(("." * 10**6,), SALT),
    "header and dots": lambda: SealedAnswer((verification().statements[0].partition(".")[0] + "." * 10**6,), SALT),
}


@pytest.mark.parametrize("what", DOCUMENTS)
def test_hostile_documents_are_typed_errors(what: str) -> None:
    document = DOCUMENTS[what]()
    with pytest.raises(VeilmatchError):
        Statement.open(document, TRUST, KEY, seen=None, expect_subject="alice", now=NOW_S)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["gallery", "device", "share", "threshold", "request", "pair"])
@pytest.mark.parametrize("value", ['"\\ud800"', "[" * 10**5, "9" * 5000, "1e999", "true", "null", "{}", '"\\u0000"'])
def test_hostile_claims_are_typed_errors(name: str, value: str) -> None:
    """Signed by an organisation that lies: no check of a signature stands before them."""
    claims = json.loads(SealedShare(context("b", "ab"), bytes(50)).encode())
    text = json.dumps(claims | {name: "HERE"}, separators=(",", ":")).replace('"HERE"', value)
    token = ORGANISATIONS["b"].sign_statement(text.encode())
    with pytest.raises(VeilmatchError):
        opened(SealedAnswer((verification().statements[0], token), SALT))


def test_a_claim_twice_is_refused() -> None:
    payload = SealedShare(context("b", "ab"), bytes(50)).encode()
    for twice in (b'{"gallery":"main",' + payload[1:], payload[:-1] + b',"gallery":"main"}'):
        token = ORGANISATIONS["b"].sign_statement(twice)
        with pytest.raises(StatementError):
            opened(SealedAnswer((verification().statements[0], token), SALT))


# -- files -----------------------------------------------------------------------------------------


def endless(path: Path) -> Callable[[], None]:
    """Make a pipe in which zeros do not end; return what ends it."""
    os.mkfifo(path)
    stop = threading.Event()

    def write() -> None:
        try:
            with path.open("wb", buffering=0) as pipe:
                while not stop.is_set():
                    pipe.write(bytes(1 << 16))
        except OSError:
            pass  # the reader has had enough

    thread = threading.Thread(target=write, daemon=True)
    thread.start()

    def end() -> None:
        stop.set()
        thread.join(10)

    return end


@pytest.mark.parametrize("load", [Trust.load, lambda path: RecipientKey.load(path.parent / "key", path)])
def test_files_without_end_are_not_read_to_the_end(tmp_path: Path, load: Callable[[Path], object]) -> None:
    key = tmp_path / "key"
    key.touch(0o600)
    key.write_bytes(key_file(KEY._key))
    end = endless(tmp_path / "file")
    with pytest.raises((KeyFileError, RecipientCertificateError)):
        load(tmp_path / "file")
    end()


def test_installations_are_told_apart() -> None:
    """The same organisations under another installation's name: the ids of requests are not enough."""
    other = replace(TRUST, installation=INSTALLATION[::-1])
    with pytest.raises(VeilmatchError):
        Statement.open(verification(), other, KEY, seen=None, expect_subject="alice", now=NOW_S)
