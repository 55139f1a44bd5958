"""Valid inputs of every decoder, made by the code that makes them in earnest."""

from __future__ import annotations

import base64
import io
import json
from functools import cache

from tests.client import test_card, test_receipt
from tests.installation import making
from tests.installation.making import ceremony
from tests.transport.signed import DEVICE, KEYS, NOW_MS, OPERATIONS, body, signed
from tests.vectors.generate import load
from veilmatch.client.operations.bulk import write_frame
from veilmatch.common.speaking import our_hello
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.consent import Consent
from veilmatch.crypto.digests import digest
from veilmatch.crypto.encryption.knowledge import KnownCiphertexts
from veilmatch.crypto.encryption.paillier import Paillier
from veilmatch.crypto.errors import (
    BudgetExceededError,
    CiphertextError,
    GalleryMismatchError,
    UnavailableError,
    VeilmatchError,
)
from veilmatch.crypto.keys.parties import PARTIES
from veilmatch.crypto.keys.recipient_certificate import ID_BYTES
from veilmatch.crypto.keys.revocation_list import RevocationList, Statement
from veilmatch.crypto.pair.messages import (
    Agreement,
    Allocation,
    Coins,
    Envelope,
    GateLayer,
    Hello,
    LastMask,
    Message,
    Openings,
    SafetyProof,
)
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.crypto.secret_access import SECRET_ACCESS
from veilmatch.crypto.terms import Terms
from veilmatch.protos.v1 import keyholder_pb2, matcher_pb2, request_pb2
from veilmatch.server.ceremony.introduction import Introduction
from veilmatch.server.ceremony.record import CeremonyRecord
from veilmatch.server.installation import sealed
from veilmatch.server.installation.authority import Authority
from veilmatch.server.installation.lowest import Lowest
from veilmatch.server.keyholder.audit.chain import START, encode
from veilmatch.server.keyholder.wire import to_wire
from veilmatch.server.recovery.record import RecoveryRecord

_SESSION = digest("a session of the seeds")
MESSAGES: tuple[Message, ...] = (
    Hello(
        bytes(96),
        bytes(range(32)),
        bytes(range(32, 64)),
        0,
        (1 << 64) - 1,
        77,
        5,
        0,
        (1 << 64) - 1,
        bytes(32),
        bytes(32),
        b"\1",
    ),
    Agreement(bytes(32), bytes(96)),
    Allocation("triples", 256),
    Allocation("bits", (1 << 64) - 1),
    Allocation("products", 0),
    Openings(bytes(range(128))),
    LastMask(b""),
    LastMask(bytes(range(16))),
    GateLayer(bytes(40)),
    Coins(bytes(range(32))),
    SafetyProof(bytes(range(64))),
)


@cache
def pair_messages() -> list[bytes]:
    envelopes = [Envelope(_SESSION, number, message) for number, message in enumerate(MESSAGES)]
    rendezvous = keyholder_pb2.PairMessage(rendezvous=keyholder_pb2.PairRendezvous(subject_matter=[bytes(32)]))
    return [message.SerializeToString() for message in (*map(to_wire, envelopes), rendezvous)]


@cache
def pair_pieces() -> list[bytes]:
    whole = pair_messages()[1]
    piece = keyholder_pb2.PairMessage(piece=keyholder_pb2.PairPiece(data=whole))
    more = keyholder_pb2.PairMessage(piece=keyholder_pb2.PairPiece(data=whole, more=True))
    streams = [[whole], [piece.SerializeToString()] * 2, [more.SerializeToString(), whole]]
    return [b"".join(len(one).to_bytes(2, "big") + one for one in stream) for stream in streams]


@cache
def pair_frames() -> list[bytes]:
    said = [keyholder_pb2.PairMessage.FromString(data) for data in pair_messages()]
    opens = [keyholder_pb2.PairFrame(session=number, message=said[-1]) for number in (1, 2)]
    ends = keyholder_pb2.PairMessage(ended=b'{"code": "protocol"}')
    rest = [
        *(keyholder_pb2.PairFrame(session=1, message=message) for message in said[:3]),
        keyholder_pb2.PairFrame(session=2, room=1 << 20),
        keyholder_pb2.PairFrame(session=1, message=ends, over=True),
        keyholder_pb2.PairFrame(session=2, over=True),
    ]
    streams = [[opens], [opens[:1], opens[1:] + rest[:3], rest[3:]]]
    found = []
    for stream in streams:
        messages = [keyholder_pb2.PairFrames(frame=frames).SerializeToString() for frames in stream]
        found.append(b"".join(len(one).to_bytes(2, "big") + one for one in messages))
    return found


