"""Valid inputs of every decoder, made by the code that makes them in earnest."""

from __future__ import annotations

import base64
import io
import json
from functools import cache

from tests.installation import making
from tests.installation.making import ceremony
from tests.transport.signed import DEVICE, KEYS, OPERATIONS, body, signed
from tests.vectors.generate import load
from veilmatch.client.operations.bulk import write_frame
from veilmatch.crypto.arithmetic import Integer
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
from veilmatch.crypto.secret_access import SECRET_ACCESS
from veilmatch.protos.v1 import keyholder_pb2, matcher_pb2
from veilmatch.server.installation import sealed
from veilmatch.server.installation.lowest import Lowest
from veilmatch.server.keyholder.audit.chain import START, encode
from veilmatch.server.keyholder.wire import to_wire

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
        bytes(96),
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
    rendezvous = keyholder_pb2.PairMessage(rendezvous=keyholder_pb2.PairRendezvous(subject_matter=bytes(32)))
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
    return [*found, edges.SerializeToString()]


@cache
def signed_requests() -> list[bytes]:
    return [signed(said).SerializeToString() for said in bodies()]


@cache
def public_files() -> list[bytes]:
    return [making.public_file(number).encode() for number in (0, 1)]


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
    enrolled = matcher_pb2.MutateReply(templates=1, valid_share=True, **state)
    rotated = [
        matcher_pb2.RotateReply(converted=5, total=9, by_device=["ada", "bob", "bob"], valid_share=share, **state)
        for share in (b"\x05", b"\x02")
    ]
    done = matcher_pb2.RotateReply(converted=9, total=9, done=True, **state)
    pairs = (
        (known, told), (told, told), (changed, spread), (one, other), (mutated, mutated), (enrolled, mutated),
        (listed, listed), (rotated[0], rotated[1]), (done, done),
    )  # fmt: skip
    found = []
    for pair in pairs:
        a, b = (reply.SerializeToString() for reply in pair)
        found.append(len(a).to_bytes(2, "big") + a + b)
    return found


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
