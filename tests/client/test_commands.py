"""The command line: exit statuses, JSON on standard output, everything else on standard error."""

from __future__ import annotations

import ast
import base64
import importlib
import json
import os
from collections.abc import Callable
from importlib.metadata import EntryPoint, version
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner, Result

import veilmatch.client.commands
import veilmatch.server.commands
from veilmatch import Client, DeviceSettings
from veilmatch.client.capture.image import load_image
from veilmatch.client.commands.base.application import build_app, register_entry_point
from veilmatch.client.commands.base.options import given_photos
from veilmatch.client.commands.subject import consent_document
from veilmatch.client.wire.connection import request_id
from veilmatch.common import output
from veilmatch.common.hints import hint
from veilmatch.crypto import errors
from veilmatch.crypto.consent import Consent
from veilmatch.crypto.encryption.public_key_format import PublicFile
from veilmatch.crypto.errors import DealtOpeningError, ImageError, UnavailableError, VeilmatchError
from veilmatch.crypto.requests import request_digest
from veilmatch.crypto.sealed_answer import SealedAnswer

from .conftest import FakeCapture
from .fakes import FakeMatchers, body_of
from .test_recipient import BANK, seal

Run = Callable[..., Result]


def named(fakes: FakeMatchers) -> dict[str, str]:
    """What a document says about the last request."""
    return {"request_id": request_id(fakes.a.requests[-1])}


COMMANDS = ("enrol", "verify", "identify", "candidates", "known", "erase", "subjects", "rotate")


