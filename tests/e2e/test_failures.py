"""What goes wrong and what then happens: typed errors at the device, nothing changed at the servers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import grpc
import numpy as np
import pytest

from tests.e2e.world import (
    ENVIRONMENT,
    EVERYBODY,
    PASSPHRASE,
    World,
    hold_ceremony,
    running,
    supervised,
    unit,
    veilmatch,
)
from tests.faults.level import wait_level
from veilmatch.client.async_client import AsyncClient
from veilmatch.client.wire.signing import DeviceKey, Draft, RequestSigner
from veilmatch.client.wire.transport import open_matchers
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.encryption.knowledge import KnownCiphertexts
from veilmatch.crypto.encryption.paillier import Paillier
from veilmatch.crypto.encryption.public_key_format import PublicFile
from veilmatch.crypto.errors import (
    CiphertextError,
    EmbeddingError,
    InvalidInputError,
    KeyMismatchError,
    KnowledgeProofError,
    PartyRefusedError,
    RequestExpiredError,
    RequestReplayedError,
    RequestSignatureError,
    UnavailableError,
    UnknownSubjectError,
    VeilmatchError,
)
from veilmatch.crypto.packing.lanes import pack
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.crypto.requests import signed_bytes
from veilmatch.protos.v1 import matcher_pb2, request_pb2
from veilmatch.server.installation.plan import folder_of

TOY = ParameterSet(modulus_bits=1024)


class Wire:
    """Requests of a device that is enrolled but need not be honest."""

    def __init__(self, world: World) -> None:
        self.settings = world.settings()
        self.public_key = PublicFile.decode(self.settings.public_key.read_bytes()).public_key
        self.scheme = Paillier(self.public_key)
        self.key = DeviceKey.from_file(self.settings.signing_key)

    def signer(self, now: Callable[[], float] = time.time, lifetime_s: float = 60.0) -> RequestSigner:
        return RequestSigner(self.key, self.settings.device, self.settings.gallery, self.public_key, lifetime_s, now)

    def probe(self) -> KnownCiphertexts:
        vector = np.ones(TOY.dimension, dtype=np.int64) * 5
        return KnownCiphertexts.encrypt(self.scheme, pack(vector, TOY))

    def ciphertexts(self) -> list[bytes]:
        return list(self.probe().ciphertexts)

    def claimed(self, ciphertexts: list[bytes]) -> KnownCiphertexts:
        """Ciphertexts whose randomisers this device does not know, and says it does."""
        return KnownCiphertexts(tuple(ciphertexts), (Integer(0),) * len(ciphertexts), self.scheme)

    def draft(self, probe: KnownCiphertexts, subject: str = "known") -> Draft:
        return Draft(request_pb2.OPERATION_VERIFY, probe, 1440, subject, model="toy")

    def match(self, *requests: request_pb2.SignedRequest) -> matcher_pb2.MatchReply | VeilmatchError:
        """Send one request to each matcher (the same to both if there is one); the most telling outcome."""
        pair = requests if len(requests) == 2 else (requests[0], requests[0])
        return asyncio.run(self._match(pair))

    async def _match(self, pair: tuple[request_pb2.SignedRequest, ...]) -> matcher_pb2.MatchReply | VeilmatchError:
        opened = open_matchers(self.settings)
        matchers = [opened["a"], opened["b"]]
        calls = [m.match(matcher_pb2.MatchRequest(request=r), 20.0) for m, r in zip(matchers, pair, strict=True)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        for matcher in opened.values():
            await matcher.close()
        errors = [o for o in outcomes if isinstance(o, VeilmatchError)]
        assert not any(isinstance(o, BaseException) and not isinstance(o, VeilmatchError) for o in outcomes), outcomes
        telling = [e for e in errors if not isinstance(e, UnavailableError)]
        return (telling or errors or [outcomes[0]])[0]  # type: ignore[return-value]


@pytest.fixture(scope="module")
def wire(world: World) -> Iterator[Wire]:
    with world.client() as client:
        client.enrol_embedding("known", np.ones(TOY.dimension), model="toy")
        before = client.subjects()
        yield Wire(world)
        assert client.subjects() == before
        client.erase("known")


def test_an_honest_request_of_the_harness_is_served(wire: Wire) -> None:
    reply = wire.match(wire.signer().sign(wire.draft(wire.probe()), "ab"))
    assert isinstance(reply, matcher_pb2.MatchReply) and reply.count == 1


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (lambda w, c: b"\0" * len(c), "zero"),
        (lambda w, c: b"\xff" * len(c), "not reduced"),
        (lambda w, c: w.scheme.serialise(w.public_key.modulus * 3), "shares a factor"),
        (lambda w, c: c[:-1], "wrong length"),
        (lambda w, c: c + b"\0", "wrong length"),
        (lambda w, c: b"", "wrong length"),
    ],
    ids=["zero", "N^2 or more", "not coprime", "short", "long", "empty"],
)
def test_a_bad_ciphertext_is_a_ciphertext_error(wire: Wire, bad: Callable[[Wire, bytes], bytes], why: str) -> None:
    ciphertexts = wire.ciphertexts()
    ciphertexts[1] = bad(wire, ciphertexts[1])
    assert isinstance(wire.match(wire.signer().sign(wire.draft(wire.claimed(ciphertexts)), "ab")), CiphertextError)


def test_a_randomiser_outside_the_subgroup_is_refused_by_the_key_holders(wire: Wire) -> None:
    N, honest = wire.public_key.modulus, wire.probe()
    c, rest = wire.scheme.parse(honest.ciphertexts[0]), honest.ciphertexts[1:]
    for unit_outside in (c * Integer(pow(7, int(N), int(N * N))) % (N * N), N * N - 2):
        sent = replace(honest, ciphertexts=(wire.scheme.serialise(unit_outside), *rest))
        assert type(wire.match(wire.signer().sign(wire.draft(sent), "ab"))) is KnowledgeProofError


def test_ciphertexts_of_somebody_else_are_refused_by_the_key_holders(wire: Wire) -> None:
    """The device knows by what it re-randomised a captured probe, and not what it was encrypted with."""
    captured, zeros = wire.ciphertexts(), wire.scheme.known_zeros(TOY.lane_ciphertexts)
    fresh = [
        wire.scheme.serialise(wire.scheme.multiply(wire.scheme.parse(c), zero.value))
        for c, zero in zip(captured, zeros, strict=True)
    ]
    stolen = KnownCiphertexts(tuple(fresh), tuple(zero.exponent for zero in zeros), wire.scheme)
    for sent in (stolen, wire.claimed(captured)):
        assert type(wire.match(wire.signer().sign(wire.draft(sent), "ab"))) is KnowledgeProofError


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body.ClearField("knowledge"),
        lambda body: setattr(body, "knowledge", body.knowledge[:-1]),
        lambda body: setattr(body, "knowledge", body.knowledge + b"\0"),
        lambda body: setattr(body, "nonce", bytes(32)),
        lambda body: setattr(body, "threshold", body.threshold - 1),
    ],
    ids=["missing", "short", "long", "of another nonce", "of another threshold"],
)
def test_a_proof_of_knowledge_is_of_this_request(wire: Wire, change: Callable[[request_pb2.RequestBody], None]) -> None:
    request = wire.signer().sign(wire.draft(wire.probe()), "ab")
    body = request_pb2.RequestBody.FromString(request.body)
    change(body)
    request.body = body.SerializeToString(deterministic=True)
    request.signature = wire.key.sign(signed_bytes(request.body))
    refused = wire.match(request)
    assert type(refused) is KnowledgeProofError and str(refused) == str(KnowledgeProofError())


def test_a_wrong_number_of_ciphertexts_is_refused(wire: Wire) -> None:
    for ciphertexts in (wire.ciphertexts()[:-1], wire.ciphertexts() + wire.ciphertexts()[:1]):
        assert isinstance(
            wire.match(wire.signer().sign(wire.draft(wire.claimed(ciphertexts)), "ab")), InvalidInputError
        )


def test_an_unknown_subject_is_an_unknown_subject_error(wire: Wire) -> None:
    refused = wire.match(wire.signer().sign(wire.draft(wire.probe(), "nobody"), "ab"))
    assert isinstance(refused, UnknownSubjectError)


def test_an_expired_and_a_future_request_are_refused(wire: Wire) -> None:
    for now in (lambda: time.time() - 300, lambda: time.time() + 300):
        refused = wire.match(wire.signer(now).sign(wire.draft(wire.probe()), "ab"))
        assert isinstance(refused, RequestExpiredError)


def test_a_replayed_request_is_refused_even_after_a_restart(world: World, wire: Wire) -> None:
    request = wire.signer(lifetime_s=110.0).sign(wire.draft(wire.probe()), "ab")
    assert isinstance(wire.match(request), matcher_pb2.MatchReply)
    assert isinstance(wire.match(request), RequestReplayedError)
    for party in ("matcher-a", "matcher-b", "keyholder-a", "keyholder-b"):
        world.parties.kill(party)
    world.restart()
    assert isinstance(wire.match(request), RequestReplayedError)


def test_a_request_with_a_changed_body_or_signature_is_refused(wire: Wire) -> None:
    request = wire.signer().sign(wire.draft(wire.probe()), "ab")
    body = request_pb2.RequestBody.FromString(request.body)
    body.threshold = 1
    changed = request_pb2.SignedRequest()
    changed.CopyFrom(request)
    changed.body = body.SerializeToString()
    assert isinstance(wire.match(changed), RequestSignatureError)
    changed.CopyFrom(request)
    changed.signature = bytes(64)
    assert isinstance(wire.match(changed), RequestSignatureError)


def test_ciphertexts_or_a_subject_that_were_not_signed_are_refused(wire: Wire) -> None:
    request = wire.signer().sign(wire.draft(wire.probe()), "ab")
    swapped = request_pb2.SignedRequest()
    swapped.CopyFrom(request)
    swapped.ciphertexts[0] = request.ciphertexts[1]
    assert isinstance(wire.match(swapped), RequestSignatureError)
    swapped.CopyFrom(request)
    swapped.subject = "somebody else"
    assert isinstance(wire.match(swapped), RequestSignatureError)


def test_different_requests_to_the_two_matchers_end_without_a_decision(wire: Wire) -> None:
    first, second = (wire.signer().sign(wire.draft(wire.probe()), "ab") for _ in range(2))
    assert isinstance(wire.match(first, second), VeilmatchError)


def test_a_request_under_another_key_is_a_key_mismatch(wire: Wire, tmp_path: Path) -> None:
    hold_ceremony(tmp_path / "other", TOY)
    other = PublicFile.decode((tmp_path / "other" / "public.json").read_bytes()).public_key
    signer = RequestSigner(wire.key, wire.settings.device, "main", other, 60.0, time.time)
    ciphertexts = [Paillier(other).serialise(Paillier(other).encode(Integer(1)))] * TOY.lane_ciphertexts
    assert isinstance(wire.match(signer.sign(wire.draft(wire.claimed(ciphertexts)), "ab")), KeyMismatchError)


def test_another_gallery_is_a_key_mismatch(world: World) -> None:
    with world.client(gallery="elsewhere") as client, pytest.raises(KeyMismatchError):
        client.subjects()


def test_a_device_of_another_installation_is_not_let_in(world: World, tmp_path: Path) -> None:
    hold_ceremony(tmp_path / "other", TOY)
    folder = tmp_path / "other" / "device-1"
    tls = world.settings().tls.model_copy(update={"certificate": folder / "tls.pem", "key": folder / "tls-key.pem"})
    with world.client(tls=tls, timeout_s=3.0) as client, pytest.raises(UnavailableError):
        client.subjects()


def test_a_device_cannot_send_another_devices_request(world: World) -> None:
    second = world.directory / "device-2"
    tls = world.settings().tls.model_copy(update={"certificate": second / "tls.pem", "key": second / "tls-key.pem"})
    with world.client(tls=tls) as client, pytest.raises(PartyRefusedError):
        client.subjects()


@pytest.mark.parametrize("bad", [np.ones(127), np.full(128, np.nan), np.zeros(128), np.full(128, np.inf)])
def test_a_bad_embedding_is_an_embedding_error(world: World, bad: np.ndarray) -> None:
    with world.client() as client:
        for call in (
            lambda e: client.candidates_embedding(e, model="toy"),
            lambda e: client.enrol_embedding("x", e, model="toy"),
        ):
            with pytest.raises(EmbeddingError):
                call(bad)


# -- parties that are down ---------------------------------------------------------------------------


@contextmanager
def down(world: World, party: str) -> Iterator[None]:
    world.parties.kill(party)
    try:
        yield
    finally:
        world.restart()


@pytest.mark.parametrize(("party", "other"), [("a", "bc"), ("b", "ac")])
def test_the_error_says_which_key_holder_is_down_and_which_pair_could_serve(
    world: World, wire: Wire, party: str, other: str
) -> None:
    with down(world, f"keyholder-{party}"):
        refused = wire.match(wire.signer().sign(wire.draft(wire.probe()), "ab"))
        assert isinstance(refused, UnavailableError)
        assert refused.party == f"keyholder-{party}" and refused.alternatives == (other,)
        with world.client() as client:
            # The dealer of the other pair is down: it runs on its stock.
            assert client.verify_embedding("known", np.ones(TOY.dimension), model="toy").pair == other


def test_key_holder_c_may_be_down(world: World, wire: Wire) -> None:
    with down(world, "keyholder-c"), world.client() as client:
        assert client.verify_embedding("known", np.ones(TOY.dimension), model="toy").pair == "ab"


@pytest.mark.parametrize(("party", "other"), [("matcher-a", "bc"), ("matcher-b", "ac")])
def test_a_matcher_that_is_down_is_named_and_another_pair_serves(
    world: World, wire: Wire, party: str, other: str
) -> None:
    with down(world, party):
        with world.client(timeout_s=5.0, pairs=["ab"]) as client, pytest.raises(UnavailableError) as caught:
            client.verify_embedding("known", np.ones(TOY.dimension), model="toy")
        assert caught.value.party == party
        with world.client(timeout_s=5.0) as client:
            assert client.verify_embedding("known", np.ones(TOY.dimension), model="toy").pair == other


def test_no_secret_and_no_score_is_in_any_log(world: World, wire: Wire) -> None:
    with world.client() as client:
        client.verify_embedding("known", np.ones(TOY.dimension), model="toy")
    for party in EVERYBODY:
        text = world.log(party)
        assert "Traceback" not in text
        for line in text.splitlines():
            assert len(line) < 500, "a log line that could hold a ciphertext or a share"
        assert PASSPHRASE not in text


# -- durability and agreement --------------------------------------------------------------------------


def test_an_acknowledged_enrolment_survives_kill_9_of_everything(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    with running(tmp_path / "installation", TOY) as world:
        acknowledged: list[str] = []
        for round_ in range(3):
            faces = unit(rng, 4, TOY.dimension)
            with world.client(timeout_s=20.0) as client:
                for i, face in enumerate(faces):
                    name = f"r{round_}-{i}"
                    client.enrol_embedding(name, face, model="toy")
                    acknowledged.append(name)
                for party in EVERYBODY:
                    world.parties.kill(party)
            world.restart()
            with world.client(timeout_s=20.0) as client:
                assert {s.subject for s in client.subjects()} >= set(acknowledged)
                assert client.verify_embedding(acknowledged[-1], faces[-1], model="toy")
                assert client.candidates_embedding(faces[0], model="toy").subjects == (f"r{round_}-0",)


@pytest.mark.parametrize("victim", ["matcher-a", "matcher-b"])
def test_a_matcher_killed_in_the_middle_of_enrolments_comes_back_in_step(tmp_path: Path, victim: str) -> None:
    """Whatever moment it is killed at, both matchers agree afterwards and nothing acknowledged is lost."""
    rng = np.random.default_rng(4)
    faces = unit(rng, 40, TOY.dimension)
    with running(tmp_path / "installation", TOY) as world:

        async def enrol_until_killed(first: int) -> list[str]:
            done: list[str] = []
            async with AsyncClient(world.settings(timeout_s=20.0)) as client:

                async def kill_soon() -> None:
                    await asyncio.sleep(0.1 + 0.11 * (first % 7) / 7)
                    await asyncio.to_thread(world.parties.kill, victim)

                killing = asyncio.ensure_future(kill_soon())
                try:
                    for i in range(first, first + 10):
                        await client.enrol_embedding(f"p{i}", faces[i], model="toy")
                        done.append(f"p{i}")
                except VeilmatchError:
                    pass
                await killing
            return done

        acknowledged: list[str] = []
        for round_ in range(3):
            acknowledged += asyncio.run(enrol_until_killed(10 * round_))
            world.restart()
            with world.client(timeout_s=20.0) as client:
                client.enrol_embedding(f"after-{round_}", faces[39], model="toy")
                names = {s.subject for s in client.subjects()}
                assert names >= {*acknowledged, f"after-{round_}"}
                client.erase(f"after-{round_}")
                for i, face in enumerate(faces[:30]):
                    if f"p{i}" in names:
                        assert f"p{i}" in client.candidates_embedding(face, model="toy").subjects
                        break


def test_a_matcher_with_an_old_copy_takes_over_what_came_after_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    face = unit(rng, 1, TOY.dimension)[0]
    with running(tmp_path / "installation", TOY) as world:
        data = world.directory / folder_of("matcher-b") / "data"
        with world.client() as client:
            client.enrol_embedding("one", face, model="toy")
            world.parties.stop("matcher-b")
            backup = {p.name: p.read_bytes() for p in data.iterdir() if p.is_file()}
            world.restart()
            for name in ("two", "three"):
                with world.client(pairs=["ab"]) as both:
                    both.enrol_embedding(name, face, model="toy")
        world.parties.stop("matcher-b")
        for p in data.iterdir():
            if p.is_file():
                p.unlink()
        for name, content in backup.items():
            (data / name).write_bytes(content)
        world.restart()
        # Who meets it before would take it for a liar: nobody said that it was restored.
        wait_level(world.directory)
        for pair in ("ab", "bc", "ac"):
            with world.client(pairs=[pair]) as client:
                assert client.verify_embedding("three", face, model="toy").decision
                client.enrol_embedding(f"four-{pair}", face, model="toy")
        with world.client() as client:
            found = {entry.subject for entry in client.subjects()}
        assert found == {"one", "two", "three", "four-ab", "four-bc", "four-ac"}


def test_a_daemon_with_a_wrong_passphrase_or_a_truncated_key_file_does_not_start(tmp_path: Path) -> None:
    directory = tmp_path / "installation"
    hold_ceremony(directory, TOY)
    config = str(directory / folder_of("keyholder-a") / "keyholder.toml")
    wrong = veilmatch("keyholder", "--config", config, VEILMATCH_PASSPHRASE="another")
    assert wrong.returncode == 7 and "passphrase" in wrong.stderr
    key_file = directory / folder_of("keyholder-a") / "share.key"
    key_file.write_bytes(key_file.read_bytes()[:40])
    truncated = veilmatch("keyholder", "--config", config)
    assert truncated.returncode == 7 and "truncated" in truncated.stderr


def test_daemons_stop_gracefully_and_report_their_health(tmp_path: Path) -> None:
    directory = tmp_path / "installation"
    hold_ceremony(directory, TOY)
    with supervised(directory, ENVIRONMENT) as parties:
        parties.start()
        parties.wait_ready()
        assert set(parties.stop().values()) == {0}


def test_a_party_without_a_certificate_is_not_even_heard(world: World) -> None:
    address = world.settings().matchers["a"]
    with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError):
        channel.unary_unary("/veilmatch.v1.Matcher/Subjects")(b"", timeout=3.0)