@cache
def bodies() -> list[bytes]:
    found = [body(operation).SerializeToString() for operation in OPERATIONS]
    edges = body("verify", threshold=(1 << 31) - 1, issued_at_ms=(1 << 63) - 1, expires_at_ms=(1 << 63) - 1)
    liveness = request_pb2.LivenessVerdict(detector=bytes(range(32)), checked_at_ms=NOW_MS - 1000)
    later = [
        body("verify", views=2),
        body("known", views=4, liveness=liveness),
        body("present", views=3, recipient=bytes(ID_BYTES), challenge=b"x" * 64),
        body("enrol", unless_known=True, threshold=1, dated=True),
        body("enrol", unless_known=True, threshold=5, views=4, liveness=liveness),
        body("issue", card_expires_s=1 << 53, consent_digest=bytes(32)),
    ]
    return [*found, edges.SerializeToString(), *(said.SerializeToString() for said in later)]


@cache
def signed_requests() -> list[bytes]:
    return [signed(said).SerializeToString() for said in bodies()]


@cache
def public_files() -> list[bytes]:
    return [making.public_file(number).encode() for number in (0, 1)]


@cache
def introductions() -> list[bytes]:
    found = []
    for party, host in zip(PARTIES, ("a.example", "127.0.0.1", "::1"), strict=True):
        keys = making.certifiers()[party].public_bytes, making.organisation_keys()[party].public_bytes
        found.append(Introduction(party, host, 7400, Authority.fresh(organisation=party).certificate, *keys).encode())
    return found


@cache
def ceremony_records() -> list[bytes]:
    found = []
    for number in (0, 1):
        public = making.public_file(number)
        record = CeremonyRecord.of(digest("session", number), digest("told"), digest("agreed"), public)
        for party, key in making.organisation_keys().items():
            record = record.with_signature(party, record.signed(key), public)
        found.append(record.encode())
    return found


@cache
def recovery_records() -> list[bytes]:
    found = []
    for lost in ("c", None):
        public = making.public_file()
        record = RecoveryRecord.of(digest("session"), digest("told"), digest("agreed"), public, 3, lost)
        for party, key in making.organisation_keys().items():
            record = record.with_signature(party, record.signed(key), public)
        found.append(record.encode())
    return found


@cache
def device_certificates() -> list[bytes]:
    made = [making.certificate(DEVICE, KEYS[DEVICE], signers) for signers in ("", "a", "ab", "abc")]
    narrow = making.certificate(
        DEVICE, KEYS[DEVICE], rights=("verify",), galleries=("main", "\u00e9tage"), days=1, lowest=Lowest()
    )
    bounded = making.certificate(DEVICE, KEYS[DEVICE], lowest=Lowest({"identify": 1.0, "verify": 0.5}, others=0))
    enrolling = making.certificate(DEVICE, KEYS[DEVICE], rights=("enrol",))
    return [certificate.encode() for certificate in (*made, narrow, bounded, enrolling)]


@cache
def recipient_certificates() -> list[bytes]:
    file = load("recipients")
    return [case["file"].encode() for case in file["certificates"]]


@cache
def revocation_lists() -> list[bytes]:
    said = Statement(bytes(16), 3, (b"1" * 32, b"2" * 32))
    both = RevocationList(said, (("a", b"a" * 64), ("c", b"c" * 64)))
    return [both.encode(), RevocationList(Statement(bytes(16), 1, (b"2" * 32,)), (("b", b"b" * 64),)).encode()]


@cache
def sealed_answers() -> list[bytes]:
    cases = [json.dumps(case["answer"], ensure_ascii=False) + "\n" for case in load("recipients")["answers"]]
    return [case.encode() for case in (cases[0], cases[4], cases[7])]


@cache
def statements() -> list[bytes]:
    tokens = json.loads(sealed_answers()[0])["statements"]
    return [base64.urlsafe_b64decode(token.split(".")[1] + "==") for token in tokens]


