"""Boundaries that take files, streams or the answers of child processes: values or typed errors, whatever comes."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz import seeds
from tests.fuzz.mangling import mangled
from tests.installation.making import ceremony
from tests.installation.test_settings import FIELDS, KINDS
from veilmatch.client.operations import bulk
from veilmatch.client.wire.exchange import ask_both
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.encryption.paillier import Paillier
from veilmatch.crypto.errors import ConfigurationError, IntegrityError, ProtocolError, VeilmatchError
from veilmatch.protos.v1 import keyholder_pb2 as pb
from veilmatch.server.installation.toml import to_toml
from veilmatch.server.keyholder.audit.chain import file_name
from veilmatch.server.keyholder.audit.check import check_log
from veilmatch.server.keyholder.service import KeyHolderService
from veilmatch.server.keyholder.session.share_worker import ShareWorkers
from veilmatch.server.matcher.query.keyholder_call import KeyHolderCall
from veilmatch.server.transport.sign_of_life import Owing
from veilmatch.server.workers.parts import join
from veilmatch.server.workers.pool import Exchange

SCHEME = Paillier(ceremony().public_key)
PARAMETERS = SCHEME.parameters
RELAXED = settings(max_examples=120, deadline=5000, suppress_health_check=list(HealthCheck))


def at_once(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """The outcome of a coroutine that has nothing to wait for."""
    return asyncio.run(coroutine)


# -- files --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@RELAXED
@given(st.data())
def test_a_configuration_is_right_or_says_what_is_wrong(kind: Any, tmp_path: Path, data: st.DataObject) -> None:
    valid = [to_toml(fields).encode() for fields in FIELDS.values()]
    path = tmp_path / "x.toml"
    path.write_bytes(data.draw(mangled(valid)))
    try:
        found = kind.load(path)
    except ConfigurationError:
        return
    # Budgets are tables in a table, which `to_toml` does not write; no mangled file has any.
    fields = found.model_dump(mode="json", exclude_none=True, exclude={"budgets"})
    (tmp_path / "again.toml").write_text(to_toml(fields))
    assert kind.load(tmp_path / "again.toml") == found


@RELAXED
@given(st.data())
def test_a_mangled_audit_log_is_checked_to_its_first_break(tmp_path: Path, data: st.DataObject) -> None:
    whole = b"".join(seeds.audit_chain())
    path = tmp_path / file_name(0)
    path.write_bytes(data.draw(mangled([whole, *seeds.audit_lines()])))
    checked = check_log(path)
    lines = path.read_bytes().splitlines(keepends=True)
    # A first line that is torn is both, and nothing else is: a file without an entry was emptied.
    is_both = bool(checked.broken and checked.torn_bytes and not checked.entries)
    assert checked.entries + bool(checked.broken) + bool(checked.torn_bytes) - is_both <= max(1, len(lines))
    if not checked.broken and checked.first == 0 and len(lines) <= len(seeds.audit_chain()):
        assert whole.startswith(b"".join(lines[: checked.entries]))


# -- streams -------------------------------------------------------------------------------------------


@st.composite
def chunks(draw: st.DrawFn) -> list[pb.MatcherToKeyHolder]:
    """Chunks of results, right or with sizes and counts that do not fit."""
    found = []
    for _ in range(draw(st.integers(0, 3))):
        packs = draw(st.integers(0, 3))
        results = b"".join(draw(st.sampled_from(seeds.ciphertexts()[:3])) for _ in range(packs))
        wanted = bytes(-(-packs * PARAMETERS.slots // 8))
        chunk = pb.ResultsChunk(
            results=draw(mangled([results])) if draw(st.booleans()) else results,
            wanted=draw(st.sampled_from((wanted, wanted + b"\xff", wanted[:-1], b"\xff" * len(wanted)))),
            packs=draw(st.sampled_from((packs, packs, packs, packs + 1, (1 << 32) - 1))),
            last=draw(st.booleans()),
        )
        found.append(pb.MatcherToKeyHolder(results=chunk))
    return found


@RELAXED
@given(chunks())
def test_results_of_a_matcher_fit_together_or_are_refused(messages: list[pb.MatcherToKeyHolder]) -> None:
    left = iter(messages)

    async def read() -> pb.MatcherToKeyHolder | None:
        return next(left, None)

    holder = SimpleNamespace(
        party="a",
        scheme=SCHEME,
        server=SimpleNamespace(name="keyholder-a"),
        call_s=5.0,
        given=lambda caller, ciphertexts: SCHEME.parse_many(ciphertexts),
    )
    service = KeyHolderService(holder)  # type: ignore[arg-type]
    try:
        found = at_once(anext(service._results(SimpleNamespace(read=read), "matcher-a")))  # type: ignore[arg-type]
    except VeilmatchError:
        return
    assert found.wanted.shape == (len(found.ciphertexts), PARAMETERS.slots) and found.wanted.dtype == np.bool_
    sent = b"".join(message.results.results for message in messages)
    assert sent.startswith(b"".join(map(SCHEME.serialise, found.ciphertexts)))


@RELAXED
@given(st.data())
def test_shares_of_a_key_holder_are_in_range_or_refused(data: st.DataObject) -> None:
    size = PARAMETERS.dimension
    valid = [
        pb.KeyHolderToMatcher(probe_share=pb.ProbeShareMessage(session_id=b"s", exponents=bytes(4 * size))),
        pb.KeyHolderToMatcher(
            template_share=pb.TemplateShareMessage(session_id=b"s", lanes=bytes(16 * size), valid_share=b"\3")
        ),
        pb.KeyHolderToMatcher(decision_share=pb.DecisionShareMessage(share=b"\1", count=1, valid_share=True)),
    ]
    try:
        message = pb.KeyHolderToMatcher.FromString(data.draw(mangled([m.SerializeToString() for m in valid])))
    except DecodeError:
        return

    async def receive() -> pb.KeyHolderToMatcher:
        return message

    call = KeyHolderCall(SimpleNamespace(receive=receive), PARAMETERS, 5, Owing("keyholder-a"), is_plus=False)  # type: ignore[arg-type]
    try:
        values = at_once(call.probe_share()).values
        assert values.shape == (size,) and 0 <= values.min() <= values.max() < 1 << PARAMETERS.ring_bits
    except ProtocolError:
        pass
    for templates, told in ((2, 2), (2, 0), (1, 1)):
        try:
            shares = at_once(call.template_shares(templates, told))
        except ProtocolError:
            continue
        assert shares.values.shape == (templates, size) and shares.values.dtype == np.uint64
        assert len(shares.valid) == -(-told // 8)
    try:
        share = at_once(call.decision_share(1, 1))
    except ProtocolError:
        return
    assert len(share.bits) == 1


# -- answers of child processes, and of matchers -------------------------------------------------------------


@RELAXED
@given(st.data())
def test_an_encryption_worker_answers_a_pack_or_has_ended(data: st.DataObject) -> None:
    pack = bytes(PARAMETERS.dimension * PARAMETERS.ciphertext_bytes)
    records = bytes(PARAMETERS.lane_ciphertexts * PARAMETERS.ciphertext_bytes)
    right = len(pack + records).to_bytes(8, "big") + pack + records
    worker = bulk._Worker.__new__(bulk._Worker)
    worker._parameters, worker._hello = PARAMETERS, b""
    worker._process = SimpleNamespace(poll=lambda: None)  # type: ignore[assignment]
    worker._to, worker._from = io.BytesIO(), io.BufferedReader(io.BytesIO(data.draw(mangled([right]))))  # type: ignore[arg-type]
    try:
        found = worker.encrypt(np.zeros((1, PARAMETERS.dimension), dtype=np.int64))
    except IntegrityError:
        return
    assert len(found.ciphertexts) == len(pack) and [len(r) for r in found.records] == [len(records)]


@RELAXED
@given(st.data())
def test_a_share_worker_answers_as_many_shares_as_it_was_asked_for(data: st.DataObject) -> None:
    share = b"a" + bytes(PARAMETERS.ciphertext_bytes)
    answer = data.draw(mangled([join([share, share]), join([share])]))

    def lend(number: int, work: Callable[[Exchange], None]) -> None:
        work(lambda message: answer)

    workers = ShareWorkers(SimpleNamespace(count=1, lend=lend), SCHEME)  # type: ignore[arg-type]
    try:
        shares = at_once(workers.of("ab", 1, "device").local_shares([Integer(1), Integer(2)]))
    except VeilmatchError:
        return
    assert len(shares) == 2 and len(answer) == len(join([share, share]))


@RELAXED
@given(
    st.lists(
        st.sampled_from((1, VeilmatchError("x"), ValueError("secret"), KeyError(7), OSError())), min_size=2, max_size=2
    )
)
def test_two_matchers_give_two_answers_or_one_typed_error(outcomes: list[Any]) -> None:
    async def ask(matcher: Any) -> Any:
        outcome = outcomes[matcher.number]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    matchers: Any = tuple(SimpleNamespace(number=i, party=f"matcher-{'ab'[i]}") for i in (0, 1))
    try:
        answers = at_once(ask_both(matchers, ask, 1.0))
    except VeilmatchError as error:
        assert any(isinstance(o, Exception) for o in outcomes) and "secret" not in str(error)
        return
    assert answers == (1, 1)