@pytest.fixture
def run(settings: DeviceSettings, fakes: FakeMatchers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    def open_client(config: Path, face: str | None = None) -> Client:
        return Client(DeviceSettings.load(config), matchers=fakes.all, capture=FakeCapture())

    for name in COMMANDS:
        module = importlib.import_module(f"veilmatch.client.commands.{name}")
        monkeypatch.setattr(module, "open_client", open_client)
    monkeypatch.chdir(tmp_path)
    for photo in ("1.jpg", "2.jpg", "empty.jpg"):
        (tmp_path / photo).write_text(photo)
    return lambda *args, **options: CliRunner().invoke(build_app(args[0]), list(args), **options)


# -- commands ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("matches", "status"), [(True, 0), (False, 1)])
def test_verify_tells_by_its_exit_status(run: Run, fakes: FakeMatchers, matches: bool, status: int) -> None:
    fakes.looks_like = {"alice"} if matches else set()
    result = run("verify", "alice", "door.jpg")
    assert result.exit_code == status
    assert result.stdout.startswith("match: alice" if matches else "no match: alice")


def test_verify_in_json(run: Run, fakes: FakeMatchers) -> None:
    fakes.looks_like = {"alice"}
    result = run("verify", "alice", "door.jpg", "--json")
    document = json.loads(result.stdout)
    assert result.exit_code == 0 and result.stderr == ""
    assert document["match"] is True and document["pair"] == "ab"
    a, b = (int(share, 16) for share in document["shares"])
    assert (a ^ b) & 1 == 1
    assert set(document["timings"]) == {"device_s", "convert_s", "match_s", "decide_s", "total_s"}


def test_candidates_are_one_a_line(run: Run, fakes: FakeMatchers) -> None:
    fakes.templates, fakes.looks_like = ["alice", "bob", "carol"], {"alice", "carol"}
    result = run("candidates", "door.jpg")
    assert (result.exit_code, result.stdout) == (0, "alice\ncarol\n")
    assert "3 templates" in result.stderr


def test_no_candidate_is_status_one(run: Run, fakes: FakeMatchers) -> None:
    fakes.templates = ["alice"]
    result = run("candidates", "door.jpg", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["subjects"] == []


@pytest.mark.parametrize(("looks_like", "status", "lines"), [({"bob", "carol"}, 0, "bob\n"), (set(), 1, "")])
def test_identify_names_one_or_tells_nobody_by_its_exit_status(
    run: Run, fakes: FakeMatchers, looks_like: set[str], status: int, lines: str
) -> None:
    fakes.templates, fakes.looks_like = ["alice", "bob", "carol"], looks_like
    result = run("identify", "door.jpg")
    assert (result.exit_code, result.stdout) == (status, lines)
    assert "3 templates" in result.stderr and ("nobody" in result.stderr) == (status == 1)


def test_identify_in_json(run: Run, fakes: FakeMatchers) -> None:
    fakes.templates = ["alice", "bob"]
    for subject, status in ((None, 1), ("bob", 0)):
        fakes.looks_like = {subject} if subject else set()
        result = run("identify", "door.jpg", "--threshold", "0.5", "--json")
        document = json.loads(result.stdout)
        assert (result.exit_code, result.stderr) == (status, "")
        assert (document["match"], document["subject"], document["compared"]) == (status == 0, subject, 2)
        assert {"sequence", "pair", "shares", "probe_bytes", "timings"} <= set(document)
        assert document["request_id"] == request_id(fakes.a.requests[-1])


@pytest.mark.parametrize("command", [("verify", "alice"), ("identify",), ("candidates",), ("known",)])
def test_an_answer_for_a_recipient_is_written_and_not_told(
    run: Run, fakes: FakeMatchers, tmp_path: Path, command: tuple[str, ...]
) -> None:
    fakes.templates = ["alice", "bob"]
    fakes.looks_like = {"alice"}
    seal(fakes)
    (tmp_path / "bank.cert").write_bytes(BANK.encode())
    ask = (*command, "door.jpg", "--recipient", "bank.cert", "--challenge", "c0ffee")
    written = run(*ask, "--out", "answer.json")
    assert (written.exit_code, written.stdout) == (0, ""), written.stderr
    assert len(SealedAnswer.decode((tmp_path / "answer.json").read_bytes()).statements) == 2
    assert body_of(fakes.a.requests[-1]).challenge == b"\xc0\xff\xee"
    printed = run(*ask)
    assert SealedAnswer.decode(printed.stdout).statements == ("statement of a", "statement of b")
    document = json.loads(run(*ask, "--json", "--out", "answer.json").stdout)
    assert document == {
        "operation": command[0], "pairs": ["ab"], "requests": [request_digest(fakes.a.requests[-1].body).hex()],
        "file": "answer.json", **named(fakes),
    }  # fmt: skip
    document = json.loads(run(*ask, "--json").stdout)
    assert SealedAnswer.decode(document["answer"]).statements == ("statement of a", "statement of b")


def test_options_of_a_recipient_without_one_are_unusable_input(run: Run, fakes: FakeMatchers, tmp_path: Path) -> None:
    (tmp_path / "bank.cert").write_bytes(BANK.encode())
    for options in (
        ("--out", "answer.json"), ("--challenge", "00"), ("--recipient", "bank.cert", "--challenge", "xyz"),
        ("--recipient", "none.cert"),
    ):  # fmt: skip
        assert run("verify", "alice", "door.jpg", *options).exit_code == 3
    assert fakes.a.requests == []


@pytest.mark.parametrize("command", [["verify", "alice"], ["candidates"], ["identify"], ["known"]])
def test_an_assured_answer_says_so_and_names_three_requests(run: Run, fakes: FakeMatchers, command: list[str]) -> None:
    fakes.templates, fakes.looks_like = ["alice", "bob"], {"alice"}
    for assured in (True, False):
        result = run(*command, "door.jpg", "--json", *(["--assured"] if assured else []))
        document = json.loads(result.stdout)
        assert (result.exit_code, document["assured"]) == (0, assured)
        assert len(set(document["request_ids"])) == (3 if assured else 0)


@pytest.mark.parametrize("command", [["verify", "alice"], ["candidates"], ["identify"], ["known"]])
def test_a_disagreement_has_a_status_of_its_own_and_prints_no_answer(
    run: Run, fakes: FakeMatchers, command: list[str]
) -> None:
    fakes.templates, fakes.looks_like = ["alice", "bob", "carol"], {"alice"}

    def lie(reply: Any) -> Any:
        reply.share = bytes([reply.share[0] ^ 1])
        return reply

    fakes.b.change = lie
    result = run(*command, "door.jpg", "--json", "--assured")
    error = json.loads(result.stdout)["error"]
    assert (result.exit_code, error["code"]) == (13, "disagreement")
    assert set(error["request_ids"]) == {"ab", "ac", "bc"} and "alice" not in result.stdout
    assert "organisations" in run(*command, "door.jpg", "--assured").stderr


def test_enrol_several_photos(run: Run, fakes: FakeMatchers) -> None:
    result = run("enrol", "alice", "1.jpg", "2.jpg", "--json")
    assert result.exit_code == 0
    expected = {"subject": "alice", "templates": 2, "repeated": 0, "sequence": 2} | named(fakes)
    assert json.loads(result.stdout) == expected
    assert "enrolled: bob" in run("enrol", "bob", "1.jpg").stdout
    assert fakes.templates == ["alice", "alice", "bob"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "people"
    for name in (
        "alice.jpg",
        "bob/1.PNG",
        "bob/2.png",
        "e\u0301va.jpeg",
        ".hidden.jpg",
        "bob/Thumbs.db",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


def test_enrol_a_folder(run: Run, fakes: FakeMatchers, folder: Path) -> None:
    result = run("enrol", "--folder", str(folder), "--json")
    assert result.exit_code == 0, result.output
    expected = {"templates": 4, "repeated": 0, "sequence": 1, "skipped": [], "left_out": []} | named(fakes)
    assert json.loads(result.stdout) == expected
    assert fakes.templates == ["alice", "bob", "bob", "\u00e9va"]


def test_folder_with_an_unusable_photo(run: Run, fakes: FakeMatchers, folder: Path) -> None:
    (folder / "empty.jpg").write_text("empty")
    assert run("enrol", "--folder", str(folder)).exit_code == 3
    assert fakes.templates == []
    result = run("enrol", "--folder", str(folder), "--skip-unusable", "--json")
    document = json.loads(result.stdout)
    assert result.exit_code == 3
    assert (document["templates"], document["skipped"][0]["subject"]) == (4, "empty")
    assert document["skipped"][0]["error"]["code"] == "no_face"


def test_a_folder_with_anything_else_enrols_nobody_unless_the_rest_may_be_left_out(
    run: Run, fakes: FakeMatchers, folder: Path
) -> None:
    (folder / "notes.txt").write_text("tall")
    (folder / "bob" / "2024").mkdir()
    (folder / "cyd.HEIC").write_text("a photo")
    refused = run("enrol", "--folder", str(folder), "--json")
    error = json.loads(refused.stdout)["error"]
    assert (refused.exit_code, fakes.templates) == (3, [])
    assert "2 of 7" in error["got"] and "notes.txt: not a photo" in error["got"] and "bob/2024" in error["got"]
    result = run("enrol", "--folder", str(folder), "--skip-unusable", "--json")
    document = json.loads(result.stdout)
    assert (result.exit_code, document["templates"]) == (3, 5)
    assert {entry["path"] for entry in document["left_out"]} == {"notes.txt", "bob/2024"}
    assert "left out: notes.txt: not a photo" in result.stderr
    told = run("enrol", "--folder", str(folder), "--skip-unusable")
    assert told.exit_code == 3 and "(templates: 5, left out: 2)" in told.stdout
    assert "cyd" in fakes.templates


def test_the_same_photos_are_enrolled_once_and_that_is_said(run: Run, fakes: FakeMatchers, folder: Path) -> None:
    assert run("enrol", "alice", "1.jpg").stdout == "enrolled: alice (templates: 1)\n"
    assert run("enrol", "alice", "1.jpg", "2.jpg").stdout == "enrolled: alice (templates: 2, already there: 1)\n"
    again = run("enrol", "alice", "2.jpg", "1.jpg")
    assert (again.exit_code, again.stdout) == (0, "already enrolled: alice (templates: 2)\n")
    assert json.loads(run("enrol", "alice", "1.jpg", "--json").stdout)["repeated"] == 1
    assert fakes.templates == ["alice", "alice"]
    assert run("enrol", "alice", "1.jpg", "--again").stdout == "enrolled: alice (templates: 1)\n"
    assert fakes.templates == ["alice"] * 3
    for said in ("enrolled", "already enrolled"):
        assert run("enrol", "--folder", str(folder)).stdout.startswith(f"{said}: {folder} (templates: 4")
    assert len(fakes.templates) == 7


def test_an_unusable_photo_of_several_is_named(run: Run, fakes: FakeMatchers, folder: Path) -> None:
    error = json.loads(run("enrol", "alice", "1.jpg", "empty.jpg", "--json").stdout)["error"]
    assert error["message"].startswith("alice, photo 2 of 2 (empty.jpg): there is no face")
    (folder / "dan.jpg").write_text("empty")
    error = json.loads(run("enrol", "--folder", str(folder), "--json").stdout)["error"]
    assert error["message"].startswith("dan, photo 4 of 5 (dan.jpg): there is no face")


def test_a_photo_may_come_on_standard_input(run: Run, fakes: FakeMatchers) -> None:
    assert run("enrol", "alice", "-", input=b"1.jpg").stdout == "enrolled: alice (templates: 1)\n"
    assert run("enrol", "alice", "1.jpg").stdout.startswith("already enrolled"), "the same bytes"
    fakes.looks_like = {"alice"}
    assert run("verify", "alice", "-", input=b"photo").exit_code == 0
    assert run("identify", "-", input=b"photo").stdout == "alice\n"
    assert run("candidates", "-", input=b"photo").exit_code == 0
    for args, given in ((("verify", "alice", "-"), b""), (("enrol", "alice", "-", "-"), b"photo")):
        result = run(*args, input=given)
        assert (result.exit_code, "standard input" in result.stderr) == (3, True)


def test_a_photo_may_be_a_data_url_and_is_never_printed(run: Run, fakes: FakeMatchers) -> None:
    photo = base64.b64encode(bytes(range(256)) * 4).decode()
    for given in (f"data:image/jpeg;base64,{photo}", photo):
        for args in (("enrol", "alice", given), ("enrol", given, "1.jpg"), ("verify", "alice", given)):
            for more in ((), ("--json",)):
                assert photo[40:60] not in run(*args, *more).output
    assert fakes.templates == ["alice"], "the data URL, once"
    assert run("enrol", "alice", "-", input=f"data:;base64,{photo}".encode()).stdout.startswith("already enrolled")


def test_both_forms_of_a_name_are_one_subject(run: Run, fakes: FakeMatchers) -> None:
    assert run("enrol", "e\u0301va", "1.jpg").exit_code == 0
    assert run("enrol", "\u00e9va", "1.jpg").stdout.startswith("already enrolled")
    assert fakes.templates == ["\u00e9va"]
    result = run("enrol", "山田\u3000太郎", "1.jpg")
    assert result.exit_code == 3 and "U+3000 IDEOGRAPHIC SPACE" in result.stderr


def test_empty_or_missing_folder_is_unusable_input(run: Run, tmp_path: Path) -> None:
    assert run("enrol", "--folder", str(tmp_path / "none")).exit_code == 3
    (tmp_path / "none").mkdir()
    assert run("enrol", "--folder", str(tmp_path / "none")).exit_code == 3


def test_subjects_and_erase(run: Run, fakes: FakeMatchers) -> None:
    fakes.templates = ["bob", "alice", "bob"]
    assert run("subjects").stdout == "alice\t1\nbob\t2\n"
    document = json.loads(run("erase", "bob", "--json").stdout)
    assert (document["templates"], document["request_id"]) == (2, request_id(fakes.a.requests[-1]))
    document = json.loads(run("subjects", "--json").stdout)
    assert document == {"subjects": [{"subject": "alice", "templates": 1}]} | named(fakes)
    assert run("erase", "alice").stdout.startswith("erased: alice")


def test_rotate_reads_the_new_key_and_names_who_is_empty_now(
    run: Run, fakes: FakeMatchers, settings: DeviceSettings
) -> None:
    fakes.templates = ["bob", "alice", "bob"]
    public = settings.public_key
    key_id = PublicFile.decode(public.read_bytes()).public_key.key_id.hex()
    result = run("rotate", str(public))
    assert result.exit_code == 0 and result.stdout == f"rotated: 3 templates to key {key_id} (empty: 1)\n"
    assert "empty now, its record was no valid vector: eve" in result.stderr
    document = json.loads(run("rotate", str(public), "--json").stdout)
    assert document == {"key_id": key_id, "templates": 3, "sequence": 4, "empty": []} | named(fakes)


def test_rotate_without_a_new_key_is_unusable_input(run: Run, tmp_path: Path) -> None:
    assert run("rotate", str(tmp_path / "none.json")).exit_code == 3
    (tmp_path / "other.json").write_text("{}")
    assert run("rotate", str(tmp_path / "other.json")).exit_code != 0


def test_subject_of_a_server_cannot_steer_the_terminal(run: Run, fakes: FakeMatchers) -> None:
    fakes.templates = ["al\x1b[2Jice"]
    assert run("subjects").stdout == "al?[2Jice\t1\n"


def test_threshold_and_time_out_reach_the_client(run: Run, fakes: FakeMatchers) -> None:
    assert run("verify", "alice", "d.jpg", "--threshold", "2").exit_code == 3
    run("verify", "alice", "d.jpg", "--timeout", "0.5")
    assert fakes.a.timeouts[-1] <= 0.5


def test_configuration_may_be_named_in_the_environment(run: Run, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.toml").write_text((tmp_path / "device.toml").read_text())
    (tmp_path / "device.toml").unlink()
    assert run("subjects").exit_code == 3
    assert run("subjects", env={"VEILMATCH_CONFIG": "elsewhere.toml"}).exit_code == 0
    assert run("subjects", "--config", "elsewhere.toml").exit_code == 0


# -- failures --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        errors.NoFaceError("no face", got=0, expected="one face"),
        errors.RequestRefusedError("not you"),
        errors.GalleryMismatchError("two galleries", got=1, expected=2),
        errors.UnavailableError("gone", party="keyholder-a", alternatives=()),
        errors.IntegrityError("contradiction"),
        errors.ModelError("no model"),
        errors.VeilmatchError("internal"),
    ],
)
def test_exit_status_is_that_of_the_error(run: Run, fakes: FakeMatchers, error: VeilmatchError) -> None:
    def fail(kind: str, request: Any) -> None:
        raise error

    fakes.a.before = fail
    result = run("subjects", "--json")
    assert result.exit_code == error.exit_status >= 3
    told = json.loads(result.stdout)["error"]
    assert (error.fields() | {"hint": hint(error)}).items() <= told.items()
    assert error.message in result.stderr and error.code in result.stderr


def test_a_hint_says_when_to_try_again_if_that_is_known() -> None:
    missing = UnavailableError("the stock has run out", party="keyholder-c", retry_after_s=59.6)
    assert hint(missing) == "Try again in 60 seconds; keyholder-c is missing."
    assert hint(UnavailableError("down", party="keyholder-c")) == "Try again later; keyholder-c is missing."
    assert "key holders" in str(hint(DealtOpeningError("another opening", party="keyholder-b")))


def test_error_without_json_leaves_standard_output_empty(run: Run) -> None:
    result = run("verify", "alice", "empty.jpg")
    assert (result.exit_code, result.stdout) == (3, "")
    assert "hint" in result.stderr and "expected: one face" in result.stderr


def test_a_panel_shows_who_when_and_which_request(
    run: Run, fakes: FakeMatchers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VEILMATCH_PAIRS", '["ab"]')

    def fail(kind: str, request: Any) -> None:
        raise errors.BudgetExceededError(
            "a budget is used up", budget="requests of a device in a day", setting="device_requests.day", limit=7,
            party="keyholder-b", alternatives=("ac",), retry_after_s=7200.0,
        )  # fmt: skip

    fakes.a.before = fail
    told = " ".join(run("subjects").stderr.replace("\u2502", " ").split())
    named = request_id(fakes.a.requests[-1])
    for text in (
        "budget: requests of a device in a day", "party: keyholder-b", "pairs that can do without it: ac",
        "ask again in: 2 hours", f"request: {named}: operators find it in the logs", "<= 7",
        "device_requests.day in [budgets] of keyholder.toml at keyholder-b",
    ):  # fmt: skip
        assert text in told


def test_one_document_only_even_if_an_error_follows_the_result(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("veilmatch.client.commands.subjects")
    printed = module.show_json

    def print_and_fail(document: object, *, done: str) -> None:
        printed(document, done=done)
        raise errors.IntegrityError("after all")

    monkeypatch.setattr(module, "show_json", print_and_fail)
    result = run("subjects", "--json")
    assert result.exit_code == 7 and list(json.loads(result.stdout)) == ["subjects", "request_id"]


def test_markup_in_an_error_is_only_text(run: Run, fakes: FakeMatchers) -> None:
    def fail(kind: str, request: Any) -> None:
        raise UnavailableError("[link=evil]x[/link] [red]", party="matcher-a")

    fakes.a.before = fakes.b.before = fail
    assert "[link=evil]x[/link] [red]" in run("subjects").stderr


@pytest.mark.parametrize(
    "args",
    [
        ["verify", "alice"],
        ["enrol"],
        ["enrol", "alice"],
        ["enrol", "alice", "1.jpg", "--folder", "x"],
        ["enrol", "alice", "1.jpg", "--skip-unusable"],
        ["verify", "alice", "1.jpg", "--threshold", "high"],
        ["no-such-command"],
    ],
)
def test_wrong_usage_is_status_two(run: Run, args: list[str]) -> None:
    result = run(*args)
    assert (result.exit_code, result.stdout) == (2, "")


COMMAND_FILES = [
    path
    for package in (veilmatch.client.commands, veilmatch.server.commands)
    for path in sorted(Path(package.__path__[0]).glob("*.py"))
]


@pytest.mark.parametrize("module", COMMAND_FILES, ids=lambda path: path.stem)
def test_whoever_reads_a_file_says_what_is_wrong_with_it(module: Path) -> None:
    """Not the parser of arguments, for which a file that may not be read is wrong usage."""
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "Annotated":
            kind, option = (ast.unparse(part) for part in node.slice.elts[:2])  # type: ignore[attr-defined]
            assert "Path" not in kind or "readable=False" in option, option


def test_a_configuration_that_may_not_be_read_is_unusable_input(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("os.access", lambda path, mode, **_: False)
    monkeypatch.setattr(Path, "read_bytes", refuse)
    result = run("verify", "alice", "1.jpg", "--json")
    error = json.loads(result.stdout)["error"]
    assert (result.exit_code, error["code"]) == (3, "configuration")
    assert "device.toml: Permission denied" in error["got"] and "this user" in error["hint"]


KEYS = set(VeilmatchError("x").fields()) | {"exit_status", "hint"}


@pytest.mark.parametrize(
    ("args", "says"),
    [(["verify"], "subject"), (["verify", "alice"], "photo"), (["enrol"], "SUBJECT"), (["nope"], "nope")],
)
def test_wrong_usage_in_json_says_what_is_wrong_and_has_the_keys_of_every_error(
    run: Run, args: list[str], says: str
) -> None:
    usage = json.loads(run(*args, "--json").stdout)["error"]
    other = json.loads(run("verify", "alice", "empty.jpg", "--json").stdout)["error"]
    assert says.lower() in usage["message"].lower() and "--help" in usage["hint"]
    assert set(usage) == set(other) == KEYS


@pytest.mark.parametrize(
    "photo",
    [
        base64.b64encode(bytes(range(256)) * 9).decode(),
        base64.encodebytes(bytes(range(256)) * 9).decode(),
        "data:image/jpeg;base64," + base64.b64encode(bytes(60)).decode(),
        "0.25, " * 128,
        bytes(range(128, 256)).decode("latin-1") * 4,
    ],
)
@pytest.mark.parametrize(
    "args",
    [["verify", "alice", "1.jpg"], ["verify", "alice", "1.jpg", "--threshold"], ["subjects"], []],
)
@pytest.mark.parametrize("options", [["--json"], []])
def test_wrong_usage_quotes_no_photo(run: Run, args: list[str], options: list[str], photo: str) -> None:
    for given in ([*args, photo], [*args[:-1], f"{args[-1]}={photo}"] if "--threshold" in args else [f"--{photo}"]):
        result = run(*given[:1], *options, *given[1:])
        assert result.exit_code == 2
        shown = "".join(result.output.split())
        written = "".join(photo.split())
        assert not any(written[place : place + 40] in shown for place in range(len(written) - 40))


def test_wrong_usage_names_what_is_short_and_files_that_are_there(run: Run, tmp_path: Path) -> None:
    long = tmp_path / ("a" * 100)
    long.touch()
    assert "more.jpg" in run("verify", "alice", "1.jpg", "more.jpg").stderr
    assert str(long) in run("verify", "alice", "1.jpg", str(long)).stderr
    photo = base64.b64encode(bytes(range(256))).decode()
    assert f"a text of {len(photo)} characters" in run("verify", "alice", "1.jpg", photo).stderr


def test_unforeseen_error_is_not_taken_for_no_match(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Client, *args: Any, **options: Any) -> None:
        raise RuntimeError("coordinates 1 2 3")

    monkeypatch.setattr(Client, "verify", broken)
    result = run("verify", "alice", "door.jpg", "--json")
    assert result.exit_code == 10
    assert "coordinates" not in result.output and "RuntimeError" in result.stderr
    assert json.loads(result.stdout)["error"]["code"] == "internal"
    assert "coordinates" in run("verify", "alice", "d.jpg", env={output.DEBUG_VARIABLE: "1"}).stderr


def test_interrupt_is_status_130(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: Client, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Client, "subjects", interrupted)
    assert run("subjects").exit_code == 130


# -- the application -------------------------------------------------------------------------------------


def test_version(run: Run) -> None:
    result = run("--version")
    assert (result.exit_code, result.stdout.strip()) == (0, f"veilmatch {version('veilmatch')}")


def test_help_documents_the_exit_statuses(run: Run) -> None:
    text = " ".join(run("--help").stdout.split())
    for status in ("0 success or match", "1 no match", "6 a party is missing", "130 interrupted"):
        assert status in text
    assert all(name in text for name in COMMANDS)


def commands_of(app: typer.Typer) -> dict[str, Any]:
    return typer.main.get_command(app).commands  # type: ignore[attr-defined, no-any-return]


def test_a_command_is_there_without_the_others_and_as_it_is_beside_them() -> None:
    for name, command in commands_of(build_app()).items():
        alone = commands_of(build_app(name))
        assert list(alone) == [name]
        assert alone[name].get_help(typer.Context(alone[name])) == command.get_help(typer.Context(command))


def test_any_other_word_has_all_commands() -> None:
    everything = commands_of(build_app()).keys()
    assert everything >= {*COMMANDS, "matcher", "keyholder"}
    for word in ("--help", "verfy", "_daemon", "base"):
        assert commands_of(build_app(word)).keys() == everything


def _app_with(point: EntryPoint) -> typer.Typer:
    app = build_app()
    register_entry_point(app, point)
    return app


def test_command_of_an_entry_point_is_added(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("extra", "tests.client.test_commands:_register_extra", "veilmatch.commands")
    result = CliRunner().invoke(_app_with(point), ["extra"])
    assert (result.exit_code, result.stdout) == (0, "extra\n")


def _register_extra(app: typer.Typer) -> None:
    @app.command("extra")
    def extra() -> None:
        typer.echo("extra")


def test_command_that_misses_a_library_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "needs_more.py").write_text("import no_such_library\n")
    monkeypatch.syspath_prepend(tmp_path)
    point = EntryPoint("daemon", "needs_more:register", "veilmatch.commands")
    result = CliRunner().invoke(_app_with(point), ["daemon", "--config", "x", "--json"])
    error = json.loads(result.stdout)["error"]
    assert (result.exit_code, error["code"]) == (3, "missing_extra")
    assert error["expected"] == "no_such_library"


def test_a_library_that_is_missed_in_the_middle_of_a_command_names_its_extra() -> None:
    point = EntryPoint("late", "tests.client.test_commands:_register_late", "veilmatch.commands")
    result = CliRunner().invoke(_app_with(point), ["late", "--json"])
    error = json.loads(result.stdout)["error"]
    assert (result.exit_code, error["code"], error["expected"]) == (
        3,
        "missing_extra",
        "pip install 'veilmatch[server]'",
    )


def _register_late(app: typer.Typer) -> None:
    @app.command("late")
    def late(as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
        raise ModuleNotFoundError("No module named 'sqlalchemy.orm'", name="sqlalchemy.orm")


def test_command_of_a_module_that_is_not_there_is_left_out() -> None:
    point = EntryPoint("ghost", "veilmatch.server.commands.ghost:register", "veilmatch.commands")
    assert CliRunner().invoke(_app_with(point), ["ghost"]).exit_code == 2


def test_an_empty_gallery_is_told_to_a_person(run: Run, fakes: FakeMatchers) -> None:
    result = run("subjects")
    assert (result.exit_code, result.stdout) == (0, "") and "nobody is enrolled" in result.stderr
    fakes.templates = ["alice"]
    assert "nobody" not in run("subjects").stderr


def test_the_token_of_an_enrolment_is_told_for_what_it_is(run: Run) -> None:
    error = json.loads(run("erase", "alice", "--enrolment", "xx", "--json").stdout)["error"]
    assert error["got"] == "2 characters, not all of them hexadecimal" and error["expected"] == "32 digits"


# -- what to do ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("photo", ["nowhere.jpg", "folder", "nothing.jpg", "link.jpg", "-"])
def test_where_there_is_no_photo_the_path_is_looked_at_and_not_the_photo(
    run: Run, tmp_path: Path, photo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "nothing.jpg").touch()
    (tmp_path / "link.jpg").symlink_to("nowhere")
    monkeypatch.setattr(FakeCapture, "embed_photo", lambda self, source: load_image(source))
    result = run("verify", "alice", photo, "--json", input=b"")
    error = json.loads(result.stdout)["error"]
    assert (result.exit_code, error["code"]) == (3, "image")
    assert "path right" in error["hint"] and "save it anew" not in error["hint"]


@pytest.mark.parametrize("folder", ["nowhere", "bare"])
def test_where_there_is_no_folder_the_path_is_looked_at(run: Run, tmp_path: Path, folder: str) -> None:
    (tmp_path / "bare").mkdir()
    error = json.loads(run("enrol", "--folder", folder, "--json").stdout)["error"]
    assert "Is the path right?" in error["hint"] or "path right, and" in error["hint"]


def test_without_a_configuration_here_the_folder_of_the_device_is_named(run: Run, tmp_path: Path) -> None:
    (tmp_path / "device.toml").unlink()
    error = json.loads(run("subjects", "--json").stdout)["error"]
    assert error["expected"] == "a device.toml"
    assert all(word in error["hint"] for word in ("folder of the device", "--config", "VEILMATCH_CONFIG"))


def test_a_key_that_is_open_to_others_is_told_with_the_command_that_closes_it(run: Run, tmp_path: Path) -> None:
    (tmp_path / "device.key").chmod(0o644)
    result = run("subjects", "--json")
    error = json.loads(result.stdout)["error"]
    assert (result.exit_code, error["code"]) == (7, "key_file")
    assert f"`chmod 600 {tmp_path / 'device.key'}`" in error["hint"]


@pytest.mark.parametrize("field", ["public_key", "signing_key"])
def test_another_file_in_place_of_a_key_is_named(run: Run, tmp_path: Path, field: str) -> None:
    (tmp_path / "ca.pem").touch(mode=0o600)
    (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----")
    toml = (tmp_path / "device.toml").read_text()
    own = {"public_key": "public.json", "signing_key": "device.key"}[field]
    (tmp_path / "device.toml").write_text(toml.replace(f'{field} = "{own}"', f'{field} = "ca.pem"'))
    error = json.loads(run("subjects", "--json").stdout)["error"]
    assert error["code"] == "key_file" and field in error["hint"]
    assert str(tmp_path / "ca.pem") in json.dumps(error)


def test_a_request_that_reached_nobody_is_not_looked_for_in_logs(run: Run, fakes: FakeMatchers) -> None:
    def fail(kind: str, request: Any) -> None:
        raise UnavailableError("cannot be reached", party="matcher-a")

    for matcher in (fakes.a, fakes.b, fakes.c):
        matcher.state, matcher.comes_back, matcher.before = "down", False, fail
    result = run("verify", "alice", "1.jpg")
    assert result.exit_code == 6 and "logs" not in result.stderr
    fakes.b.state = "up"
    assert "every party that it reached" in " ".join(run("verify", "alice", "1.jpg").stderr.replace("│", "").split())


def test_standard_input_that_says_nothing_is_not_waited_for_for_ever(
    settings: DeviceSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, writing = os.pipe()
    monkeypatch.setattr("veilmatch.client.capture.source.PIPE_PATIENCE_S", 0.1)
    with os.fdopen(reading) as silent, os.fdopen(writing, "wb") as other:
        monkeypatch.setattr("sys.stdin", silent)
        with pytest.raises(ImageError, match="no photo came out of the pipe"):
            given_photos(["-"])
        other.write(b"GIF89a")
        other.close()
        assert given_photos(["-"]) == [b"GIF89a"]


@pytest.mark.parametrize(
    ("end", "shown"), [(0, None), (1_801_353_600, "2027-01-31T00:00:00+00:00"), (1 << 53, f"@{1 << 53}")]
)
def test_a_consent_beyond_all_calendars_keeps_no_list_from_being_read(end: int, shown: str | None) -> None:
    """Servers keep what whoever enrols says of its end: milliseconds, say."""
    assert consent_document(Consent("form-7", "2", end)) == {"reference": "form-7", "version": "2", "expires_at": shown}