@cache
def key_holder_keys() -> list[bytes]:
    public_key = ceremony().public_key
    return [key.to_secret_bytes(public_key, SECRET_ACCESS) for key in ceremony().keys]


@cache
def sealed_headers() -> list[bytes]:
    public = making.public_file()
    return [
        sealed._Header(
            key.party.encode(), key.key_id, key.epoch, cost, bytes(16), bytes(12), public.installation
        ).encode()
        for key in ceremony().keys
        for cost in (making.CHEAP, sealed.DEFAULT_COST)
    ]


def audit_chain() -> list[bytes]:
    """Lines that follow each other."""
    lines, prev = [], START
    session = {"session": _SESSION.hex(), "pair": "ab", "device": "kiosk-1", "gallery": "main", "threshold": 5}
    for number, fields in enumerate(
        (
            {"event": "open", "at": "2026-01-31T12:00:00.000Z", "party": "keyholder-a", "key_id": "ab" * 16},
            {"event": "session", "at": "2026-01-31T12:00:01.000Z", **session},
            {"event": "failed", "at": "2026-01-31T12:00:02.000Z", "code": "protocol", **session},
            {"event": "refused", "at": "2026-01-31T12:00:03.000Z", "code": "ciphertext", "unlisted": 3},
        )
    ):
        line, prev = encode(fields, number, prev)
        lines.append(line)
    return lines


@cache
def audit_lines() -> list[bytes]:
    deep = b'{"hash":"%s","prev":"%s","seq":0,"x":%s%s}' % (b"0" * 64, b"0" * 64, b"[" * 985, b"]" * 985)
    return [*audit_chain(), deep, encode({"x": [1.5, None, True, "\ud800"]}, 1 << 63, START)[0]]


@cache
def hellos() -> list[bytes]:
    return [our_hello().write().encode(), b"12 11 3.4.0rc1+local a-feature another", b"1 1 0"]


def errors() -> list[bytes]:
    found: list[VeilmatchError] = [
        BudgetExceededError("too much", budget="device_bits", limit=5, retry_after_s=1.5, got=7),
        CiphertextError("not well-formed", got=5, expected=6),
        GalleryMismatchError("two galleries"),
        UnavailableError("gone", party="keyholder-c", needed=1, available=0, alternatives=("ab", "bc")),
    ]
    odd = {"code": "unavailable", "message": "\ud800", "alternatives": {"ab": 1}, "party": [], "got": {"x": [None]}}
    numbers = {"code": "budget_exceeded", "limit": 1 << 53, "retry_after_s": 1e300, "budget": "\x7f"}
    return [json.dumps(fields).encode() for fields in (*(error.fields() for error in found), odd, numbers)]


@cache
def two_replies() -> list[bytes]:
    state = {"sequence": 7, "chain": bytes(32)}
    match = {"session_id": _SESSION, **state}
    known = matcher_pb2.MatchReply(count=2, share=b"\x01", valid_share=True, **match)
    told = matcher_pb2.MatchReply(count=2, share=b"\x03", valid_share=False, labels=["ada", "bob"], **match)
    changed = matcher_pb2.MatchReply(count=2, share=b"\x01", valid_share=True, **match)
    changed.difference.slots.extend([0, 3])
    changed.difference.subjects.extend(["", "bob"])
    spread = matcher_pb2.MatchReply(count=2, share=b"\x03", labels=["", "bob", "", "bob"], **match)
    one = matcher_pb2.MatchReply(count=1, share=b"\x01", valid_share=True, **match)
    other = matcher_pb2.MatchReply(count=1, share=b"\x00", valid_share=False, **match)
    mutated = matcher_pb2.MutateReply(templates=1, **state)
    listed = matcher_pb2.SubjectsReply(**state)
    listed.subjects.add(subject="ada", templates=2)
    detailed = [matcher_pb2.SubjectsReply(**state) for _ in range(2)]
    for day, reply in enumerate(detailed, start=20_000):
        for slot, said in enumerate(terms()):
            reply.templates.add(subject="ada", slot=slot, sequence=3, record_bytes=256, terms=said, asked_day=day)
    met = matcher_pb2.MutateReply(templates=1, valid_share=True, known_share=True, **state)
    issued = [matcher_pb2.MutateReply(valid_share=share, **state) for share in (True, False)]
    for one, signature in zip(issued, test_card.CARD.signed.signatures, strict=True):
        statement = test_card.CARD.signed.statement
        one.card.statement, one.card.serial, one.card.signature = statement.encode(), statement.serial, signature
    due = matcher_pb2.MutateReply(templates=32, left=5, **state)
    enrolled = matcher_pb2.MutateReply(templates=1, valid_share=True, **state)
    rotated = [
        matcher_pb2.RotateReply(converted=5, total=9, by_device=["ada", "bob", "bob"], valid_share=share, **state)
        for share in (b"\x05", b"\x02")
    ]
    done = matcher_pb2.RotateReply(converted=9, total=9, done=True, **state)
    pairs = (
        (known, told), (told, told), (changed, spread), (one, other), (mutated, mutated), (enrolled, mutated),
        (listed, listed), (rotated[0], rotated[1]), (done, done), (detailed[0], detailed[1]), (due, due),
        (met, enrolled), (issued[0], issued[1]),
    )  # fmt: skip
    found = []
    for pair in pairs:
        a, b = (reply.SerializeToString() for reply in pair)
        found.append(len(a).to_bytes(2, "big") + a + b)
    return found


