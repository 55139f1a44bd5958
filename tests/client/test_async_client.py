"""AsyncClient against two fake matchers: results, retries, tokens, time, closing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from veilmatch import AsyncClient, DeviceSettings
from veilmatch.client.capture.quantiser import quantise
from veilmatch.client.operations.changes import BULK_PACK_S, ROTATION_STEP_S
from veilmatch.client.results import Candidates, Enrolment, IdentifyResult, Rotation, SubjectEntry, Verification
from veilmatch.client.wire.connection import request_id
from veilmatch.client.wire.signing import new_token
from veilmatch.crypto.errors import (
    ClientUseError,
    ConfigurationError,
    EmbeddingError,
    GalleryMismatchError,
    IntegrityError,
    InvalidInputError,
    KeyFileError,
    KeyMismatchError,
    ModelMismatchError,
    NoFaceError,
    ParameterError,
    RequestRefusedError,
    ServerDeviationError,
    UnavailableError,
    VeilmatchError,
)
from veilmatch.crypto.packing import lanes
from veilmatch.crypto.requests import request_digest
from veilmatch.protos.v1 import matcher_pb2, request_pb2

from .conftest import PARAMETERS, FakeCapture, face, faces
from .fakes import FakeMatchers, body_of

NEW_KEY_ID = b"key to rotate to"


def fail_pairs(*failing: str, alternatives: tuple[str, ...] = ("ab", "ac", "bc")) -> Callable[[str, Any], None]:
    def before(kind: str, signed: Any) -> None:
        if body_of(signed).pair in failing:
            raise UnavailableError("out of stock", party="keyholder-a", alternatives=alternatives)

    return before


# -- results ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("matches", [True, False])
async def test_verification_is_true_only_for_a_match(client: AsyncClient, fakes: FakeMatchers, matches: bool) -> None:
    fakes.looks_like = {"alice"} if matches else set()
    result = await client.verify_embedding("alice", face(1), model="toy")
    assert (result.decision, bool(result)) == (matches, matches)
    assert (result.subject, result.pair, len(result.shares)) == ("alice", "ab", 2)
    assert result.probe_bytes == fakes.a.requests[0].ByteSize()


async def test_timings_are_those_of_the_slower_matcher(client: AsyncClient) -> None:
    t = (await client.verify_embedding("alice", face(1), model="toy")).timings
    assert (t.convert_s, t.match_s, t.decide_s) == (1.1, 0.2, 0.3)
    assert 0 < t.device_s < t.total_s < 5


async def test_both_matchers_get_the_very_same_request(client: AsyncClient, fakes: FakeMatchers) -> None:
    await client.verify_embedding("alice", face(1), model="toy")
    await client.candidates_embedding(face(1), model="toy")
    await client.identify_embedding(face(1), model="toy")
    assert fakes.a.requests == fakes.b.requests


async def test_request_holds_the_encrypted_probe(
    client: AsyncClient, fakes: FakeMatchers, decrypt: Callable[[bytes], list[Any]]
) -> None:
    await client.verify_embedding("alice", face(1), model="toy")
    sent = decrypt(b"".join(fakes.a.requests[0].ciphertexts))
    assert sent == lanes.pack(quantise(face(1), PARAMETERS), PARAMETERS)


async def test_threshold_of_a_call_goes_before_that_of_the_settings(client: AsyncClient, fakes: FakeMatchers) -> None:
    await client.verify_embedding("alice", face(1), model="toy")
    await client.verify_embedding("alice", face(1), model="toy", threshold=0.25)
    assert [body_of(r).threshold for r in fakes.a.requests] == [200, 100]


async def test_candidates_are_subjects_once_each(client: AsyncClient, fakes: FakeMatchers) -> None:
    fakes.templates, fakes.looks_like = ["alice", "bob", "alice", "carol"], {"alice", "carol"}
    result = await client.candidates_embedding(face(1), model="toy")
    assert (result.subjects, result.compared) == (("alice", "carol"), 4)
    assert (list(result), len(result), bool(result)) == (["alice", "carol"], 2, True)


async def test_nobody_found_is_false(client: AsyncClient, fakes: FakeMatchers) -> None:
    fakes.templates = ["alice"]
    assert not await client.candidates_embedding(face(1), model="toy")


@pytest.mark.parametrize(
    ("looks_like", "subject"), [({"alice"}, "alice"), ({"carol", "bob"}, "bob"), ({"carol"}, "carol"), ((), None)]
)
async def test_identification_is_one_subject_or_nobody(
    client: AsyncClient, fakes: FakeMatchers, looks_like: set[str], subject: str | None
) -> None:
    fakes.templates, fakes.looks_like = ["alice", "bob", "alice", "bob", "carol"], set(looks_like)
    result = await client.identify_embedding(face(1), model="toy", threshold=0.25)
    assert (result.subject, result.decision, bool(result)) == (subject, subject is not None, subject is not None)
    assert (result.compared, result.pair, [len(share) for share in result.shares]) == (5, "ab", [1, 1])
    assert result.probe_bytes == fakes.a.requests[0].ByteSize()
    assert body_of(fakes.a.requests[0]).threshold == 100 and not body_of(fakes.a.requests[0]).subject_digest


async def test_nobody_is_in_an_empty_gallery(client: AsyncClient) -> None:
    result = await client.identify_embedding(face(1), model="toy")
    assert (result.subject, result.compared, result.shares) == (None, 0, (b"", b""))


async def test_labels_of_one_search_serve_the_next_of_the_other_kind(client: AsyncClient, fakes: FakeMatchers) -> None:
    fakes.templates, fakes.looks_like = ["alice", "bob"], {"bob"}
    assert (await client.candidates_embedding(face(1), model="toy")).subjects == ("bob",)
    assert (await client.identify_embedding(face(1), model="toy")).subject == "bob"
    await client.enrol_embedding("bob", face(2), model="toy")
    assert (await client.identify_embedding(face(1), model="toy")).subject == "bob"
    assert (await client.candidates_embedding(face(1), model="toy")).subjects == ("bob",)
    assert fakes.b.known_chains == [b"", bytes(32), bytes(32), bytes([1]) * 32]


async def test_labels_are_asked_for_once_per_gallery_state(client: AsyncClient, fakes: FakeMatchers) -> None:
    fakes.templates, fakes.looks_like = ["alice", "bob"], {"bob"}
    for _ in range(2):
        assert (await client.candidates_embedding(face(1), model="toy")).subjects == ("bob",)
    await client.enrol_embedding("bob", face(2), model="toy")
    assert (await client.candidates_embedding(face(1), model="toy")).subjects == ("bob",)
    assert fakes.b.known_chains == [b"", bytes(32), bytes(32)]


async def test_results_show_no_share_and_no_vector(client: AsyncClient, fakes: FakeMatchers) -> None:
    fakes.templates = ["alice"]
    verification = await client.verify_embedding("alice", face(1), model="toy")
    candidates = await client.candidates_embedding(face(1), model="toy")
    identification = await client.identify_embedding(face(1), model="toy")
    fields = {*Verification.__dataclass_fields__, *Candidates.__dataclass_fields__}
    fields |= {*IdentifyResult.__dataclass_fields__}
    assert fields.isdisjoint({"embedding", "vector", "probe", "score"})
    assert "share" not in repr(verification) + repr(candidates) + repr(identification)


async def test_photo_and_embedding_ask_the_same(client: AsyncClient, fakes: FakeMatchers) -> None:
    fakes.templates, fakes.looks_like = ["alice"], {"alice"}
    assert await client.verify("alice", "door.jpg")
    assert await client.candidates("door.jpg")
    assert await client.identify("door.jpg")


async def test_request_names_the_model_of_the_capture_or_that_of_the_caller(
    client: AsyncClient, fakes: FakeMatchers
) -> None:
    await client.enrol("alice", "1.jpg", "2.jpg")
    await client.enrol_many([("bob", "3.jpg")])
    await client.verify("alice", "door.jpg")
    await client.candidates("door.jpg")
    await client.identify("door.jpg")
    assert [body_of(r).model for r in fakes.a.requests] == ["names-2"] * 6
    for model, given in (("mobilefacenet", {"model": "mobilefacenet"}), ("arcface-7", {"model": "arcface-7"})):
        fakes.a.requests.clear()
        await client.enrol_embedding("alice", face(1), face(2), **given)
        await client.enrol_many_embeddings([("bob", face(3))], **given)
        await client.verify_embedding("alice", face(1), **given)
        await client.candidates_embedding(face(1), **given)
        await client.identify_embedding(face(1), **given)
        assert [body_of(r).model for r in fakes.a.requests] == [model] * 6


async def test_model_mismatch_reaches_the_caller_with_both_names(client: AsyncClient, fakes: FakeMatchers) -> None:
    def refuse(kind: str, signed: Any) -> None:
        raise ModelMismatchError("another model", got=body_of(signed).model, expected="sface-1")

    fakes.a.before = fakes.b.before = refuse
    with pytest.raises(ModelMismatchError) as caught:
        await client.verify("alice", "door.jpg")
    assert (caught.value.got, caught.value.expected) == ("names-2", "sface-1")


async def test_subjects_are_listed_by_name(client: AsyncClient, fakes: FakeMatchers) -> None:
    fakes.templates = ["bob", "alice", "bob"]
    assert await client.subjects() == [SubjectEntry("alice", 1), SubjectEntry("bob", 2)]
    body = body_of(fakes.a.requests[0])
    assert (body.operation, body.threshold, body.token) == (request_pb2.OPERATION_SUBJECTS, 0, b"")


# -- changing the gallery ------------------------------------------------------------------------------


async def test_every_photo_is_a_template_with_its_own_token(client: AsyncClient, fakes: FakeMatchers) -> None:
    assert await client.enrol("alice", "1.jpg", "2.jpg", "3.jpg") == Enrolment(sequence=3, templates=3)
    assert len({body_of(r).token for r in fakes.a.requests}) == 3


async def test_bad_photo_enrols_nothing(client: AsyncClient, fakes: FakeMatchers) -> None:
    with pytest.raises(NoFaceError):
        await client.enrol("alice", "1.jpg", "empty.jpg")
    assert fakes.templates == [] and fakes.a.requests == []


async def test_call_repeated_with_its_token_adds_nothing(client: AsyncClient, fakes: FakeMatchers) -> None:
    token = new_token()
    for _ in range(2):
        await client.enrol_embedding("alice", face(1), face(2), model="toy", token=token)
    assert fakes.templates == ["alice", "alice"]


async def test_bulk_enrolment_repeated_with_its_token_adds_nothing(client: AsyncClient, fakes: FakeMatchers) -> None:
    token = new_token()
    for _ in range(2):
        await client.enrol_many_embeddings({"alice": face(1), "bob": face(2)}, model="toy", token=token)
    assert fakes.templates == ["alice", "bob"]


async def test_erase_reports_what_is_gone(client: AsyncClient, fakes: FakeMatchers) -> None:
    fakes.templates = ["alice", "bob", "alice"]
    assert (await client.erase("alice")).templates == 2
    assert fakes.templates == ["bob"]


async def test_bulk_enrolment_is_one_signed_stream_of_packs(
    client: AsyncClient, fakes: FakeMatchers, decrypt: Callable[[bytes], list[Any]]
) -> None:
    count, steps = PARAMETERS.slots + 2, []
    people = [(f"s{i}", e) for i, e in enumerate(faces(count))]
    result = await client.enrol_many_embeddings(people, model="toy", progress=lambda *step: steps.append(step))
    assert result == Enrolment(sequence=1, templates=count)
    assert [len(pack.templates) for pack in fakes.bulk_packs] == [PARAMETERS.slots, 2]
    assert fakes.templates == [name for name, _ in people]
    last = fakes.bulk_packs[-1].templates[-1]
    assert decrypt(last.record) == lanes.pack(quantise(people[-1][1], PARAMETERS), PARAMETERS)
    assert steps[0] == ("encrypt", 0, count) and steps[-1] == ("encrypt", count, count)
    assert fakes.a.timeouts[0] <= 5 + 2 * BULK_PACK_S
    header = body_of(fakes.a.requests[0])
    assert header.operation == request_pb2.OPERATION_BULK_ENROL and len(header.token) == 16


async def test_bulk_photos_of_a_mapping(client: AsyncClient, fakes: FakeMatchers) -> None:
    await client.enrol_many({"alice": "1.jpg", "bob": "2.jpg"})
    assert fakes.templates == ["alice", "bob"]


async def test_unusable_photo_ends_a_bulk_enrolment_and_is_named(client: AsyncClient, fakes: FakeMatchers) -> None:
    with pytest.raises(NoFaceError, match=r"bob, photo 2 of 2 \(empty.jpg\): there is no face"):
        await client.enrol_many({"alice": "1.jpg", "bob": "empty.jpg"})
    assert fakes.a.requests == []


async def test_unusable_photo_can_be_skipped(client: AsyncClient, fakes: FakeMatchers) -> None:
    skipped: list[str] = []
    await client.enrol_many(
        {"alice": "1.jpg", "bob": "empty.jpg"}, skipped=lambda subject, error: skipped.append(subject)
    )
    assert (fakes.templates, skipped) == (["alice"], ["bob"])


async def test_cancelled_bulk_enrolment_sends_nothing(client: AsyncClient, fakes: FakeMatchers) -> None:
    people = [(f"s{i}", face(1)) for i in range(20 * PARAMETERS.slots)]
    begun = asyncio.Event()

    def progress(stage: str, done: int, _total: int) -> None:
        if (stage, done > 0) == ("encrypt", True):
            begun.set()

    task = asyncio.ensure_future(client.enrol_many_embeddings(people, model="toy", progress=progress))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert fakes.a.requests == []


# -- a vector that the servers find invalid --------------------------------------------------------------


async def test_an_enrolment_that_the_servers_find_invalid_is_blamed_on_them_and_nothing_tells_them(
    client: AsyncClient, fakes: FakeMatchers, caplog: pytest.LogCaptureFixture
) -> None:
    fakes.finds_valid = False
    with pytest.raises(ServerDeviationError) as caught:
        await client.enrol_embedding("alice", *faces(3), model="toy", token=bytes(16))
    sent = [body_of(r) for r in fakes.a.requests]
    assert [body.operation for body in sent] == [request_pb2.OPERATION_ENROL] * 3, "as if all were well"
    assert caught.value.enrolments == tuple(body.token.hex() for body in sent)
    assert [record.levelname for record in caplog.records] == ["ERROR"] and "alert" in caplog.text
    assert fakes.b.requests == fakes.a.requests


async def test_an_empty_template_is_taken_back_by_the_token_of_its_enrolment(
    client: AsyncClient, fakes: FakeMatchers
) -> None:
    fakes.templates = ["alice"]
    await client.enrol_embedding("alice", face(1), model="toy", token=bytes(16))
    assert (await client.take_back("alice", bytes(16))).templates == 1
    assert fakes.templates == ["alice"]
    erased = body_of(fakes.a.requests[-1])
    assert (erased.operation, erased.enrolment) == (request_pb2.OPERATION_ERASE, bytes(16))
    for token in (b"", bytes(15), bytes(17)):
        with pytest.raises(InvalidInputError):
            await client.take_back("alice", token)


# -- rotation ----------------------------------------------------------------------------------------------


async def test_rotation_asks_until_both_say_done(client: AsyncClient, fakes: FakeMatchers) -> None:
    fakes.templates, steps = ["alice", "bob", "alice"], []
    result = await client.rotate(NEW_KEY_ID, progress=lambda *step: steps.append(step))
    assert result == Rotation(sequence=3, templates=3, empty=("eve",))
    assert steps == [("rotate", 2, 3), ("rotate", 3, 3), ("rotate", 3, 3)]
    bodies = [body_of(r) for r in fakes.a.requests]
    assert all((b.operation, b.new_key_id) == (request_pb2.OPERATION_ROTATE, NEW_KEY_ID) for b in bodies)
    assert len({b.nonce for b in bodies}) == 3 and all(b.token == b.subject_digest == b"" for b in bodies)
    assert 5 < fakes.a.timeouts[0] <= 5 + ROTATION_STEP_S


async def test_rotation_that_was_interrupted_goes_on(client: AsyncClient, fakes: FakeMatchers) -> None:
    fakes.templates = ["alice"] * 20
    refuse = fail_pairs("ab", "ac", "bc")
    for matcher in (fakes.a, fakes.b, fakes.c):
        matcher.before = lambda kind, signed: refuse(kind, signed) if fakes.converted else None
    with pytest.raises(UnavailableError):
        await client.rotate(NEW_KEY_ID)
    assert 0 < fakes.converted < 20
    for matcher in (fakes.a, fakes.b, fakes.c):
        matcher.before = lambda kind, signed: None
    assert (await client.rotate(NEW_KEY_ID)).templates == 20


@pytest.mark.parametrize(
    "change",
    [{"converted": 1}, {"total": 9}, {"done": True}, {"by_device": ["bob"]}, {"sequence": 9}, {"chain": b"x" * 32}],
)
async def test_matchers_that_tell_of_different_rotations_end_it(
    client: AsyncClient, fakes: FakeMatchers, change: dict[str, Any]
) -> None:
    fakes.templates = ["alice", "bob", "alice"]

    def changed(reply: matcher_pb2.RotateReply) -> matcher_pb2.RotateReply:
        fields = {field.name: getattr(reply, field.name) for field in reply.DESCRIPTOR.fields}
        return matcher_pb2.RotateReply(**fields | change)

    fakes.b.change = changed
    with pytest.raises((GalleryMismatchError, IntegrityError)):
        await client.rotate(NEW_KEY_ID)


@pytest.mark.parametrize("key_id", [b"", bytes(15), bytes(17)])
async def test_an_id_that_is_none_of_a_key_is_refused(client: AsyncClient, fakes: FakeMatchers, key_id: bytes) -> None:
    with pytest.raises(InvalidInputError, match="id of a key"):
        await client.rotate(key_id)
    assert fakes.a.requests == []


# -- the next pair ---------------------------------------------------------------------------------------


async def test_next_pair_gets_a_fresh_nonce(client: AsyncClient, fakes: FakeMatchers) -> None:
    fakes.a.before = fail_pairs("ab")
    fakes.looks_like = {"alice"}
    result = await client.verify_embedding("alice", face(1), model="toy")
    assert result and result.pair == "ac"
    first, second = (body_of(r) for r in fakes.a.requests)
    assert first.nonce != second.nonce
    assert first.payload_digest == second.payload_digest


async def test_mutation_keeps_its_token_and_is_done_once(client: AsyncClient, fakes: FakeMatchers) -> None:
    def lose_the_answer(kind: str, signed: Any) -> None:
        if body_of(signed).pair == "ab":
            fakes.mutate(1, signed)
            raise UnavailableError("lost", alternatives=("ac",))

    fakes.b.before = lose_the_answer
    assert (await client.enrol_embedding("alice", face(1), model="toy")).templates == 1
    first, second = (body_of(r) for r in fakes.a.requests)
    assert (first.pair, second.pair) == ("ab", "ac")
    assert first.token == second.token and first.nonce != second.nonce
    assert fakes.templates == ["alice"]


async def test_all_pairs_failing_is_unavailable(client: AsyncClient, fakes: FakeMatchers) -> None:
    for matcher in (fakes.a, fakes.c):
        matcher.before = fail_pairs("ab", "ac", "bc")
    with pytest.raises(UnavailableError, match="out of stock"):
        await client.verify_embedding("alice", face(1), model="toy")
    assert [[body_of(r).pair for r in m.requests] for m in (fakes.a, fakes.c)] == [["ab", "ac"], ["ac", "bc"]]


async def test_pairs_are_tried_in_the_order_of_the_settings(settings: DeviceSettings, fakes: FakeMatchers) -> None:
    chosen = settings.model_copy(update={"pairs": ["bc", "ab"]})
    fakes.c.before = fail_pairs("bc")
    async with AsyncClient(chosen, matchers=fakes.all) as client:
        assert (await client.verify_embedding("alice", face(1), model="toy")).pair == "ab"


# -- the name of a request -------------------------------------------------------------------------------


async def test_every_result_names_its_request_as_the_logs_do(client: AsyncClient, fakes: FakeMatchers) -> None:
    results = [
        await client.enrol_embedding("alice", face(1), face(2), model="toy"),
        await client.enrol_many_embeddings({"bob": face(3)}, model="toy"),
        await client.verify_embedding("alice", face(1), model="toy"),
        await client.candidates_embedding(face(1), model="toy"),
        await client.identify_embedding(face(1), model="toy"),
        await client.subjects(),
        await client.take_back("alice", bytes(16)),
        await client.erase("alice"),
        await client.rotate(NEW_KEY_ID),
    ]
    sent = [request_digest(signed.body).hex()[:16] for signed in fakes.a.requests]
    # Of the two of an enrolment, and of the two steps of a rotation, the last.
    assert [result.request_id for result in results] == [*sent[1:9], sent[-1]]


@pytest.mark.parametrize("sent", [None, "of another request"])
async def test_every_error_of_a_request_names_it_whatever_the_server_says(
    client: AsyncClient, fakes: FakeMatchers, sent: str | None
) -> None:
    def refuse(kind: str, signed: Any) -> None:
        raise RequestRefusedError("no", request_id=sent)

    fakes.b.before = refuse
    with pytest.raises(RequestRefusedError) as caught:
        await client.verify_embedding("alice", face(1), model="toy")
    assert caught.value.request_id == request_id(fakes.b.requests[-1])


async def test_errors_that_the_device_finds_name_the_request(client: AsyncClient, fakes: FakeMatchers) -> None:
    def lag(reply: Any) -> Any:
        reply.sequence += 1
        return reply

    fakes.b.change = lag
    with pytest.raises(GalleryMismatchError) as caught:
        await client.candidates_embedding(face(1), model="toy")
    assert caught.value.request_id == request_id(fakes.b.requests[-1])
    fakes.b.change, fakes.finds_valid = (lambda reply: reply), False
    with pytest.raises(ServerDeviationError) as deviation:
        await client.enrol_embedding("alice", *faces(2), model="toy")
    assert deviation.value.request_id == request_id(fakes.a.requests[-1])


async def test_of_several_attempts_the_error_names_its_own(client: AsyncClient, fakes: FakeMatchers) -> None:
    for matcher in (fakes.a, fakes.b):
        matcher.before = fail_pairs("ab", "ac", "bc")
    with pytest.raises(UnavailableError) as caught:
        await client.verify_embedding("alice", face(1), model="toy")
    assert caught.value.request_id == request_id(fakes.c.requests[-1]) == request_id(fakes.b.requests[-1])


async def test_an_error_before_anything_is_sent_names_no_request(client: AsyncClient) -> None:
    with pytest.raises(EmbeddingError) as caught:
        await client.verify_embedding("alice", face(1)[:3], model="toy")
    assert caught.value.request_id is None


# -- what is remembered and waited for -------------------------------------------------------------------


async def test_a_pair_that_failed_is_not_tried_first_again(client: AsyncClient, fakes: FakeMatchers) -> None:
    def hang(kind: str, signed: Any) -> None:
        if "a" in body_of(signed).pair:
            raise IntegrityError("its own fault", party="keyholder-a", alternatives=("bc",))

    fakes.a.before = hang
    served = [(await client.verify_embedding("alice", face(1), model="toy")).pair for _ in range(3)]
    assert served == ["bc"] * 3
    assert [body_of(r).pair for r in fakes.b.requests] == ["ab", "bc", "bc", "bc"]


async def test_key_holders_are_not_blamed_for_a_matcher_that_restarts(client: AsyncClient, fakes: FakeMatchers) -> None:
    await client.subjects()

    def leave(kind: str, signed: Any) -> None:
        fakes.b.state, fakes.b.before = "down", lambda kind, signed: None
        raise UnavailableError("keyholder-a left the request", party="keyholder-a", alternatives=("bc",))

    fakes.b.before = leave
    assert (await client.verify_embedding("alice", face(1), model="toy")).pair == "bc"
    assert (await client.verify_embedding("alice", face(1), model="toy")).pair == "ab"


@pytest.mark.parametrize(("pairs", "served"), [(["ab"], "ab"), (["ab", "ac", "bc"], "ac")])
@pytest.mark.parametrize("call", ["enrol", "erase", "bulk"])
async def test_a_change_is_done_once_although_a_matcher_restarts_before_it_answers(
    settings: DeviceSettings, fakes: FakeMatchers, call: str, pairs: list[str], served: str
) -> None:
    fakes.templates = ["carol"]
    client = AsyncClient(settings.model_copy(update={"pairs": pairs}), matchers=fakes.all)
    await client.subjects()

    def die(kind: str, signed: Any) -> None:
        if kind == "bulk":
            fakes._commit(signed, 1, ["alice"])
            fakes.templates.append("alice")
        else:
            fakes.mutate(1, signed)
        fakes.b.state, fakes.b.before = "down", lambda kind, signed: None
        raise UnavailableError("matcher-b cannot be reached", party="matcher-b", needed="matcher-b")

    fakes.b.before = die
    if call == "enrol":
        await client.enrol_embedding("alice", face(1), model="toy")
    elif call == "bulk":
        await client.enrol_many_embeddings({"alice": face(1)}, model="toy")
    else:
        assert (await client.erase("carol")).templates == 1
    assert fakes.templates == ([] if call == "erase" else ["carol", "alice"])
    first, second = (body_of(r) for r in fakes.a.requests[-2:])
    assert first.token == second.token and first.nonce != second.nonce
    assert (first.pair, second.pair) == ("ab", served)
    await client.aclose()


# -- errors and time -------------------------------------------------------------------------------------


async def test_different_galleries_give_no_decision(client: AsyncClient, fakes: FakeMatchers) -> None:
    def lag(reply: Any) -> Any:
        reply.sequence += 1
        return reply

    fakes.b.change = lag
    with pytest.raises(GalleryMismatchError):
        await client.verify_embedding("alice", face(1), model="toy")


async def test_a_matcher_that_contradicts_the_other_keeps_a_device_from_nobody(
    client: AsyncClient, fakes: FakeMatchers
) -> None:
    def lie(reply: Any) -> Any:
        reply.session_id = b"l" * 32
        return reply

    fakes.b.change = lie
    with pytest.raises(IntegrityError):
        await client.verify_embedding("alice", face(1), model="toy")
    for _ in range(3):
        assert (await client.verify_embedding("alice", face(1), model="toy")).pair == "ac"


async def test_refusal_at_one_cancels_the_other(client: AsyncClient, fakes: FakeMatchers) -> None:
    def refuse(kind: str, signed: Any) -> None:
        raise RequestRefusedError("not this device")

    fakes.a.before, fakes.b.before = refuse, lambda kind, signed: asyncio.sleep(60)
    with pytest.raises(RequestRefusedError):
        await client.verify_embedding("alice", face(1), model="toy")
    assert fakes.b.cancelled == 1


@pytest.mark.parametrize(
    "call", ["verify", "candidates", "identify", "known", "enrol", "erase", "subjects", "bulk", "rotate"]
)
async def test_every_call_ends_at_its_deadline(client: AsyncClient, fakes: FakeMatchers, call: str) -> None:
    fakes.a.before = fakes.b.before = lambda kind, signed: asyncio.sleep(60)
    calls = {
        "verify": lambda: client.verify_embedding("alice", face(1), model="toy", timeout_s=0.05),
        "candidates": lambda: client.candidates_embedding(face(1), model="toy", timeout_s=0.05),
        "identify": lambda: client.identify_embedding(face(1), model="toy", timeout_s=0.05),
        "known": lambda: client.known_embedding(face(1), model="toy", timeout_s=0.05),
        "enrol": lambda: client.enrol_embedding("alice", face(1), model="toy", timeout_s=0.05),
        "erase": lambda: client.erase("alice", timeout_s=0.05),
        "subjects": lambda: client.subjects(timeout_s=0.05),
        "rotate": lambda: client.rotate(NEW_KEY_ID, timeout_s=0.05),
        "bulk": lambda: client.enrol_many_embeddings([("alice", face(1))], model="toy", timeout_s=0.05),
    }
    with pytest.raises(UnavailableError) as caught:
        await asyncio.wait_for(calls[call](), 5)
    assert caught.value.party == "matcher-a"
    assert 0 < fakes.a.timeouts[0] <= 0.05
    assert (fakes.a.cancelled, fakes.b.cancelled) == (1, 1)


async def test_time_out_of_the_settings_is_the_default(client: AsyncClient, fakes: FakeMatchers) -> None:
    await client.subjects()
    assert 4.9 < fakes.a.timeouts[0] <= 5


@pytest.mark.parametrize("timeout_s", [0, -1, float("inf"), float("nan"), "1"])
async def test_endless_time_is_refused(client: AsyncClient, timeout_s: Any) -> None:
    with pytest.raises(InvalidInputError):
        await client.subjects(timeout_s=timeout_s)


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (lambda c: c.verify_embedding("", face(1), model="toy"), InvalidInputError),
        (lambda c: c.verify_embedding(None, face(1), model="toy"), InvalidInputError),
        (lambda c: c.verify_embedding("alice", face(1)[:3], model="toy"), EmbeddingError),
        (lambda c: c.verify_embedding("alice", face(1) * float("nan"), model="toy"), EmbeddingError),
        (lambda c: c.verify_embedding("alice", face(1), model="toy", threshold=1.5), ParameterError),
        (lambda c: c.verify_embedding("alice", face(1), model="toy", threshold="high"), InvalidInputError),
        (lambda c: c.enrol_embedding("alice", model="toy"), InvalidInputError),
        (lambda c: c.enrol_embedding("alice", face(1), model="toy", token=b"short"), InvalidInputError),
        (lambda c: c.erase("alice", token="0" * 16), InvalidInputError),
        (lambda c: c.enrol_embedding("alice", face(1), model=""), InvalidInputError),
        (lambda c: c.enrol_many_embeddings({"alice": face(1)}, model="x" * 65), InvalidInputError),
        (lambda c: c.verify_embedding("alice", face(1), model=None), InvalidInputError),
        (lambda c: c.candidates_embedding(face(1), model=b"sface"), InvalidInputError),
        (lambda c: c.identify_embedding(face(1)[:3], model="toy"), EmbeddingError),
        (lambda c: c.identify_embedding(face(1), model="toy", threshold=0.0), ParameterError),
        (lambda c: c.identify_embedding(face(1), model=""), InvalidInputError),
        (lambda c: c.enrol_many_embeddings([], model="toy"), InvalidInputError),
        (lambda c: c.enrol_many_embeddings({"alice": [0.0] * 8}, model="toy"), EmbeddingError),
    ],
)
async def test_wrong_input_is_refused_before_anything_is_sent(
    client: AsyncClient, fakes: FakeMatchers, wrong: Callable[[Any], Any], expected: type[VeilmatchError]
) -> None:
    with pytest.raises(expected):
        await wrong(client)
    assert fakes.a.requests == []


async def test_face_model_of_another_size_is_refused(settings: DeviceSettings, fakes: FakeMatchers) -> None:
    async with AsyncClient(settings, matchers=fakes.all, capture=FakeCapture(dimension=512)) as client:
        with pytest.raises(KeyMismatchError):
            await client.verify("alice", "door.jpg")


async def test_calls_run_side_by_side(client: AsyncClient, fakes: FakeMatchers) -> None:
    fakes.templates, fakes.looks_like = ["alice", "bob"], {"bob"}
    fakes.a.before = lambda kind, signed: asyncio.sleep(0.05)
    results = await asyncio.gather(*(client.candidates_embedding(face(i), model="toy") for i in range(8)))
    assert {r.subjects for r in results} == {("bob",)}


# -- opening and closing -----------------------------------------------------------------------------------


async def test_leaving_the_block_closes_both(settings: DeviceSettings, fakes: FakeMatchers) -> None:
    async with AsyncClient(settings, matchers=fakes.all) as client:
        await client.subjects()
    assert fakes.a.closed and fakes.b.closed
    with pytest.raises(ClientUseError, match="closed"):
        await client.subjects()
    await client.aclose()


def test_client_stays_in_its_event_loop(settings: DeviceSettings, fakes: FakeMatchers) -> None:
    client = AsyncClient(settings, matchers=fakes.all)
    asyncio.run(_subjects(client))
    with pytest.raises(ClientUseError, match="event loop"):
        asyncio.run(_subjects(client))


async def _subjects(client: AsyncClient) -> Any:
    return await client.subjects()


def test_client_is_made_from_a_file(settings: DeviceSettings, tmp_path: Path) -> None:
    assert "AsyncClient" in repr(AsyncClient.from_config(tmp_path / "device.toml"))
    with pytest.raises(ConfigurationError):
        AsyncClient.from_config(str(tmp_path / "other.toml"))


def test_unusable_key_files_are_refused_at_once(settings: DeviceSettings, tmp_path: Path) -> None:
    (tmp_path / "public.json").write_text("{}")
    with pytest.raises(KeyFileError):
        AsyncClient(settings)
    (tmp_path / "public.json").unlink()
    with pytest.raises(ConfigurationError):
        AsyncClient(settings)
