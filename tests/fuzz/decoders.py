"""Every decoder of bytes from outside, each with valid inputs and with what has to hold for any input.

A check decodes its input and returns if that ends as it may: in a value that encodes to the same again, or in a
typed error. Anything else leaves it as an exception. Both hypothesis (test_decoders.py) and the coverage-guided
target (guided.py) run these.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache

import grpc
from google.protobuf.message import DecodeError

from tests.client import test_receipt
from tests.fuzz import seeds
from tests.installation import making
from tests.installation.making import PARAMETERS, ceremony
from tests.transport.signed import OPERATIONS, body, checker, signed
from veilmatch.client.card import Card
from veilmatch.client.operations.bulk import read_frame, write_frame
from veilmatch.client.operations.listing import entries
from veilmatch.client.receipt import ErasureReceipt
from veilmatch.client.wire.agreement import (
    Opened,
    agreed_mutation,
    agreed_rotation,
    agreed_subjects,
    agreed_templates,
    best_subject,
    open_candidates,
    open_identification,
    open_known,
    open_verification,
    opened_card,
    opened_enrolment,
)
from veilmatch.client.wire.labels import Labels
from veilmatch.client.wire.statuses import read_error
from veilmatch.crypto.answer_share import SealedShare
from veilmatch.crypto.card import CONTEXT, SignedCard
from veilmatch.crypto.claims import ERROR_KEY, NOBODY
from veilmatch.crypto.consent import Consent
from veilmatch.crypto.encryption import knowledge
from veilmatch.crypto.encryption.paillier import Paillier
from veilmatch.crypto.encryption.public_key_format import PublicFile
from veilmatch.crypto.errors import (
    CardError,
    DeviceCertificateError,
    IntegrityError,
    InvalidInputError,
    KeyFileError,
    KeyMismatchError,
    KnowledgeProofError,
    ProtocolError,
    ReceiptError,
    RecipientCertificateError,
    RevocationListError,
    StatementError,
    VeilmatchError,
)
from veilmatch.crypto.keys.device_certificate import DeviceCertificate
from veilmatch.crypto.keys.parties import PAIRS
from veilmatch.crypto.keys.recipient_certificate import RecipientCertificate
from veilmatch.crypto.keys.revocation_list import RevocationList
from veilmatch.crypto.keys.shares import KeyHolderKey
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.crypto.sealed_answer import SealedAnswer
from veilmatch.crypto.secret_access import SECRET_ACCESS
from veilmatch.crypto.terms import Terms, require_lasting
from veilmatch.crypto.versions import Hello
from veilmatch.protos.v1 import keyholder_pb2, matcher_pb2, request_pb2
from veilmatch.server.admission.certification import certified_statement
from veilmatch.server.ceremony.introduction import Introduction
from veilmatch.server.ceremony.record import CeremonyRecord
from veilmatch.server.config import RetentionSettings
from veilmatch.server.ground.organisation import verify
from veilmatch.server.installation import sealed
from veilmatch.server.keyholder.audit.chain import decode, encode
from veilmatch.server.keyholder.wire import Joined, from_wire, to_wire, turn_from_wire
from veilmatch.server.matcher.gallery.disk.reading import Detail
from veilmatch.server.matcher.retention.rules import due
from veilmatch.server.recovery.record import RecoveryRecord
from veilmatch.server.transport.limits import WINDOW_BYTES
from veilmatch.server.transport.standing.kinds import PAIR
from veilmatch.server.transport.standing.link import StandingLink
from veilmatch.server.transport.standing.strand import OtherEnd, Strand
from veilmatch.server.transport.status import from_metadata


@dataclass(frozen=True)
class Decoder:
    """Valid inputs, and what has to hold for any input."""

    seeds: Callable[[], list[bytes]]
    check: Callable[[bytes], None]


def pair_message(data: bytes) -> None:
    try:
        wire = keyholder_pb2.PairMessage.FromString(data)
    except DecodeError:
        return  # gRPC refuses it before a servicer sees it
    try:
        envelope = from_wire(wire)
    except ProtocolError:
        return
    assert from_wire(keyholder_pb2.PairMessage.FromString(to_wire(envelope).SerializeToString())) == envelope


def pair_pieces(data: bytes) -> None:
    """A stream of messages between key holders, each behind its length in two bytes: turns, some of them in pieces."""
    joined, most = Joined(1 << 12), 1 << 12
    while data:
        length, data = int.from_bytes(data[:2], "big"), data[2:]
        try:
            turn = joined.take(keyholder_pb2.PairMessage.FromString(data[:length]))
        except (DecodeError, ProtocolError):
            return
        if turn is not None:
            assert turn.ByteSize() <= max(most, length)
            joined = Joined(most)
            with suppress(ProtocolError):
                turn_from_wire(turn)
        data = data[length:]


def pair_frames(data: bytes) -> None:
    """What a peer says on a link, each message behind its length in two bytes: little is kept of what nobody takes."""
    offered: list[Strand] = []
    other = OtherEnd("keyholder-a", ("bc",), NOBODY)
    link = StandingLink(PAIR, "keyholder-b", other, offered.append)
    while data:
        length, data = int.from_bytes(data[:2], "big"), data[2:]
        try:
            link._take(keyholder_pb2.PairFrames.FromString(data[:length]))
        except (DecodeError, ProtocolError):
            return
        data = data[length:]
    assert [strand.number for strand in offered] == list(range(1, len(offered) + 1))
    for strand in offered:
        assert strand._held_bytes <= WINDOW_BYTES
        with suppress(VeilmatchError):
            while (message := strand.at_hand()) is not None:
                assert not message.ended


def signed_request(data: bytes) -> None:
    try:
        request = request_pb2.SignedRequest.FromString(data)
    except DecodeError:
        return
    try:
        checked = _checker().check(request, *OPERATIONS)
    except VeilmatchError:
        return
    assert checked.pair in PAIRS and checked.device == request_pb2.RequestBody.FromString(request.body).device


def signed_body(data: bytes) -> None:
    """A device that is known signs whatever it likes."""
    try:
        checked = _checker().check(signed(data), *OPERATIONS)
    except VeilmatchError:
        return
    said = request_pb2.RequestBody.FromString(data)
    again = body(checked.operation, threshold=said.threshold, nonce=said.nonce, token=said.token)
    assert (said.key_id, said.parameter_set, said.operation) == (again.key_id, again.parameter_set, again.operation)
    assert said.pair in PAIRS and 0 <= said.threshold <= PARAMETERS.threshold_max


def public_file(data: bytes) -> None:
    try:
        found = PublicFile.decode(data)
    except VeilmatchError:
        return
    assert found.encode() == data


def introduction(data: bytes) -> None:
    try:
        found = Introduction.decode(data)
    except KeyFileError:
        return
    assert found.encode() == data and len(found.fingerprint.split()) == 8


def ceremony_record(data: bytes) -> None:
    try:
        found = CeremonyRecord.decode(data)
    except KeyFileError:
        return
    assert found.encode() == data
    with suppress(IntegrityError):
        found.require_of(making.public_file())


def recovery_record(data: bytes) -> None:
    try:
        found = RecoveryRecord.decode(data)
    except KeyFileError:
        return
    assert found.encode() == data
    with suppress(IntegrityError):
        found.require_of(making.public_file())


def device_certificate(data: bytes) -> None:
    try:
        found = DeviceCertificate.decode(data)
    except DeviceCertificateError:
        return
    assert found.encode() == data
    try:
        said = certified_statement(found, making.public_file())
    except DeviceCertificateError:
        return
    assert said in [DeviceCertificate.decode(made).statement for made in seeds.device_certificates()]


def revocation_list(data: bytes) -> None:
    try:
        found = RevocationList.decode(data)
    except RevocationListError:
        return
    assert found.encode() == data


def recipient_certificate(data: bytes) -> None:
    try:
        found = RecipientCertificate.decode(data)
    except RecipientCertificateError:
        return
    assert found.encode() == data


def statement(data: bytes) -> None:
    try:
        found = SealedShare.decode(data)
    except StatementError:
        return
    assert found.encode() == data and len(found.about.info()) == len(SealedShare.decode(data).about.info())


def sealed_answer(data: bytes) -> None:
    try:
        found = SealedAnswer.decode(data)
    except StatementError:
        return
    # One of several texts of the same: what it holds is verified, and not the text.
    assert SealedAnswer.decode(found.encode()) == found


def key_holder_key(data: bytes) -> None:
    public_key = ceremony().public_key
    try:
        key = KeyHolderKey.from_secret_bytes(data, public_key)
    except VeilmatchError:
        return
    assert key.to_secret_bytes(public_key, SECRET_ACCESS) == data


def sealed_header(data: bytes) -> None:
    """The part of a sealed key file that is read before the passphrase is used; always of one size."""
    data = data[: sealed._HEADER.size].ljust(sealed._HEADER.size, b"\0")
    try:
        header = sealed._Header.decode(data)
    except KeyFileError:
        return
    assert header.encode() == data


def audit_line(data: bytes) -> None:
    try:
        entry = decode(data)
    except ValueError:
        return  # what is wrong with the line, for whoever checks the log
    line, stated = encode(entry.fields, entry.number, entry.prev)
    assert stated == entry.hash and line.rstrip(b"\n") == data.rstrip(b"\n")


def error_metadata(data: bytes) -> None:
    """What another server says of its error, at a server and at a device."""
    for error in (
        from_metadata(grpc.StatusCode.INTERNAL, ((ERROR_KEY, data),), "keyholder-b"),
        read_error(data, "matcher-a"),
    ):
        assert isinstance(error, VeilmatchError)
        str(error).encode()  # it is logged and passed on
        again = VeilmatchError.from_fields(json.loads(json.dumps(error.fields())))
        assert type(again) is type(error) and str(again) == str(error)


def hello(data: bytes) -> None:
    """What a party says that it speaks."""
    try:
        found = Hello.read(data.decode("latin-1"))
    except ProtocolError:
        return
    assert 1 <= found.oldest <= found.newest and Hello.read(found.write()) == found


def two_replies(data: bytes) -> None:
    """The answers of both matchers at the device; a length of two bytes tells where the second one begins."""
    length = int.from_bytes(data[:2], "big")
    parts = data[2 : 2 + length], data[2 + length :]
    known = Labels(bytes(32), ("ada", "bob"), 7)
    for kind, agree in (
        (matcher_pb2.MatchReply, open_verification),
        (matcher_pb2.MatchReply, lambda a, b, pair: open_candidates(a, b, pair, known)),
        (matcher_pb2.MatchReply, lambda a, b, pair: _identified(open_identification(a, b, pair, known))),
        (matcher_pb2.MatchReply, open_known),
        (matcher_pb2.MutateReply, agreed_mutation),
        (matcher_pb2.MutateReply, opened_enrolment),
        (matcher_pb2.MutateReply, opened_card),
        (matcher_pb2.RotateReply, agreed_rotation),
        (matcher_pb2.SubjectsReply, agreed_subjects),
        (matcher_pb2.SubjectsReply, lambda a, b, pair: entries(agreed_templates(a, b, pair), pair)),
    ):
        try:
            a, b = (kind.FromString(part) for part in parts)
        except DecodeError:
            continue
        try:
            agreed = agree(a, b, "ac")  # type: ignore[operator]
        except VeilmatchError:
            continue
        if kind is matcher_pb2.MatchReply:
            assert len(agreed.bits) == a.count == b.count and set(agreed.bits.tolist()) <= {0, 1}
            assert a.session_id == b.session_id and a.sequence == b.sequence
        if kind is matcher_pb2.RotateReply:
            reply, empty = agreed
            assert reply == a and set(empty) <= set(a.by_device) == set(b.by_device)


def _identified(opened: Opened) -> Opened:
    assert best_subject(opened) in (None, *opened.labels.subjects)
    return opened


def consent(data: bytes) -> None:
    """What a device says that somebody has agreed to, at a matcher."""
    try:
        found = Consent.decode(data)
    except InvalidInputError:
        return
    assert found.encode() == data and found.has_ended(1 << 60) == bool(found.expires_s)
    with suppress(InvalidInputError):
        require_lasting(data, 1_760_000_000)


def terms(data: bytes) -> None:
    """What matchers say that a template is kept under, at a device and at a matcher that catches up."""
    try:
        found = Terms.decode(data)
    except IntegrityError:
        return
    assert data == (b"" if found is None else found.encode())
    detail = Detail("ada", 0, 0, 1, False, data, 20_000)
    assert due([detail], RetentionSettings(max_days=1), 1e12).undated == (found is None)


def card(data: bytes) -> None:
    """What somebody shows at a door, as bytes or as text, and what servers are sent of it: nobody makes another good
    one of those that are known here."""
    try:
        found = Card.decode(data)
    except CardError:
        return
    assert data == found.encode() or b"BEGIN VEILMATCH CARD" in data
    assert SignedCard.decode(found.signed.encode()) == found.signed
    public = making.public_file()
    with suppress(CardError):
        found.signed.check(lambda party, message, signature: verify(public.signer(party), CONTEXT, message, signature))
        assert found.signed in {Card.decode(one).signed for one in seeds.cards()}
    with suppress(CardError, KeyMismatchError):
        found.check(public)


def receipt(data: bytes) -> None:
    """The receipt of an erasure, from whoever shows it: nobody makes one that is not one of those that are known."""
    try:
        found = ErasureReceipt.decode(data)
    except ReceiptError:
        return
    assert found.encode() == data
    for subject in (None, "ada"):
        try:
            found.check(test_receipt.PUBLIC, subject)
        except (ReceiptError, KeyMismatchError):
            continue
        assert found.without_salt().encode() in [
            ErasureReceipt.decode(made).without_salt().encode() for made in seeds.receipts()
        ]
        assert found.templates == 2 and found.device == "door-1" and found.erased_at.tzinfo is not None


def bulk_frame(data: bytes) -> None:
    source, copy = io.BytesIO(data), io.BytesIO()
    try:
        while (frame := read_frame(source)) is not None:
            write_frame(copy, frame)
    except EOFError:
        assert data.startswith(copy.getvalue())
        return
    assert copy.getvalue() == data


def ciphertext(data: bytes) -> None:
    scheme = _scheme()
    try:
        found = scheme.parse_many([data])
    except VeilmatchError:
        return
    assert scheme.serialise(found[0]) == data


def knowledge_proof(data: bytes) -> None:
    """A proof and ciphertexts; nobody finds another proof of the ones that are known here."""
    key, known = ceremony().public_key, seeds.known_ciphertexts()
    proof, joined = data[: knowledge.proof_bytes(key)], data[knowledge.proof_bytes(key) :]
    size = key.parameters.ciphertext_bytes
    ciphertexts = [joined[i : i + size] for i in range(0, len(joined), size)]
    for sent in (ciphertexts, known.ciphertexts):
        try:
            knowledge.check(key, bytes(32), sent, proof)
        except KnowledgeProofError:
            continue
        assert any(made.startswith(proof) for made in seeds.knowledge_proofs()) and tuple(sent) == known.ciphertexts


def parameter_set(data: bytes) -> None:
    name = data.decode("utf-8", "replace")
    try:
        found = ParameterSet.from_name(name)
    except VeilmatchError:
        return
    assert found.name == name


_checker = cache(checker)


@cache
def _scheme() -> Paillier:
    return Paillier(ceremony().public_key)


DECODERS: dict[str, Decoder] = {
    "pair message": Decoder(seeds.pair_messages, pair_message),
    "pieces of a turn": Decoder(seeds.pair_pieces, pair_pieces),
    "frames of a link": Decoder(seeds.pair_frames, pair_frames),
    "signed request": Decoder(seeds.signed_requests, signed_request),
    "signed body": Decoder(seeds.bodies, signed_body),
    "public file": Decoder(seeds.public_files, public_file),
    "introduction": Decoder(seeds.introductions, introduction),
    "record of a ceremony": Decoder(seeds.ceremony_records, ceremony_record),
    "record of a recovery": Decoder(seeds.recovery_records, recovery_record),
    "device certificate": Decoder(seeds.device_certificates, device_certificate),
    "revocation list": Decoder(seeds.revocation_lists, revocation_list),
    "recipient certificate": Decoder(seeds.recipient_certificates, recipient_certificate),
    "statement": Decoder(seeds.statements, statement),
    "sealed answer": Decoder(seeds.sealed_answers, sealed_answer),
    "key holder's key": Decoder(seeds.key_holder_keys, key_holder_key),
    "sealed header": Decoder(seeds.sealed_headers, sealed_header),
    "audit line": Decoder(seeds.audit_lines, audit_line),
    "error metadata": Decoder(seeds.errors, error_metadata),
    "hello": Decoder(seeds.hellos, hello),
    "two replies": Decoder(seeds.two_replies, two_replies),
    "consent": Decoder(seeds.consents, consent),
    "terms": Decoder(seeds.terms, terms),
    "card": Decoder(seeds.cards, card),
    "receipt": Decoder(seeds.receipts, receipt),
    "bulk frame": Decoder(seeds.frames, bulk_frame),
    "ciphertext": Decoder(seeds.ciphertexts, ciphertext),
    "proof of knowledge": Decoder(seeds.knowledge_proofs, knowledge_proof),
    "parameter set": Decoder(seeds.parameter_sets, parameter_set),
}