@cache
def consents() -> list[bytes]:
    given = Consent("7f3a"), Consent("Ä/7", "v3", 1_801_353_600), Consent("x" * 128, "\N{GRINNING FACE}" * 32, 1 << 53)
    return [consent.encode() for consent in given]


@cache
def terms() -> list[bytes]:
    given = [None, *map(Consent.decode, consents())]
    return [b"", Terms((1 << 53) - 1).encode(), *(Terms(1_760_000_000, consent).encode() for consent in given)]


@cache
def receipts() -> list[bytes]:
    whole = [test_receipt.erased(), test_receipt.erased("bea", b"sixteen bytes ok")]
    return [receipt.encode() for receipt in (*whole, whole[0].without_salt())]


@cache
def cards() -> list[bytes]:
    tiny = test_card.card(ParameterSet.from_name("UNSAFE-d8-s60-c23-n512"), "Zo\u00eb", gallery="\u00e9tage")
    edges = test_card.card(tiny.signed.statement.parameters, issued_s=0, expires_s=1 << 53)
    under = test_card.card(tiny.signed.statement.parameters, under=test_card.UNDER)
    return [test_card.CARD.encode(), under.encode(), tiny.encode(), tiny.text.encode(), edges.encode()]


@cache
def frames() -> list[bytes]:
    sink = io.BytesIO()
    for frame in (b"", b"x", bytes(100)):
        write_frame(sink, frame)
    lengths = (1 << 64) - 1, 1 << 63, 1 << 62, 1 << 40, 1 << 27
    return [sink.getvalue(), *(length.to_bytes(8, "big") + b"short" for length in lengths)]


@cache
def ciphertexts() -> list[bytes]:
    scheme = Paillier(ceremony().public_key)
    N, size = int(scheme.modulus), scheme.parameters.ciphertext_bytes
    edges = (0, 1, N - 1, N, N + 1, N * N - 1, N * N, (1 << (8 * size)) - 1)
    honest = [scheme.serialise(c) for c in scheme.encrypt_zeros(2)]
    return [*honest, *(value.to_bytes(size, "big") for value in edges)]


@cache
def known_ciphertexts() -> KnownCiphertexts:
    scheme = Paillier(ceremony().public_key)
    return KnownCiphertexts.encrypt(scheme, [Integer(3)] * scheme.parameters.lane_ciphertexts)


@cache
def knowledge_proofs() -> list[bytes]:
    """Proofs of what `known_ciphertexts` hold, in the context of 32 zeros; then the ciphertexts."""
    known = known_ciphertexts()
    return [known.prove(bytes(32)) + b"".join(known.ciphertexts) for _ in range(2)]


@cache
def parameter_sets() -> list[bytes]:
    return [
        b"d128-s126-c38-l46-n3072",
        b"d128-s126-c38-n3072",
        b"d512-s120-c18-n3072",
        b"UNSAFE-d12-s8-c3-n512",
        b"UNSAFE-d4096-s1024-c1023-n512",
    ]
